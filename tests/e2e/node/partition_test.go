package node

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// network is a bridge and a network namespace for each node, so that a node can be cut off as by a pulled cable: no packet,
// no reset, no answer.
type network struct {
	t      testing.TB
	prefix string
}

var networks rune

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (w *network) space(i int) string { return fmt.Sprintf("qfs%s-%d", w.prefix, i) }
func (w *network) cable(i int) string { return fmt.Sprintf("qv%s-%d", w.prefix, i) }
func (w *network) address(i int) string {
	return fmt.Sprintf("198.18.%d.%d", os.Getpid()%256, i+1) // RFC 2544: nobody's
}

// partitioned starts three nodes, each in a network namespace of its own. The clients come over the Unix sockets.
func partitioned(t *testing.T) (*cluster.Cluster, *network) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	networks++ // the kernel takes a network away some time after its namespace
	w := &network{t: t, prefix: fmt.Sprintf("%d%c", os.Getpid()%100000, 'a'+networks)}
	bridge := "qb" + w.prefix
	if err := ip("link", "add", bridge, "type", "bridge"); err != nil {
		t.Skip("this machine makes no bridges: ", err)
	}
	t.Cleanup(func() { ip("link", "del", bridge) })
	must := func(args ...string) {
		t.Helper()
		if err := ip(args...); err != nil {
			t.Fatal(err)
		}
	}
	must("link", "set", bridge, "up")
	c := cluster.New(t, cluster.Options{Nodes: 3, Command: func(n *cluster.Node, words []string) []string {
		return append([]string{"ip", "netns", "exec", w.space(n.Index)}, words...)
	}})
	for i, n := range c.Nodes {
		if err := ip("netns", "add", w.space(i)); err != nil {
			t.Skip("this machine makes no network namespaces: ", err)
		}
		t.Cleanup(func() { ip("netns", "del", w.space(i)) })
		must("link", "add", w.cable(i), "type", "veth", "peer", "name", "eth0", "netns", w.space(i))
		t.Cleanup(func() { ip("link", "del", w.cable(i)) })
		must("link", "set", w.cable(i), "master", bridge, "up")
		must("-n", w.space(i), "address", "add", w.address(i)+"/24", "dev", "eth0")
		must("-n", w.space(i), "link", "set", "eth0", "up")
		must("-n", w.space(i), "link", "set", "lo", "up")
		n.PeerURL = fmt.Sprintf("http://%s:2380", w.address(i))
		n.ClientURL = fmt.Sprintf("http://%s:2379", w.address(i))
	}
	// Last in, first out: the nodes end before their namespaces go.
	t.Cleanup(func() {
		for _, n := range c.Nodes {
			n.Kill()
		}
	})
	c.StartAll()
	return c, w
}

func (w *network) cut(n *cluster.Node) {
	w.t.Helper()
	if err := ip("link", "set", w.cable(n.Index), "down"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *network) heal(n *cluster.Node) {
	w.t.Helper()
	if err := ip("link", "set", w.cable(n.Index), "up"); err != nil {
		w.t.Fatal(err)
	}
}

func TestALeaderThatIsCutOff(t *testing.T) {
	c, w := partitioned(t)
	old := c.Leader()
	others := c.Others(old)
	old.MustCtl("put", "before", "1")
	w.cut(old)
	cut := time.Now()
	cluster.Until(t, "the majority has another leader and takes writes", func() (bool, string) {
		_, err := others[0].Put("during", "2")
		return err == nil, fmt.Sprint(err)
	})
	t.Logf("writes again %v after the cut", time.Since(cut).Round(time.Millisecond))
	cluster.Until(t, "the one that is cut off knows that it leads nobody", func() (bool, string) {
		st, err := old.Status()
		return err == nil && (st.Leader == "" || st.Leader == "0"), fmt.Sprint(st.Leader, err)
	})
	if _, err := old.Put("lost", "3"); err == nil {
		t.Error("a node that is cut off acknowledged a write")
	}
	if v, err := old.Get("during"); err == nil {
		t.Errorf("a node that is cut off answered a linearizable read with %q", v)
	}
	if v, err := old.GetLocal("before"); err != nil || v != "1" {
		t.Errorf("its local read: %q, %v", v, err)
	}
	w.heal(old)
	healed := time.Now()
	cluster.Until(t, "it has caught up", func() (bool, string) {
		v, err := old.Get("during")
		return err == nil && v == "2", fmt.Sprint(v, err)
	})
	// A connection of before the cut would wait for TCP's timer, which has doubled a few times by now.
	if took := time.Since(healed); took > 5*time.Second {
		t.Errorf("that took %v", took)
	} else {
		t.Logf("caught up %v after the cable was back", took.Round(time.Millisecond))
	}
	for _, n := range c.Nodes {
		if kv, err := n.GetKV("lost"); err != nil || kv != nil {
			t.Errorf("%s has what was refused for sure: %v, %v", n.Name, kv, err)
		}
	}
}

func TestAFollowerThatIsCutOffDisturbsNobody(t *testing.T) {
	c, w := partitioned(t)
	leader, follower := c.Leader(), c.Follower()
	before, err := leader.Status()
	if err != nil {
		t.Fatal(err)
	}
	w.cut(follower)
	end := time.Now().Add(4 * time.Second) // some elections that it would call
	for i := 0; time.Now().Before(end); i++ {
		if _, err := leader.Put("k", fmt.Sprint(i)); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	want, err := leader.Get("k")
	if err != nil {
		t.Fatal(err)
	}
	w.heal(follower)
	cluster.Until(t, "the follower has caught up", func() (bool, string) {
		v, err := follower.Get("k")
		return err == nil && v == want, fmt.Sprint(v, err)
	})
	after, err := leader.Status()
	if err != nil || after.Term != before.Term || after.Leader != before.Leader {
		t.Errorf("term %d and leader %s became %d and %s, %v", before.Term, before.Leader, after.Term, after.Leader, err)
	}
}
