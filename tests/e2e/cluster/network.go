package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Network is a bridge and a network namespace for each node, so that a node can be cut off as by a pulled cable: no
// packet, no reset, no answer.
type Network struct {
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

func (w *Network) space(i int) string { return fmt.Sprintf("qfs%s-%d", w.prefix, i) }
func (w *Network) cable(i int) string { return fmt.Sprintf("qv%s-%d", w.prefix, i) }
func (w *Network) address(i int) string {
	return fmt.Sprintf("198.18.%d.%d", os.Getpid()%256, i+1) // RFC 2544: nobody's
}

// NewNetwork lays out a cluster each node of which has a network namespace of its own, and starts nothing. The test itself
// reaches all of them, also those that are cut off from each other. It skips where that cannot be had.
func NewNetwork(t testing.TB, o Options) (*Cluster, *Network) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	networks++ // the kernel takes a network away some time after its namespace
	w := &Network{t: t, prefix: fmt.Sprintf("%d%c", os.Getpid()%100000, 'a'+networks)}
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
	must("address", "add", w.address(253)+"/24", "dev", bridge)
	inner := o.Command
	o.Command = func(n *Node, words []string) []string {
		if inner != nil {
			words = inner(n, words)
		}
		return append([]string{"ip", "netns", "exec", w.space(n.Index)}, words...)
	}
	c := New(t, o)
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
	return c, w
}

func (w *Network) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Cut pulls a node's cable, and Heal puts it back.
func (w *Network) Cut(n *Node) {
	w.t.Helper()
	w.must(ip("link", "set", w.cable(n.Index), "down"))
}

func (w *Network) Heal(n *Node) {
	w.t.Helper()
	w.must(ip("link", "set", w.cable(n.Index), "up"))
}

// Silence loses what from sends to to, and nothing else; Hear ends that. What comes the other way is received, and what TCP
// answers to it is lost.
func (w *Network) Silence(from, to *Node) {
	w.t.Helper()
	// A neighbour with the address of nobody: the bridge has no port for it, and floods it to whom it is not for.
	w.must(ip("-n", w.space(from.Index), "neigh", "replace", w.address(to.Index), "lladdr", "02:00:00:00:00:fd",
		"dev", "eth0", "nud", "permanent"))
}

func (w *Network) Hear(from, to *Node) {
	w.t.Helper()
	w.must(ip("-n", w.space(from.Index), "neigh", "del", w.address(to.Index), "dev", "eth0"))
}
