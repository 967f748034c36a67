package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// shim is what a node's process is told of its disk and clocks while it runs: tests/e2e/shim/shim.c.
type shim struct {
	path                           string
	syncMS, syncFails, wall, ahead int64
}

func (s *shim) write() error {
	var b []byte
	for _, v := range []int64{s.syncMS, s.syncFails, s.wall, s.ahead} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, 0) // in place: it is mapped
	return err
}

func (s *shim) words(words []string) []string {
	return append([]string{"env", "LD_PRELOAD=" + filepath.Join(filepath.Dir(cluster.Program("quorumfsd")), "e2e", "shim.so"),
		"QUORUMFS_SHIM=" + s.path}, words...)
}

// smallDisk puts the node's data directory onto a file system of its own, of so many bytes.
func smallDisk(t *testing.T, n *cluster.Node, bytes int) {
	t.Helper()
	if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("quorumfs-test", n.DataDir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Skip("this machine mounts no tmpfs: ", err)
	}
	t.Cleanup(func() {
		n.Kill()
		if err := syscall.Unmount(n.DataDir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill leaves no room on the node's disk; the function that it returns gives it back.
func fill(t *testing.T, n *cluster.Node) func() {
	t.Helper()
	path := filepath.Join(n.DataDir, "filling")
	f, err := os.Create(path)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for size := 1 << 20; f != nil && size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if f != nil {
		f.Close()
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk ends with %v", err)
	}
	return func() { os.Remove(path) }
}

// level waits until all nodes have applied the same and says so by the same hash of everything.
func level(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	cluster.UntilWithin(t, time.Minute, "all nodes are level", func() (bool, string) {
		var text string
		same := true
		var first cluster.Status
		for i, n := range c.Nodes {
			st, err := n.Status()
			if err != nil {
				return false, n.Name + ": " + err.Error()
			}
			if i == 0 {
				first = st
			}
			same = same && st.Applied == first.Applied && st.Leader != "" && st.Leader != "0"
			text += fmt.Sprintf("%s applied %d, leader %s; ", n.Name, st.Applied, st.Leader)
		}
		return same, text
	})
}

// sameHash compares what all nodes say of their keys and history.
func sameHash(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	var first uint32
	for i, n := range c.Nodes {
		client := connect(t, n)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		r, err := client.HashKV(ctx, n.ClientURL, 0)
		cancel()
		if err != nil {
			t.Fatalf("HashKV of %s: %v", n.Name, err)
		}
		if i == 0 {
			first = r.Hash
		}
		if r.Hash != first {
			t.Errorf("HashKV of %s is %d, of %s %d, at revision %d", c.Nodes[0].Name, first, n.Name, r.Hash, r.Header.Revision)
		}
	}
}

// world is three nodes, each with a network, a disk and clocks of its own, and what can happen to them.
type world struct {
	t       *testing.T
	c       *cluster.Cluster
	network *cluster.Network // nil without root
	shims   []*shim
	faults  []fault
}

type fault struct {
	name string
	run  func(random *rand.Rand, left time.Duration)
}

const smallDiskBytes = 256 << 20

func startWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, shims: make([]*shim, 3)}
	options := cluster.Options{Nodes: 3, HeartbeatMS: 50, ElectionMS: 500}
	if os.Getuid() != 0 {
		w.c = cluster.Start(t, options)
		w.faults = w.ofProcesses()
		return w
	}
	options.Command = func(n *cluster.Node, words []string) []string { return w.shims[n.Index].words(words) }
	w.c, w.network = cluster.NewNetwork(t, options)
	for i := range w.shims {
		w.shims[i] = &shim{path: filepath.Join(w.c.Dir, fmt.Sprintf("shim%d", i))}
		if err := w.shims[i].write(); err != nil {
			t.Fatal(err)
		}
	}
	smallDisk(t, w.c.Nodes[2], smallDiskBytes)
	w.c.StartAll()
	w.faults = chosen(t, append(w.ofProcesses(), append(w.ofNetworks(), w.ofMachines()...)...))
	return w
}

// chosen are the faults that FAULTS names, separated by commas, to look into one of them; all by default.
func chosen(t *testing.T, all []fault) []fault {
	text := os.Getenv("FAULTS")
	if text == "" {
		return all
	}
	var some []fault
	for _, f := range all {
		if slices.Contains(strings.Split(text, ","), f.name) {
			some = append(some, f)
		}
	}
	if len(some) == 0 {
		t.Fatalf("FAULTS=%s names none", text)
	}
	return some
}

// victim is the leader as often as not.
func (w *world) victim(random *rand.Rand) *cluster.Node {
	if random.IntN(2) == 0 {
		return w.c.Nodes[random.IntN(3)]
	}
	return w.c.Leader()
}

func pause(random *rand.Rand, left time.Duration, longest time.Duration) time.Duration {
	d := 200*time.Millisecond + time.Duration(random.Int64N(int64(longest)))
	return max(0, min(d, left))
}

func (w *world) ofProcesses() []fault {
	return []fault{
		{"kill -9", func(random *rand.Rand, left time.Duration) {
			n := w.victim(random)
			n.Kill()
			time.Sleep(pause(random, left, 1200*time.Millisecond))
			n.Start()
		}},
		{"stands still", func(random *rand.Rand, left time.Duration) {
			n := w.victim(random)
			longest := 1200 * time.Millisecond
			if random.IntN(4) == 0 {
				longest = 10 * time.Second
			}
			n.Signal(syscall.SIGSTOP)
			time.Sleep(pause(random, left, longest))
			n.Signal(syscall.SIGCONT)
		}},
		{"front end killed", func(random *rand.Rand, left time.Duration) {
			if pid := w.victim(random).Child("quorumfs-grpc"); pid != 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			time.Sleep(pause(random, left, time.Second))
		}},
	}
}

func (w *world) ofNetworks() []fault {
	silence := func(n *cluster.Node, out, in bool) func() {
		var undo []func()
		for _, o := range w.c.Others(n) {
			if out {
				w.network.Silence(n, o)
				undo = append(undo, func() { w.network.Hear(n, o) })
			}
			if in {
				w.network.Silence(o, n)
				undo = append(undo, func() { w.network.Hear(o, n) })
			}
		}
		return func() {
			for _, f := range undo {
				f()
			}
		}
	}
	return []fault{
		{"cut off", func(random *rand.Rand, left time.Duration) {
			heal := silence(w.victim(random), true, true)
			time.Sleep(pause(random, left, 3*time.Second))
			heal()
		}},
		{"heard by nobody", func(random *rand.Rand, left time.Duration) {
			heal := silence(w.victim(random), true, false)
			time.Sleep(pause(random, left, 2*time.Second))
			heal()
		}},
		{"hears nobody", func(random *rand.Rand, left time.Duration) {
			heal := silence(w.victim(random), false, true)
			time.Sleep(pause(random, left, 2*time.Second))
			heal()
		}},
		{"flapping", func(random *rand.Rand, left time.Duration) {
			n := w.victim(random)
			for end := time.Now().Add(pause(random, left, 3*time.Second)); time.Now().Before(end); {
				heal := silence(n, true, true)
				time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
				heal()
				time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
			}
		}},
	}
}

func (w *world) set(n *cluster.Node, change func(s *shim)) {
	w.t.Helper()
	change(w.shims[n.Index])
	if err := w.shims[n.Index].write(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ofMachines() []fault {
	return []fault{
		{"slow disk", func(random *rand.Rand, left time.Duration) {
			n := w.victim(random)
			w.set(n, func(s *shim) { s.syncMS = 20 + int64(random.IntN(400)) })
			time.Sleep(pause(random, left, 3*time.Second))
			w.set(n, func(s *shim) { s.syncMS = 0 })
		}},
		{"failing disk", func(random *rand.Rand, left time.Duration) {
			n := w.victim(random)
			w.set(n, func(s *shim) { s.syncFails = 1 }) // the node ends, and is started again as often as its supervisor will
			time.Sleep(pause(random, left, time.Second))
			w.set(n, func(s *shim) { s.syncFails = 0 })
			n.Kill() // as a machine that is repaired is started again
			n.Start()
		}},
		{"full disk", func(random *rand.Rand, left time.Duration) {
			room := fill(w.t, w.c.Nodes[2])
			time.Sleep(pause(random, left, 3*time.Second))
			room()
		}},
		{"clock jumps", func(random *rand.Rand, left time.Duration) {
			n := w.victim(random)
			w.set(n, func(s *shim) {
				s.wall = int64(time.Duration(random.Int64N(int64(2*time.Hour))) - time.Hour)
				if random.IntN(2) == 0 {
					s.ahead += int64(500*time.Millisecond) + random.Int64N(int64(20*time.Second))
				}
			})
			time.Sleep(pause(random, left, time.Second))
		}},
	}
}

// heal waits for nothing: what a fault leaves behind, the fault itself has repaired.
func (w *world) heal() {
	for _, n := range w.c.Nodes {
		if !n.Running() {
			n.Start()
		}
	}
}
