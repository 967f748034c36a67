package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// number is one of those in a node's status.
func number(t *testing.T, n *cluster.Node, name string) int64 {
	t.Helper()
	var status map[string]any
	if err := n.CtlJSON(&status, "status"); err != nil {
		t.Fatal(err)
	}
	var v int64
	if _, err := fmt.Sscan(fmt.Sprint(status[name]), &v); err != nil {
		t.Fatalf("%s of %s is %v", name, n.Name, status[name])
	}
	return v
}

// The cable of a follower that fetches a checkpoint is pulled for longer than it waits, again and again; meanwhile the leader writes another
// checkpoint, for a backup. The file goes on where it was each time, and what comes in the end is that one file.
func TestAFileIsFetchedOnAfterABreak(t *testing.T) {
	cluster.Need(t, "e2e/writer", "e2e/dump", "quorumfs-load")
	breaks, size := 1, int64(32<<20)
	if os.Getenv("QUORUMFS_SOAK") != "" {
		breaks, size = 5, 128<<20
	}
	c, network := cluster.NewNetwork(t, cluster.Options{Nodes: 3, HeartbeatMS: 50, ElectionMS: 500, Flags: func(*cluster.Node) []string {
		return []string{"--snapshot-catchup-entries", "10", "--snapshot-rate-bytes", "8000000"}
	}})
	c.StartAll()
	sender := c.Leader()
	behind := c.Follower()
	behind.Kill()
	loadWithout(t, c, behind, sender, size)
	loaded, err := sender.Put("loaded", "v")
	if err != nil {
		t.Fatal(err)
	}
	w := cluster.StartWriter(t, sender, "w", 4, 5)
	behind.Spawn()
	incoming := filepath.Join(behind.DataDir, "store", "incoming")
	have := func() int64 {
		st, err := os.Stat(incoming)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	for i := 1; i <= breaks; i++ {
		cluster.Until(t, "a part of the file is there", func() (bool, string) {
			return have() > size*int64(i)/int64(breaks+2), behind.LastLog()
		})
		broken := number(t, behind, "peer_file_breaks")
		before := have()
		network.Cut(behind)
		cluster.UntilWithin(t, time.Minute, "it gives the connection up", func() (bool, string) {
			return number(t, behind, "peer_file_breaks") > broken, behind.LastLog()
		})
		if i == 1 {
			sender.MustCtl("snapshot", "save", filepath.Join(c.Dir, "backup"))
		}
		if now := have(); now < before {
			t.Fatalf("%d bytes were there, %d are left", before, now)
		}
		network.Heal(behind)
		cluster.Until(t, "it goes on", func() (bool, string) { return have() > before, behind.LastLog() })
	}
	var received int64
	cluster.UntilWithin(t, time.Minute, "the file is there", func() (bool, string) {
		if v := number(t, behind, "peer_file_bytes_received"); v > received {
			received = v
		}
		return have() == 0, fmt.Sprint(have())
	})
	cluster.Until(t, "the follower has it all", func() (bool, string) {
		_, err := behind.GetLocal("w/1")
		return err == nil, behind.LastLog()
	})
	w.Stop(t)
	t.Logf("%d breaks, %d bytes of values, %d bytes received", breaks, size, received)
	if received > size*5/4 {
		t.Errorf("%d bytes were received for a database of %d", received, size)
	}
	rows := ""
	for _, n := range c.Nodes {
		n.MustCtl("get", "anything")
		dump := n.DumpFrom(loaded)
		if rows == "" {
			rows = fmt.Sprint(dump)
			w.Check(t, dump)
		}
		if fmt.Sprint(dump) != rows {
			t.Errorf("%s has another history than %s", n.Name, c.Nodes[0].Name)
		}
	}
}
