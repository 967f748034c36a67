package node

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

// crashMachine makes the mark that the store leaves beside its environment look as if it had been written in
// another boot: what the node then finds is what a crash of the machine leaves, but for the damage.
func crashMachine(t *testing.T, n *cluster.Node) {
	t.Helper()
	path := filepath.Join(n.StoreDir(), "RUN")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(text))
	if len(words) != 7 || words[1] != "running" {
		t.Fatalf("after kill -9 the mark says %q", text)
	}
	words[4] = "00000000-0000-0000-0000-000000000000,"
	if err := os.WriteFile(path, []byte(strings.Join(words, " ")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nothing of the old environment may be read.
	damaged := filepath.Join(n.StoreDir(), words[0], "data.mdb")
	if err := os.WriteFile(damaged, []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAMachinesCrashLosesNothing(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	for round := 0; round < 2; round++ {
		for i := 0; i < 20; i++ {
			if _, err := c.Nodes[i%3].Put(fmt.Sprintf("round%d/k%d", round, i), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		before := c.Leader().Dump()
		hit := c.Nodes[:2+round] // two machines of three, then all
		for _, n := range hit {
			n.Kill()
			crashMachine(t, n)
		}
		c.StartAll()
		if _, err := c.Nodes[0].Put(fmt.Sprintf("round%d/after", round), "x"); err != nil {
			t.Fatal(err)
		}
		for _, n := range c.Nodes {
			cluster.Until(t, "the same rows on every node", func() (bool, string) {
				rows := n.Dump()
				return len(rows) == len(before)+1 && reflect.DeepEqual(rows[:len(before)], before),
					fmt.Sprintf("%d rows, %d before the crash", len(rows), len(before))
			})
		}
		for _, n := range hit {
			current, err := os.ReadFile(filepath.Join(n.StoreDir(), "CURRENT"))
			if want := fmt.Sprintf("env.%d\n", 2+round); err != nil || n != c.Nodes[2] && string(current) != want {
				t.Errorf("CURRENT says %q, not %q (%v)", current, want, err)
			}
		}
	}
}
