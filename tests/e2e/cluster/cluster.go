// Package cluster starts real quorumfsd processes for tests: each from its own command line, in its own
// directory, on free ports of 127.0.0.1. Whatever a test does, nothing is left behind: processes die with the
// test program, and Cleanup aborts and unmounts what is still mounted below the cluster's directory.
//
// A test of another module imports it with
//
//	require quorumfs.test/e2e v0.0.0
//	replace quorumfs.test/e2e => ../
//
// The programs are taken from $QUORUMFS_BUILD, or from build/ at the top of the repository.
package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Options of a cluster; the zero value is one node without a mount.
type Options struct {
	Nodes int    // 0: one
	Mount bool   // a mount per node, Node.Mount
	Host  string // in URLs; empty: 127.0.0.1
	// Flags returns further arguments of a node's command line, or nil.
	Flags func(n *Node) []string
	// Command changes the words of a node's command line, to run it by another program that execs it.
	Command func(n *Node, words []string) []string
	// Env are further environment variables, "NAME=value".
	Env []string
	// Election and heartbeat in milliseconds; 0: quorumfsd's defaults.
	ElectionMS, HeartbeatMS int
	// MayLeave: the cleanup does not call a mount that is left an error (tests that kill front ends).
	MayLeave bool
}

// Cluster is a set of nodes that were told of each other.
type Cluster struct {
	T     testing.TB
	Dir   string // below it everything of this cluster
	Nodes []*Node
	Token string
	opts  Options
}

// New lays out a cluster (ports, directories, command lines) without starting a process.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if Scheme() == "https" {
		prepareSecure(t)
	}
	c := &Cluster{T: t, Dir: TempDir(t), opts: o, Token: "quorumfs-test"}
	for i := 0; i < o.Nodes; i++ {
		name := fmt.Sprintf("n%d", i+1)
		n := &Node{
			Cluster:   c,
			Index:     i,
			Name:      name,
			DataDir:   filepath.Join(c.Dir, name+".quorumfs"),
			ClientURL: fmt.Sprintf("%s://%s:%d", Scheme(), o.Host, FreePort(t)),
			PeerURL:   fmt.Sprintf("%s://%s:%d", Scheme(), o.Host, FreePort(t)),
		}
		if o.Mount {
			n.Mount = filepath.Join(c.Dir, name+".mount")
			if err := os.Mkdir(n.Mount, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c.Nodes = append(c.Nodes, n)
	}
	t.Cleanup(c.cleanup)
	register(c)
	return c
}

// Start lays out a cluster, starts every node and returns when all are ready.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := New(t, o)
	c.StartAll()
	return c
}

// StartAll starts the nodes that do not run and waits until each is ready.
func (c *Cluster) StartAll() {
	c.T.Helper()
	var started []*Node
	for _, n := range c.Nodes {
		if !n.Running() {
			n.Spawn()
			started = append(started, n)
		}
	}
	for _, n := range started {
		n.WaitReady()
	}
}

// InitialCluster is the value of --initial-cluster.
func (c *Cluster) InitialCluster() string {
	var parts []string
	for _, n := range c.Nodes {
		if n.Joins == "" {
			parts = append(parts, n.Name+"="+n.PeerURL)
		}
	}
	return strings.Join(parts, ",")
}

// ClientURLs are the endpoints for clientv3 or etcdctl, without the scheme.
func (c *Cluster) ClientURLs() []string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.ClientURL)
	}
	return urls
}

// Join lays out another node that is to join the running cluster of the given members; it is neither added nor started.
func (c *Cluster) Join(members ...*Node) *Node {
	c.T.Helper()
	name := fmt.Sprintf("n%d", len(c.Nodes)+1)
	n := &Node{
		Cluster:   c,
		Index:     len(c.Nodes),
		Name:      name,
		DataDir:   filepath.Join(c.Dir, name+".quorumfs"),
		ClientURL: fmt.Sprintf("%s://127.0.0.1:%d", Scheme(), FreePort(c.T)),
		PeerURL:   fmt.Sprintf("%s://127.0.0.1:%d", Scheme(), FreePort(c.T)),
	}
	var parts []string
	for _, m := range append(append([]*Node{}, members...), n) {
		parts = append(parts, m.Name+"="+m.PeerURL)
	}
	n.Joins = strings.Join(parts, ",")
	c.Nodes = append(c.Nodes, n)
	return n
}

// StopAll ends every node with SIGTERM and expects exit status 0 of each.
func (c *Cluster) StopAll() {
	c.T.Helper()
	var wg sync.WaitGroup
	for _, n := range c.Nodes {
		if n.Running() {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := n.Stop(); err != nil {
					c.T.Errorf("%s did not stop cleanly: %v", n.Name, err)
				}
			}()
		}
	}
	wg.Wait()
}

// Others are all nodes but n.
func (c *Cluster) Others(n *Node) []*Node {
	var others []*Node
	for _, o := range c.Nodes {
		if o != n {
			others = append(others, o)
		}
	}
	return others
}

// Leader waits until all running nodes name the same leader, and returns it.
func (c *Cluster) Leader() *Node {
	c.T.Helper()
	var leader *Node
	Until(c.T, "one leader that all running nodes agree on", func() (bool, string) {
		leader = nil
		var id string
		for _, n := range c.Nodes {
			if !n.Running() {
				continue
			}
			st, err := n.Status()
			if err != nil {
				return false, fmt.Sprintf("%s: %v", n.Name, err)
			}
			if st.Leader == "" || st.Leader == "0" {
				return false, n.Name + " knows no leader"
			}
			if id == "" {
				id = st.Leader
			} else if id != st.Leader {
				return false, fmt.Sprintf("%s says %s, another %s", n.Name, st.Leader, id)
			}
			if st.MemberID == st.Leader {
				leader = n
			}
		}
		return leader != nil, "the leader does not run"
	})
	return leader
}

// Follower is a running node that is not the leader.
func (c *Cluster) Follower() *Node {
	c.T.Helper()
	leader := c.Leader()
	for _, n := range c.Nodes {
		if n != leader && n.Running() {
			return n
		}
	}
	c.T.Fatal("there is no follower")
	return nil
}

func (c *Cluster) cleanup() {
	defer unregister(c)
	if c.T.Failed() {
		c.Dump()
	}
	c.kill()
	left := clearBelow(c.Dir)
	if len(left) > 0 && !c.opts.MayLeave && !c.T.Failed() {
		c.T.Errorf("left behind: %s", strings.Join(left, ", "))
	}
}

// kill ends the processes of all nodes: politely first, since that is what a test of leftovers expects.
func (c *Cluster) kill() {
	var wg sync.WaitGroup
	for _, n := range c.Nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if n.Running() && !c.T.Failed() {
				if err := n.Stop(); err != nil {
					c.T.Errorf("%s did not stop cleanly: %v\n%s", n.Name, err, tail(n.Log(), 40))
				}
			}
			n.Kill()
		}()
	}
	wg.Wait()
}

// Dump prints the end of each node's log, for a failed test.
func (c *Cluster) Dump() {
	for _, n := range c.Nodes {
		if log := n.Log(); log != "" {
			c.T.Logf("---- log of %s (%s) ----\n%s", n.Name, strings.Join(n.Args(), " "), tail(log, 60))
		}
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("(%d lines before)", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
