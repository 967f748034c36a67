package member

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

// sameRows: every node has the same history, with all that the writer was told of.
func sameRows(t *testing.T, w *cluster.Writer, nodes []*cluster.Node) {
	t.Helper()
	rows := ""
	for _, n := range nodes {
		n.MustCtl("get", "anything") // a barrier
		dump := n.Dump()
		if rows == "" {
			rows = fmt.Sprint(dump)
			w.Check(t, dump)
		}
		if fmt.Sprint(dump) != rows {
			t.Errorf("%s has another history than %s", n.Name, nodes[0].Name)
		}
	}
}

func running(c *cluster.Cluster) (nodes []*cluster.Node) {
	for _, n := range c.Nodes {
		if n.Running() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// remove takes a member out, asked of another one, and expects it to say so and to end.
func remove(t *testing.T, by, n *cluster.Node) {
	t.Helper()
	by.MustCtl("member", "remove", idOf(t, by, n))
	if status := n.Wait(); status != 4 || !strings.Contains(n.LastLog(), "was removed") {
		t.Fatalf("the removed %s ends with %d:\n%s", n.Name, status, n.LastLog())
	}
}

// One grows to five, asked of whichever, does with two of them dead, and shrinks to three, the leader among those that go. One client
// writes through the first member all the while.
func TestFiveAndBackToThree(t *testing.T) {
	cluster.Need(t, "e2e/writer", "e2e/dump")
	c := cluster.Start(t, cluster.Options{Nodes: 1, HeartbeatMS: 50, ElectionMS: 500})
	first := c.Nodes[0]
	w := cluster.StartWriter(t, first, "w", 4, 5)
	w.GoesOn(t)
	for want := 2; want <= 5; want++ {
		add(t, c, c.Nodes[rand.IntN(len(c.Nodes))])
		voters(t, first, want)
		w.GoesOn(t)
	}
	if m := members(t, c.Nodes[4]); len(m) != 5 {
		t.Fatalf("%d members: %+v", len(m), m)
	}

	var dead []*cluster.Node
	leader := c.Leader()
	if leader != first {
		dead = append(dead, leader)
	}
	for _, n := range c.Nodes[1:] {
		if len(dead) < 2 && n != leader {
			dead = append(dead, n)
		}
	}
	for _, n := range dead {
		n.Kill()
	}
	w.GoesOn(t)
	for _, n := range dead {
		n.Start()
	}
	w.GoesOn(t)

	leader = c.Leader()
	if leader == first { // whose client goes on writing
		first.MustCtl("move-leader", idOf(t, first, c.Nodes[1]))
		leader = c.Leader()
	}
	remove(t, first, leader)
	w.GoesOn(t)
	for _, n := range running(c) {
		if n != first && n != c.Leader() {
			remove(t, c.Leader(), n)
			break
		}
	}
	w.GoesOn(t)
	rest := running(c)
	if len(rest) != 3 || len(members(t, first)) != 3 {
		t.Fatalf("%d are left, members %+v", len(rest), members(t, first))
	}
	for _, n := range rest { // two of three are enough again
		if n != first {
			n.Kill()
			w.GoesOn(t)
			n.Start()
			break
		}
	}
	w.Stop(t)
	sameRows(t, w, rest)
	t.Logf("%d writes", len(w.OK))
}
