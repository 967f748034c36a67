package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func ctlOf(t *testing.T, n *cluster.Node, args ...string) string {
	t.Helper()
	out, errs, status := call{}.run(t, append([]string{"--socket", n.Socket()}, args...)...)
	if status != 0 {
		t.Fatalf("quorumctl %q: status %d, %s", args, status, errs)
	}
	return out
}

// dataStatus is what status says of the log and its checkpoints.
type dataStatus struct {
	Epoch      int64 `json:"epoch"`
	LogFirst   int64 `json:"log_first_index"`
	Checkpoint int64 `json:"checkpoint_index"`
	Made       int64 `json:"checkpoints_total"`
}

func statusOf(t *testing.T, n *cluster.Node) (s dataStatus) {
	t.Helper()
	if err := n.CtlJSON(&s, "status"); err != nil {
		t.Fatal(err)
	}
	return s
}

var hashLine = regexp.MustCompile(`hash ([0-9a-f]{8}) at revision (\d+), entry (\d+)`)

// checked runs db check, which must find nothing, and returns the hash with its place.
func checked(t *testing.T, n *cluster.Node) string {
	t.Helper()
	out := ctlOf(t, n, "db", "check")
	if !strings.Contains(out, "everything fits") {
		t.Fatalf("db check of %s: %s", n.Name, out)
	}
	return hashLine.FindString(out)
}

func fill(t *testing.T, n *cluster.Node, count int) {
	t.Helper()
	value := strings.Repeat("v", 100_000)
	for i := 0; i < count; i++ {
		out, errs, status := call{stdin: fmt.Sprint(i, value)}.run(t, "--socket", n.Socket(), "put", fmt.Sprint("/k/", i))
		if status != 0 {
			t.Fatalf("put: %s%s", out, errs)
		}
	}
}

func holds(t *testing.T, n *cluster.Node, count int) {
	t.Helper()
	for i := 0; i < count; i++ {
		out := ctlOf(t, n, "get", fmt.Sprint("/k/", i))
		if want := fmt.Sprint("/k/", i, "\n", i, "vvv"); !strings.HasPrefix(out, want) || len(out) < 100_000 {
			t.Fatalf("%s has %.40q, not %.40q", n.Name, out, want)
		}
	}
}

// The machine goes down: what was not synced is not to be believed, and checkpoint and log make it again.
func TestACheckpointAndTheLogMakeTheKeySpaceAgain(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Flags: func(*cluster.Node) []string {
		return []string{"--snapshot-bytes", "1048576", "--snapshot-catchup-entries", "5"}
	}})
	n := c.Nodes[0]
	fill(t, n, 400) // 40 MB: two segments of the log and more
	s := statusOf(t, n)
	if s.Made < 2 || s.LogFirst < 100 || s.LogFirst > s.Checkpoint+1 {
		t.Fatalf("the log is not trimmed behind checkpoints: %+v", s)
	}
	before := checked(t, n)
	n.Kill()
	if err := os.Remove(filepath.Join(n.DataDir, "store", "RUN")); err != nil {
		t.Fatal(err)
	}
	n.Start()
	holds(t, n, 400)
	if s := statusOf(t, n); s.Epoch != 2 {
		t.Errorf("epoch %d", s.Epoch)
	}
	if out := ctlOf(t, n, "db", "check"); !strings.Contains(out, "everything fits") {
		t.Error(out)
	}
	t.Log(before)
	n.Kill()
	// Without a whole checkpoint there is no way back, and nothing is touched.
	names, _ := filepath.Glob(filepath.Join(n.DataDir, "store", "checkpoint-*"))
	for _, name := range names {
		if err := os.Truncate(name, 100_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(n.DataDir, "store", "RUN")); err != nil {
		t.Fatal(err)
	}
	n.Spawn()
	if status := n.Wait(); status != 1 || !strings.Contains(n.LastLog(), "remove the member") {
		t.Errorf("status %d: %s", status, n.LastLog())
	}
}

func TestABackupBeginsANewCluster(t *testing.T) {
	old := cluster.Start(t, cluster.Options{})
	fill(t, old.Nodes[0], 20)
	ctlOf(t, old.Nodes[0], "put", "/own", "1")
	backup := filepath.Join(old.Dir, "backup")
	if out := ctlOf(t, old.Nodes[0], "snapshot", "save", backup); !strings.Contains(out, "revision 22") {
		t.Fatalf("save: %s", out)
	}
	if out, errs, status := (call{}).run(t, "snapshot", "status", backup); status != 0 || !strings.Contains(out, "revision 22") {
		t.Fatalf("status: %s%s", out, errs)
	}
	if out, errs, status := (call{}).run(t, "db", "check", "--file", backup); status != 0 || !strings.Contains(out, "fits") {
		t.Fatalf("check: %s%s", out, errs)
	}
	c := cluster.New(t, cluster.Options{Nodes: 3})
	for _, n := range c.Nodes {
		words := []string{"snapshot", "restore", backup, "--data-dir", n.DataDir, "--name", n.Name, "--initial-cluster",
			c.InitialCluster(), "--initial-cluster-token", c.Token, "--initial-advertise-peer-urls", n.PeerURL}
		if out, errs, status := (call{}).run(t, words...); status != 0 || !strings.Contains(out, "restored") {
			t.Fatalf("restore: %s%s", out, errs)
		}
		if _, errs, status := (call{}).run(t, words...); status != 1 || !strings.Contains(errs, "has a member in it") {
			t.Fatalf("a second restore: %s", errs)
		}
	}
	c.StartAll()
	for _, n := range c.Nodes {
		holds(t, n, 20)
	}
	if revision, err := c.Nodes[1].Put("/new", "1"); err != nil || revision != 23 {
		t.Errorf("revision %d, %v", revision, err)
	}
	cluster.Until(t, "all members hash equal", func() (bool, string) {
		a, b, z := checked(t, c.Nodes[0]), checked(t, c.Nodes[1]), checked(t, c.Nodes[2])
		return a == b && b == z, a + b + z
	})
	// The log of the new cluster does not go back to the beginning: one that joins is sent what the others began with.
	fourth := c.Join(c.Nodes...)
	c.Nodes[0].MustCtl("member", "add", fourth.Name, "--peer-urls", fourth.PeerURL)
	fourth.Start()
	holds(t, fourth, 20)
	cluster.Until(t, "the fourth hashes equal", func() (bool, string) {
		a, b := checked(t, c.Nodes[0]), checked(t, fourth)
		return a == b, a + b
	})
	damaged := filepath.Join(old.Dir, "damaged")
	data, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := (call{}).run(t, "snapshot", "status", damaged); status != 1 || !strings.Contains(errs, "damaged") {
		t.Errorf("status of a damaged backup: %s", errs)
	}
}

// Another environment takes the store's place while a mount, a watch and writers use it: nothing is lost, late or twice.
func TestDefragmentationIsNotNoticed(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Mount: true})
	n := c.Nodes[0]
	fill(t, n, 40)
	for i := 0; i < 39; i++ {
		ctlOf(t, n, "del", fmt.Sprint("/k/", i))
	}
	at := ctlOf(t, n, "get", "/k/39", "-o", "json")
	if !strings.Contains(at, "revision") {
		t.Fatal(at)
	}
	w := n.Watch("/w/", 0)
	const puts = 60
	for i := 0; i < puts; i++ {
		if i%20 == 10 {
			ctlOf(t, n, "db", "defragment")
		}
		name := fmt.Sprint("/w/", i)
		ctlOf(t, n, "put", name, fmt.Sprint(i))
		if out := ctlOf(t, n, "get", name); out != fmt.Sprint(name, "\n", i, "\n") {
			t.Fatalf("what was put is not there: %q", out)
		}
		data, err := os.ReadFile(filepath.Join(n.Mount, name))
		if err != nil || string(data) != fmt.Sprint(i) {
			t.Fatalf("the mount has %q, %v", data, err)
		}
	}
	events := w.WaitFor(puts)
	for i, e := range events {
		if string(e.Key) != fmt.Sprint("/w/", i) {
			t.Fatalf("event %d is of %s", i, e.Key)
		}
	}
	if s := statusOf(t, n); s.Epoch != 4 {
		t.Errorf("epoch %d", s.Epoch)
	}
	checked(t, n)
}
