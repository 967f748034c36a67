// Package member tests what an operator does to the membership of a running cluster.
package member

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

type member struct {
	ID         uint64   `json:"ID"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	IsLearner  bool     `json:"isLearner"`
}

type answer struct {
	ID      uint64   `json:"id"`
	Members []member `json:"members"`
}

func members(t *testing.T, n *cluster.Node) []member {
	t.Helper()
	var a answer
	if err := n.CtlJSON(&a, "member", "list", "-o", "json"); err != nil {
		t.Fatal(err)
	}
	return a.Members
}

func idOf(t *testing.T, by, n *cluster.Node) string {
	t.Helper()
	for _, m := range members(t, by) {
		if m.Name == n.Name {
			return fmt.Sprintf("%x", m.ID)
		}
	}
	t.Fatalf("%s is no member", n.Name)
	return ""
}

// add tells the cluster of another member and starts it.
func add(t *testing.T, c *cluster.Cluster, by *cluster.Node, flags ...string) *cluster.Node {
	t.Helper()
	var running []*cluster.Node
	for _, n := range c.Nodes {
		if n.Running() {
			running = append(running, n)
		}
	}
	n := c.Join(running...)
	out := by.MustCtl(append([]string{"member", "add", n.Name, "--peer-urls", n.PeerURL}, flags...)...)
	for _, want := range []string{`ETCD_NAME="` + n.Name + `"`, n.Name + "=" + n.PeerURL, `ETCD_INITIAL_CLUSTER_STATE="existing"`} {
		if !strings.Contains(out, want) {
			t.Fatalf("member add says nothing of %s:\n%s", want, out)
		}
	}
	n.Start()
	return n
}

// voters waits until so many members vote.
func voters(t *testing.T, by *cluster.Node, want int) {
	t.Helper()
	cluster.Until(t, fmt.Sprintf("%d voters", want), func() (bool, string) {
		out, err := by.Ctl("status")
		return err == nil && strings.Count(out, "voter=true") == want, out
	})
}

func put(t *testing.T, n *cluster.Node, key, value string) {
	t.Helper()
	if _, err := n.Put(key, value); err != nil {
		t.Fatalf("put at %s: %.200v", n.Name, err)
	}
}

func want(t *testing.T, n *cluster.Node, key, value string) {
	t.Helper()
	if got, err := n.Get(key); err != nil || got != value {
		t.Fatalf("%s at %s: %q %v, not %q", key, n.Name, got, err, value)
	}
}

// One grows to three, writes going on all the while, and shrinks to one again, the leader first.
func TestGrowAndShrink(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 1})
	first := c.Nodes[0]
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := first.Put("busy", fmt.Sprint(i)); err != nil {
				failed <- err
				return
			}
		}
	}()
	put(t, first, "k", "v")
	second := add(t, c, first)
	voters(t, first, 2)
	if out, err := first.Ctl("member", "add", "x", "--peer-urls", first.PeerURL); err == nil ||
		!strings.Contains(out+err.Error(), "Peer URLs already exists") {
		t.Fatalf("the same URLs again: %s %v", out, err)
	}
	third := add(t, c, second)
	voters(t, first, 3)
	close(stop)
	if err := <-failed; err != nil {
		t.Fatalf("a write while it grew: %v", err)
	}
	for _, n := range c.Nodes {
		want(t, n, "k", "v")
	}
	leader := c.Leader()
	id := idOf(t, leader, leader)
	leader.MustCtl("member", "remove", id)
	if status := leader.Wait(); status != 4 {
		t.Fatalf("a removed member ends with %d", status)
	}
	if log := leader.LastLog(); !strings.Contains(log, "was removed") {
		t.Fatalf("it does not say that it was removed:\n%s", log)
	}
	rest := c.Others(leader)
	put(t, rest[0], "k", "w")
	want(t, rest[1], "k", "w")
	leader.Spawn() // with its old directory
	if status := leader.Wait(); status != 4 {
		t.Fatalf("a removed member starts again: %d", status)
	}
	rest[0].MustCtl("member", "remove", idOf(t, rest[0], rest[1]))
	if status := rest[1].Wait(); status != 4 {
		t.Fatalf("a removed follower ends with %d:\n%s", status, rest[1].LastLog())
	}
	put(t, rest[0], "k", "x")
	want(t, rest[0], "k", "x")
	if out, err := rest[0].Ctl("member", "remove", idOf(t, rest[0], rest[0])); err == nil ||
		!strings.Contains(out+err.Error(), "not enough started members") {
		t.Fatalf("the last one removed: %s %v", out, err)
	}
	_ = third
}

func TestLearner(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 1})
	first := c.Nodes[0]
	n := c.Join(first)
	first.MustCtl("member", "add", n.Name, "--learner", "--peer-urls", n.PeerURL)
	var id string
	for _, m := range members(t, first) {
		if m.IsLearner {
			id = fmt.Sprintf("%x", m.ID)
		}
	}
	if out, err := first.Ctl("member", "add", "x", "--learner", "--peer-urls", "http://127.0.0.1:1"); err == nil ||
		!strings.Contains(out+err.Error(), "too many learner members") {
		t.Fatalf("a second learner: %s %v", out, err)
	}
	if out, err := first.Ctl("member", "promote", id); err == nil || !strings.Contains(out+err.Error(), "in sync with leader") {
		t.Fatalf("a learner that has not run was promoted: %s %v", out, err)
	}
	n.Start()
	put(t, first, "k", "v")
	want(t, n, "k", "v")
	cluster.Until(t, "the learner is promoted", func() (bool, string) {
		out, err := n.Ctl("member", "promote", id)
		return err == nil, out
	})
	voters(t, n, 2)
	if out, err := n.Ctl("member", "promote", id); err == nil || !strings.Contains(out+err.Error(), "only promote a learner") {
		t.Fatalf("a voter promoted: %s %v", out, err)
	}
	n.MustCtl("move-leader", id)
	if leader := c.Leader(); leader != n {
		t.Fatalf("%s leads", leader.Name)
	}
}

// A dead member is replaced by a new one on the same machine; and what is not a new member is refused.
func TestReplaceADeadMember(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	dead := c.Follower()
	leader := c.Leader()
	id := idOf(t, leader, dead)
	dead.Kill()
	put(t, leader, "k", "v")
	if out, err := leader.Ctl("member", "add", "x", "--peer-urls", "http://127.0.0.1:1"); err == nil ||
		!strings.Contains(out+err.Error(), "unhealthy") {
		t.Fatalf("a fourth while one is dead: %s %v", out, err)
	}
	leader.MustCtl("member", "remove", id)
	fresh := add(t, c, leader)
	voters(t, fresh, 3)
	want(t, fresh, "k", "v")
	dead.Spawn()
	if status := dead.Wait(); status != 4 {
		t.Fatalf("the dead one comes back: %d\n%s", status, dead.LastLog())
	}
}

func TestUpdateOfAnAddress(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	n := c.Follower()
	id := idOf(t, n, n)
	old := n.PeerURL
	moved := fmt.Sprintf("%s://127.0.0.1:%d", cluster.Scheme(), cluster.FreePort(t))
	n.MustCtl("member", "update", id, "--peer-urls", moved)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n.ListenPeerURL = moved
	n.Start()
	put(t, c.Leader(), "k", "v")
	want(t, n, "k", "v")
	for _, m := range members(t, n) {
		if m.Name == n.Name && (len(m.PeerURLs) != 1 || m.PeerURLs[0] != moved) {
			t.Fatalf("it is still at %v, not at %s (was %s)", m.PeerURLs, moved, old)
		}
	}
}

// The log of the leader does not go back to the beginning: the new member gets a checkpoint. Its node is killed in the middle.
func TestJoinByCheckpoint(t *testing.T) {
	flags := func(*cluster.Node) []string {
		return []string{"--snapshot-bytes", "1048576", "--snapshot-catchup-entries", "10", "--snapshot-rate-bytes", "8000000"}
	}
	c := cluster.Start(t, cluster.Options{Nodes: 1, Flags: flags})
	first := c.Nodes[0]
	value := strings.Repeat("0123456789abcdef", 6000) // not compressed anywhere
	cluster.UntilWithin(t, 2*time.Minute, "the log is trimmed", func() (bool, string) {
		for i := 0; i < 50; i++ {
			put(t, first, fmt.Sprintf("k%d", time.Now().UnixNano()), value)
		}
		out := first.MustCtl("status")
		return !regexp.MustCompile(`(?m)^log_first_index +1$`).MatchString(out), out
	})
	n := c.Join(first)
	first.MustCtl("member", "add", n.Name, "--peer-urls", n.PeerURL)
	n.Spawn()
	incoming := filepath.Join(n.DataDir, "store", "incoming")
	cluster.Until(t, "some of the file is there", func() (bool, string) {
		st, err := os.Stat(incoming)
		return err == nil && st.Size() > 1<<20, "none"
	})
	if pid := n.NodePID(); pid != 0 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	n.WaitReady()
	if !strings.Contains(n.Log(), "is installed") {
		t.Fatalf("it got no checkpoint:\n%s", n.Log())
	}
	voters(t, n, 2)
	a, b := first.MustCtl("get", "k", "--prefix", "--count-only"), n.MustCtl("get", "k", "--prefix", "--count-only")
	if a != b {
		t.Fatalf("%s keys there, %s here", a, b)
	}
	put(t, n, "last", "v")
	want(t, first, "last", "v")
}

// Two of three are gone: the third is made the cluster, takes new members, and knows the lost ones no more.
func TestForceNewCluster(t *testing.T) {
	var forced *cluster.Node
	c := cluster.New(t, cluster.Options{Nodes: 3, Flags: func(n *cluster.Node) []string {
		if n == forced {
			return []string{"--force-new-cluster"}
		}
		return nil
	}})
	c.StartAll()
	put(t, c.Nodes[0], "k", "v")
	for _, n := range c.Nodes {
		want(t, n, "k", "v")
	}
	for _, n := range c.Nodes {
		n.Kill()
	}
	forced = c.Nodes[1]
	forced.Start()
	if m := members(t, forced); len(m) != 1 || m[0].Name != forced.Name {
		t.Fatalf("members: %+v", m)
	}
	want(t, forced, "k", "v")
	put(t, forced, "k", "w")
	fresh := add(t, c, forced)
	voters(t, forced, 2)
	want(t, fresh, "k", "w")
	if err := forced.Stop(); err != nil { // the flag stays on its command line
		t.Fatal(err)
	}
	forced.Start()
	voters(t, forced, 2)
	put(t, forced, "k", "x")
	want(t, fresh, "k", "x")
	lost := c.Nodes[0] // it comes back, and is a stranger
	lost.Spawn()
	cluster.Until(t, "the lost one is refused", func() (bool, string) {
		return strings.Contains(lost.LastLog(), "is not this node's"), lost.LastLog()
	})
	put(t, forced, "k", "y")
	lost.Kill()
}

// A member whose disk is new comes back under its old name: it has forgotten its votes.
func TestNewDirectoryUnderAnOldNameIsRefused(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	n := c.Follower()
	put(t, n, "k", "v")
	n.Kill()
	if err := os.RemoveAll(n.DataDir); err != nil {
		t.Fatal(err)
	}
	n.Spawn()
	if status := n.Wait(); status != 4 {
		t.Fatalf("it ends with %d:\n%s", status, n.LastLog())
	}
	if log := n.LastLog(); !strings.Contains(log, "had another data directory") {
		t.Fatalf("it does not say why:\n%s", log)
	}
	put(t, c.Leader(), "k", "w")
}

// A data directory that the first version wrote is opened, served and replicated.
func TestDirectoryOfTheFirstVersion(t *testing.T) {
	c := cluster.New(t, cluster.Options{Nodes: 1, Flags: func(n *cluster.Node) []string {
		if n.Index == 0 {
			return []string{"--initial-cluster-state", "existing"}
		}
		return nil
	}})
	n := c.Nodes[0]
	archive := filepath.Join(cluster.Top(), "tests/fixtures/skeleton-single.tar.xz")
	if err := os.Mkdir(n.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", n.DataDir, "--strip-components=1", "-xJf", archive).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.Start()
	for key, value := range map[string]string{"key1": "newer", "key2": "value2", "key4": "value4", "big": strings.Repeat("x", 5000)} {
		want(t, n, key, value)
	}
	if v, err := n.Get("key5"); err == nil {
		t.Fatalf("key5 was deleted, and is %q", v)
	}
	put(t, n, "key2", "again")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n.Start()
	want(t, n, "key2", "again")
	// Its peers know it at the address of back then; it moves to where this test can reach it.
	n.MustCtl("member", "update", idOf(t, n, n), "--peer-urls", n.PeerURL)
	second := add(t, c, n)
	voters(t, n, 2)
	want(t, second, "key2", "again")
	want(t, second, "big", strings.Repeat("x", 5000))
}
