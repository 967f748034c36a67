package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func seed(t *testing.T) *rand.Rand {
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		s, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("SEED=%d", s)
	return rand.New(rand.NewPCG(s, 1))
}

// rounds of a repeated fault: as the test says, or many times that for a soak.
func rounds(n int) int {
	if text := os.Getenv("ROUNDS"); text != "" {
		n, _ = strconv.Atoi(text)
	} else if os.Getenv("QUORUMFS_SOAK") != "" {
		n *= 20
	}
	return n
}

// One hundred times a random node, every third time the leader, dies by SIGKILL with all its processes while three
// clients write through three nodes, each retrying in its session until it is answered.
func TestKillNineUnderLoad(t *testing.T) {
	random := seed(t)
	c := cluster.Start(t, cluster.Options{Nodes: 3, HeartbeatMS: 50, ElectionMS: 500})
	cluster.Need(t, "e2e/writer", "e2e/dump")
	var watches []*cluster.Watch
	var writers []*cluster.Writer
	for i, n := range c.Nodes {
		watches = append(watches, n.Watch("w", 1))
		writers = append(writers, cluster.StartWriter(t, n, fmt.Sprintf("w%d", i), 4, 5))
	}
	n := rounds(100)
	for round := 0; round < n; round++ {
		var victim *cluster.Node
		if round%3 == 0 {
			victim = c.Leader()
		} else {
			victim = c.Nodes[random.IntN(3)]
		}
		before := make([]int, 3)
		victim.Kill()
		for i, w := range writers {
			before[i] = w.Acknowledged()
		}
		cluster.Until(t, fmt.Sprintf("round %d: the others write while %s is away", round, victim.Name),
			func() (bool, string) {
				for i, w := range writers {
					if i != victim.Index && w.Acknowledged() <= before[i] {
						return false, w.Prefix + " has no new acknowledgement"
					}
				}
				return true, ""
			})
		before[victim.Index] = writers[victim.Index].Acknowledged()
		victim.Start()
		cluster.Until(t, fmt.Sprintf("round %d: %s serves its writer again", round, victim.Name),
			func() (bool, string) {
				return writers[victim.Index].Acknowledged() > before[victim.Index], "no new acknowledgement"
			})
	}
	for _, w := range writers {
		w.Stop(t)
		if len(w.Other) > 0 {
			t.Errorf("%s: %d writes were not acknowledged in spite of retries: %v", w.Prefix, len(w.Other), w.Other[0])
		}
		t.Logf("%s: %d writes acknowledged", w.Prefix, len(w.OK))
	}

	// All catch up, and all logs are one.
	newest := int64(0)
	for _, w := range writers {
		for _, r := range w.OK {
			newest = max(newest, r)
		}
	}
	var dumps [][]cluster.Row
	for _, n := range c.Nodes {
		if _, err := n.GetKV("anything"); err != nil { // a barrier
			t.Fatalf("%s: %v", n.Name, err)
		}
		dumps = append(dumps, n.Dump())
	}
	for i := 1; i < 3; i++ {
		if a, b := fmt.Sprint(dumps[0]), fmt.Sprint(dumps[i]); a != b {
			t.Fatalf("the logs of n1 (%d rows) and n%d (%d rows) differ: %s", len(dumps[0]), i+1, len(dumps[i]),
				firstDifference(dumps[0], dumps[i]))
		}
	}

	// Nothing acknowledged is missing, nothing is there twice.
	byValue := map[string]cluster.Row{}
	version := map[string]int64{}
	for _, r := range dumps[0] {
		if former, twice := byValue[r.Value]; twice {
			t.Errorf("%s was applied at %d and at %d", r.Value, former.Revision, r.Revision)
		}
		byValue[r.Value] = r
		version[r.Key]++
		if r.Version != version[r.Key] {
			t.Errorf("%s has version %d at revision %d, not %d", r.Key, r.Version, r.Revision, version[r.Key])
		}
	}
	for _, w := range writers {
		for number, revision := range w.OK {
			value := fmt.Sprintf("%s:%d", w.Prefix, number)
			if r, there := byValue[value]; !there {
				t.Errorf("%s, acknowledged at revision %d, is missing", value, revision)
			} else if r.Revision != revision {
				t.Errorf("%s, acknowledged at revision %d, stands at %d", value, revision, r.Revision)
			}
		}
	}

	// Every watch saw the log.
	for i, w := range watches {
		events := w.WaitFor(len(dumps[0]))
		for j, r := range dumps[0] {
			if e := events[j]; e.Revision != r.Revision || string(e.Key) != r.Key || string(e.Value) != r.Value {
				t.Fatalf("the watch at n%d: event %d is %d %s %s, the log has %d %s %s", i+1, j, e.Revision, e.Key,
					e.Value, r.Revision, r.Key, r.Value)
			}
		}
		if len(events) != len(dumps[0]) {
			t.Errorf("the watch at n%d printed %d events, the log has %d", i+1, len(events), len(dumps[0]))
		}
	}
	t.Logf("%d rounds, %d writes, revision %d", n, len(dumps[0]), newest)
}

func firstDifference(a, b []cluster.Row) string {
	for i := range a {
		if i >= len(b) {
			return fmt.Sprintf("row %d is %+v here and missing there", i, a[i])
		}
		if a[i] != b[i] {
			return fmt.Sprintf("row %d is %+v here and %+v there", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("row %d is missing here and %+v there", len(a), b[len(a)])
}
