package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"quorumfs.test/e2e/cluster"
)

func soak() bool { return os.Getenv("QUORUMFS_SOAK") != "" }

func seed(t testing.TB) uint64 {
	s := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("QUORUMFS_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("seed %d (QUORUMFS_SEED)", s)
	return s
}

// The storm's processes are this test program again: a process that hangs in a mount must not take the test with it.
func init() {
	if dir := os.Getenv("STORM_DIR"); dir != "" {
		s, _ := strconv.ParseUint(os.Getenv("STORM_SEED"), 10, 64)
		d, _ := time.ParseDuration(os.Getenv("STORM_TIME"))
		os.Exit(stormProcess(dir, s, d))
	}
}

// What an operation of a storm may meet: names come and go.
var expected = []error{fs.ErrNotExist, fs.ErrExist, syscall.EISDIR, syscall.ENOTDIR, syscall.ENOTEMPTY, syscall.EINVAL}

// What it may meet besides while its mount is killed, or its cluster has no leader.
var expectedOfKills = []error{syscall.ENOTCONN, syscall.ECONNABORTED, syscall.ETIMEDOUT, syscall.EROFS, syscall.EIO, syscall.EBADF, syscall.ESTALE}

func stormProcess(dir string, seed uint64, d time.Duration) int {
	r := rand.New(rand.NewPCG(seed, 1))
	allowed := expected
	if os.Getenv("STORM_KILLS") != "" {
		allowed = append(allowed, expectedOfKills...)
	}
	longest := time.Duration(0)
	ops, lost := 0, 0
	for end := time.Now().Add(d); time.Now().Before(end); ops++ {
		a := filepath.Join(dir, fmt.Sprint("n", r.IntN(50)))
		b := filepath.Join(dir, fmt.Sprint("n", r.IntN(50)))
		var err error
		began := time.Now()
		switch r.IntN(9) {
		case 0, 1, 2:
			err = os.WriteFile(a, []byte(strings.Repeat(fmt.Sprint(seed, ops), r.IntN(20)+1)), 0o644)
		case 3:
			err = syscall.Unlink(a)
		case 4, 5:
			err = syscall.Rename(a, b)
		case 6:
			err = os.Mkdir(a, 0o755)
		case 7:
			err = syscall.Rmdir(a)
		case 8:
			if _, err = os.ReadDir(dir); err == nil {
				_, err = os.ReadFile(a)
			}
		}
		if took := time.Since(began); took > longest {
			longest = took
		}
		// A file that another node removes while it is written: close() says so, and nothing else says ESTALE.
		var where *fs.PathError
		ok := err == nil
		if errors.Is(err, syscall.ESTALE) && errors.As(err, &where) && where.Op == "close" {
			ok = true
			lost++
		}
		for _, e := range allowed {
			ok = ok || errors.Is(err, e)
		}
		if !ok {
			fmt.Printf("%s: operation %d: %v\n", dir, ops, err)
			return 1
		}
		if os.Getenv("STORM_KILLS") != "" && err != nil {
			time.Sleep(time.Millisecond) // a mount that is away answers at once
		}
	}
	fmt.Printf("%s: %d operations, longest %v, %d files gone under the pen\n", dir, ops, longest, lost)
	if longest > cluster.Bound {
		return 1
	}
	return 0
}

func startStorm(t *testing.T, dir string, seed uint64, d time.Duration, kills bool) (wait func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^$")
	cmd.Env = append(os.Environ(), "STORM_DIR="+dir, fmt.Sprint("STORM_SEED=", seed), fmt.Sprint("STORM_TIME=", d))
	if kills {
		cmd.Env = append(cmd.Env, "STORM_KILLS=1")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stdout = &out
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	return func() {
		t.Helper()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("a process of the storm: %v\n%s", err, out.String())
			} else {
				t.Log(strings.TrimSpace(out.String()))
			}
		case <-time.After(d + cluster.Bound):
			t.Errorf("a process of the storm in %s hangs", dir)
		}
	}
}

// puts writes and deletes keys of the same names beside the storm through clientv3, so many a second.
func puts(t *testing.T, n *cluster.Node, prefix string, seed uint64, d time.Duration, rate int) (wait func()) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{n.Endpoint()}, DialTimeout: cluster.Bound, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	done := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), d+cluster.Bound)
		defer cancel()
		r := rand.New(rand.NewPCG(seed, 2))
		began := time.Now()
		count := 0
		for ; time.Since(began) < d; count++ {
			key := fmt.Sprint(prefix, "n", r.IntN(50))
			var err error
			if r.IntN(3) == 0 {
				_, err = client.Delete(ctx, key)
			} else {
				_, err = client.Put(ctx, key, fmt.Sprint("put ", r.Uint64()))
			}
			if err != nil {
				done <- fmt.Sprintf("clientv3: write %d: %v", count, err)
				return
			}
			time.Sleep(time.Until(began.Add(time.Duration(count+1) * time.Second / time.Duration(rate))))
		}
		t.Logf("clientv3: %d writes, %.0f/s", count, float64(count)/time.Since(began).Seconds())
		done <- ""
	}()
	return func() {
		t.Helper()
		if text := <-done; text != "" {
			t.Error(text)
		}
	}
}

func names(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]bool{}
	for _, e := range entries {
		m[e.Name()] = true
	}
	return m
}

func list(m map[string]bool) string {
	var all []string
	for n := range m {
		all = append(all, n)
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}

func TestAStormLeavesNodesAndWatchersAgreed(t *testing.T) {
	c := threeWith(t)
	d, processes, rate := 20*time.Second, 4, 200
	if soak() {
		d, processes, rate = 60*time.Second, 8, 1000
	}
	s := seed(t)
	shell(t, c.Nodes[0].Mount, "mkdir storm")
	dirs := []string{}
	watchers := []*Watcher{}
	for _, n := range c.Nodes {
		dir := filepath.Join(n.Mount, "storm")
		cluster.Until(t, dir, func() (bool, string) { _, err := os.Stat(dir); return err == nil, fmt.Sprint(err) })
		dirs = append(dirs, dir)
		watchers = append(watchers, Watch(t, dir, "."))
	}
	var waits []func()
	for i := 0; i < processes; i++ {
		waits = append(waits, startStorm(t, dirs[0], s+uint64(i), d, false), startStorm(t, dirs[1], s+100+uint64(i), d, false))
	}
	waits = append(waits, puts(t, c.Nodes[2], "/storm/", s, d, rate))
	for _, wait := range waits {
		wait()
	}
	same(t, dirs[0], dirs[1])
	same(t, dirs[0], dirs[2])
	for i, w := range watchers { // each has seen its way to the names that are there
		if w.overflow {
			t.Errorf("%s: the reader's queue ran over: events are not paced", c.Nodes[i].Name)
			continue
		}
		want := list(names(t, dirs[i]))
		cluster.Until(t, "the watcher on "+c.Nodes[i].Name+" believes in what is there", func() (bool, string) {
			got := list(model(nil, w.Events()))
			return got == want, fmt.Sprintf("it has\n%s\nthere are\n%s", got, want)
		})
		t.Logf("%s: %d events", c.Nodes[i].Name, len(w.Events()))
	}
}

// frontEnd is the process that serves a node's mount, by what only its command line has.
func frontEnd(n *cluster.Node) int { return n.Child(" -o node=") }

// helper is its echo helper.
func helper(n *cluster.Node) int { return n.Child(" --echo-helper ") }

func inD(t *testing.T) string {
	t.Helper()
	found := ""
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		name := string(stat[:strings.LastIndexByte(string(stat), ')')+1])
		if !strings.HasPrefix(after, " D") {
			continue
		}
		wchan, _ := os.ReadFile("/proc/" + e.Name() + "/wchan")
		if strings.Contains(name, "mount.test") || strings.Contains(name, "quorumfs") || strings.Contains(string(wchan), "fuse") ||
			strings.Contains(string(wchan), "request_wait") {
			found += name + " " + string(wchan) + "\n"
		}
	}
	return found
}

func TestAKilledFrontEndLeavesNobodyWaiting(t *testing.T) {
	c := three(t)
	rounds := 5
	if soak() {
		rounds = 100
	}
	s := seed(t)
	shell(t, c.Nodes[0].Mount, "mkdir storm")
	a, b, other := c.Nodes[0].Mount+"/storm", c.Nodes[1].Mount+"/storm", c.Nodes[2].Mount+"/storm"
	same(t, a, b)
	same(t, a, other)
	bystander := Watch(t, other, ".")
	for round := 0; round < rounds; round++ {
		watch := Watch(t, b, ".")
		d := 2 * time.Second
		w1 := startStorm(t, a, s+uint64(round), d, false)
		w2 := startStorm(t, b, s+100+uint64(round), d, true)
		w3 := startStorm(t, b, s+200+uint64(round), d, true)
		time.Sleep(time.Second) // the middle of the storm; nothing is waited for
		pid := frontEnd(c.Nodes[1])
		if pid == 0 {
			t.Fatal("no front end")
		}
		syscall.Kill(pid, syscall.SIGKILL)
		killed := time.Now()
		cluster.UntilWithin(t, 10*time.Second, "the mount is back", func() (bool, string) {
			now := frontEnd(c.Nodes[1])
			if now == 0 || now == pid {
				return false, "no new front end"
			}
			_, err := os.Stat(b)
			return err == nil, fmt.Sprint(err)
		})
		t.Logf("round %d: back after %v", round, time.Since(killed))
		w1()
		w2()
		w3()
		cluster.Until(t, "nobody waits uninterruptibly", func() (bool, string) { d := inD(t); return d == "", d })
		cluster.Until(t, "the watch has ended as documented", func() (bool, string) {
			for _, e := range watch.Events() { // its file system is unmounted
				if e.Mask&(syscall.IN_UNMOUNT|syscall.IN_IGNORED) != 0 {
					return true, ""
				}
			}
			return false, fmt.Sprintf("no UNMOUNT among %d events, overflow %v, ended %v", len(watch.Events()), watch.overflow, watch.ended)
		})
		watch.Close()
		same(t, a, b)
	}
	want := list(names(t, other))
	cluster.Until(t, "the bystander noticed nothing", func() (bool, string) {
		got := list(model(nil, bystander.Events()))
		return !bystander.overflow && got == want, got + "\n" + want
	})
}

// What close() said is there is on all nodes, once: each file holds lines that a process appended, numbered.
func TestAKilledLeaderLosesNoClosedWrite(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, "mkdir w; : > w/log")
	for _, n := range c.Nodes[1:] {
		same(t, c.Nodes[0].Mount+"/w", n.Mount+"/w")
	}
	leader := c.Leader()
	at := c.Others(leader)[0]
	acknowledged := make(chan []string)
	stop := make(chan struct{})
	go func() {
		var lines []string
		for i := 0; ; i++ {
			select {
			case <-stop:
				acknowledged <- lines
				return
			default:
			}
			line := fmt.Sprintf("line %d\n", i)
			f, err := os.OpenFile(at.Mount+"/w/log", os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				continue
			}
			_, err = f.WriteString(line)
			if closeErr := f.Close(); err == nil && closeErr == nil {
				lines = append(lines, line)
			}
		}
	}()
	rounds := 2
	if soak() {
		rounds = 20
	}
	for i := 0; i < rounds; i++ {
		time.Sleep(500 * time.Millisecond) // under load; nothing is waited for
		leader.Kill()
		c.Leader()
		time.Sleep(500 * time.Millisecond)
		leader.Start()
		next := c.Leader()
		if next == at {
			break
		}
		leader = next
	}
	close(stop)
	lines := <-acknowledged
	if len(lines) < 10 {
		t.Fatalf("only %d writes", len(lines))
	}
	t.Logf("%d acknowledged writes", len(lines))
	for _, n := range c.Nodes {
		cluster.Until(t, n.Name+" has every line once", func() (bool, string) {
			content, err := os.ReadFile(n.Mount + "/w/log")
			if err != nil {
				return false, err.Error()
			}
			count := map[string]int{}
			for _, l := range strings.SplitAfter(string(content), "\n") {
				count[l]++
			}
			for _, l := range lines {
				if count[l] != 1 {
					return false, fmt.Sprintf("%d times %q", count[l], l)
				}
			}
			for l, times := range count { // also those whose outcome close() did not tell
				if times > 1 {
					return false, fmt.Sprintf("%d times %q", times, l)
				}
			}
			return true, ""
		})
	}
}

// A helper that dies is started again, and what it had not told yet is told.
func TestADeadHelperIsReplaced(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, "mkdir d")
	same(t, c.Nodes[0].Mount, c.Nodes[1].Mount)
	w := Watch(t, c.Nodes[1].Mount, "d")
	for round := 0; round < 3; round++ {
		pid := 0
		cluster.Until(t, "there is a helper", func() (bool, string) { pid = helper(c.Nodes[1]); return pid != 0, "" })
		syscall.Kill(pid, syscall.SIGKILL)
		shell(t, c.Nodes[0].Mount, fmt.Sprintf("for i in 1 2 3 4 5 6 7 8; do echo x > d/f-%d-$i; done", round))
	}
	cluster.Until(t, "the events of all files", func() (bool, string) {
		n := 0
		for _, e := range w.Events() {
			if e.Mask&syscall.IN_CREATE != 0 {
				n++
			}
		}
		return n == 24, fmt.Sprint(n, " of 24")
	})
	for _, line := range []string{"quorumfs_mount_helper_restarts_total 3", "quorumfs_mount_echo_backlog 0", "quorumfs_mount_echo_lag_ms 0", "quorumfs_mount_echo_lost_total 0"} {
		cluster.Until(t, line, func() (bool, string) {
			metrics, err := os.ReadFile(c.Nodes[1].Mount + "/.quorumfs/metrics")
			return err == nil && strings.Contains(string(metrics), line+"\n"), fmt.Sprint(err, string(metrics))
		})
	}
}

// A directory that is renamed elsewhere while users here go through it by both names: none of its moves is lost.
func TestMovesOfABusyDirectoryAreAllTold(t *testing.T) {
	c := three(t)
	rounds := 60
	if soak() {
		rounds = 400
	}
	shell(t, c.Nodes[0].Mount, "mkdir -p top/d0/sub; echo one > top/d0/sub/f")
	here := c.Nodes[1].Mount + "/top"
	same(t, c.Nodes[0].Mount, c.Nodes[1].Mount)
	w := Watch(t, here, ".", "d0", "d0/sub")
	stop := make(chan struct{})
	done := make(chan struct{})
	at := make(chan int, 1)
	at <- 0
	for i := 0; i < 3; i++ {
		go func() {
			for {
				select {
				case <-stop:
					done <- struct{}{}
					return
				default:
				}
				n := <-at
				at <- n
				for _, k := range []int{n + 1, n} {
					os.ReadFile(fmt.Sprintf("%s/d%d/sub/f", here, k))
					os.Stat(fmt.Sprintf("%s/d%d", here, k))
				}
			}
		}()
	}
	for i := 0; i < rounds; i++ {
		if err := os.Rename(fmt.Sprintf("%s/top/d%d", c.Nodes[0].Mount, i), fmt.Sprintf("%s/top/d%d", c.Nodes[0].Mount, i+1)); err != nil {
			t.Fatal(err)
		}
		<-at
		at <- i + 1
		want := fmt.Sprint("d", i+1)
		cluster.Until(t, "the move to "+want, func() (bool, string) {
			events := w.Events()
			from := uint32(0)
			for _, e := range events {
				if e.Mask&syscall.IN_MOVED_FROM != 0 && e.Path == fmt.Sprint("d", i) {
					from = e.Cookie
				}
				if e.Mask&syscall.IN_MOVED_TO != 0 && e.Path == want {
					return e.Cookie == from, "another cookie"
				}
			}
			return false, fmt.Sprint(len(events), " events")
		})
	}
	close(stop)
	for i := 0; i < 3; i++ {
		<-done
	}
	shell(t, fmt.Sprintf("%s/top/d%d/sub", c.Nodes[0].Mount, rounds), "echo two > g")
	cluster.Until(t, "the watch below the moved directory lives", func() (bool, string) {
		for _, e := range w.Events() {
			if e.Path == "d0/sub/g" && e.Mask&syscall.IN_CLOSE_WRITE != 0 {
				return true, ""
			}
		}
		return false, text(w.Events())
	})
}

// The node's process dies and comes back: the mount stays, and so does a watch on it.
func TestAMountOutlivesItsNode(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, "mkdir d; echo one > d/f")
	n := c.Nodes[1]
	same(t, c.Nodes[0].Mount, n.Mount)
	front := frontEnd(n)
	w := Watch(t, n.Mount, "d")
	for round := 0; round < 2; round++ {
		pid := n.NodePID()
		syscall.Kill(pid, syscall.SIGKILL)
		name := fmt.Sprint("g", round)
		cluster.Until(t, "a write elsewhere", func() (bool, string) {
			err := os.WriteFile(c.Nodes[0].Mount+"/d/"+name, []byte("x"), 0o644)
			return err == nil, fmt.Sprint(err)
		})
		cluster.Until(t, "its event", func() (bool, string) {
			for _, e := range w.Events() {
				if e.Path == "d/"+name && e.Mask&syscall.IN_CLOSE_WRITE != 0 {
					return true, ""
				}
			}
			return false, text(w.Events())
		})
		shell(t, n.Mount, "cat d/f; echo mine > d/mine")
		if n.NodePID() == pid || frontEnd(n) != front {
			t.Fatalf("node %d, front end %d was %d", n.NodePID(), frontEnd(n), front)
		}
	}
}

// A mount that stood still while a tree was made and removed, twice, tells the difference, and goes on telling what comes then.
func TestAMountThatStoodStillCatchesUp(t *testing.T) {
	c := three(t)
	a, n := c.Nodes[0].Mount, c.Nodes[2]
	tree := "for i in 1 2 3 4 5 6; do mkdir -p t/$i/x/y; for k in 1 2 3; do echo $i > t/$i/$k; echo $k > t/$i/x/y/$k; done; ln -s x t/$i/l; done"
	shell(t, a, tree)
	same(t, a, n.Mount)
	shell(t, n.Mount, "find . | wc -l; cat t/*/x/y/*")
	dirs := []string{".", "t", "t/1", "t/1/x", "t/1/x/y", "t/5"}
	w := Watch(t, n.Mount, dirs...)
	for round := 0; round < 3; round++ {
		front := frontEnd(n)
		syscall.Kill(front, syscall.SIGSTOP)
		for i := 0; i <= round; i++ {
			shell(t, a, "rm -rf t; "+tree)
		}
		shell(t, a, fmt.Sprintf("rm -rf t/3 t/5; mv t/1 t/one; mkdir t/1; echo new > t/1/new; echo x > fresh%d", round))
		syscall.Kill(front, syscall.SIGCONT)
		same(t, a, n.Mount)
		quiet(t, n) // its own event comes, whatever could not be told
		cluster.Until(t, "an event of the top", func() (bool, string) {
			for _, e := range w.Events() {
				if e.Path == fmt.Sprint("fresh", round) && e.Mask&syscall.IN_CLOSE_WRITE != 0 {
					return true, ""
				}
			}
			return false, text(w.Events())
		})
		cluster.Until(t, "the model of the directory", func() (bool, string) { // as it was told of, whichever node it is now
			got, want := list(model(map[string]bool{"t": true}, events(w, "."))), list(names(t, n.Mount))
			return got == want, got + "\n" + want
		})
		fresh := Watch(t, n.Mount, "t", "t/1")
		shell(t, a, "echo y > t/1/after; mv t/1/after t/after; rm t/after")
		cluster.Until(t, "events in the tree of now", func() (bool, string) {
			for _, e := range fresh.Events() {
				if e.Path == "t/after" && e.Mask&syscall.IN_DELETE != 0 {
					return true, ""
				}
			}
			return false, text(fresh.Events())
		})
		fresh.Close()
	}
}

// events are those of one watched directory.
func events(w *Watcher, dir string) []Event {
	var some []Event
	for _, e := range w.Events() {
		if filepath.Dir(e.Path) == dir && e.Mask&(syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF|syscall.IN_IGNORED) == 0 && !strings.HasPrefix(e.Path, ".quiet") {
			some = append(some, e)
		}
	}
	return some
}

// A node goes over to another copy of its store while it runs: its mount reads on there. Who watches hears of every change once, also
// of those that came while the front end stood still, and handles stay.
func TestANewEpochIsNothingToWatchers(t *testing.T) {
	c := threeWith(t)
	a, n := c.Nodes[0].Mount, c.Nodes[1]
	shell(t, a, "mkdir d e; echo one > d/kept; echo old > d/changed; echo x > d/removed; echo y > d/moved; mkdir d/sub")
	same(t, a, n.Mount)
	quiet(t, n)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{n.Endpoint()}, DialTimeout: cluster.Bound, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	epoch := func() string { return shell(t, n.Mount, `grep -o '"epoch":[0-9]*' .quorumfs/status`) }
	defragment := func() {
		t.Helper()
		before := epoch()
		ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
		defer cancel()
		if _, err := client.Defragment(ctx, n.Endpoint()); err != nil {
			t.Fatal(err)
		}
		cluster.Until(t, "the mount is in the new epoch", func() (bool, string) {
			shell(t, a, "echo $RANDOM > tick")
			now := epoch()
			return now != before, now
		})
	}
	reader, err := os.Open(n.Mount + "/d/kept")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	writer, err := os.OpenFile(n.Mount+"/d/changed", os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	w := Watch(t, n.Mount, "d", "e", "d/sub")
	defragment()
	quiet(t, n)
	if got := text(w.Events()); got != "" {
		t.Errorf("nothing has changed, told was\n%s", got)
	}
	if _, err := writer.WriteString("new\n"); err != nil {
		t.Error(err)
	}
	if err := writer.Close(); err != nil {
		t.Error(err)
	}
	content := make([]byte, 10)
	if k, err := reader.ReadAt(content, 0); string(content[:k]) != "one\n" {
		t.Errorf("the open file: %q %v", content[:k], err)
	}
	reader.Close() // at every fork of this process it would be closed, and ask the front end that stands still
	// What comes while the front end stands still and the epoch changes is the difference of two states, once.
	front := frontEnd(n)
	syscall.Kill(front, syscall.SIGSTOP)
	shell(t, a, "echo new > d/changed; rm d/removed; mv d/moved e/moved; echo 1 > d/fresh; chmod 600 d/kept; mkdir e/dir; rmdir d/sub")
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
	defer cancel()
	if _, err := client.Defragment(ctx, n.Endpoint()); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(front, syscall.SIGCONT)
	same(t, a, n.Mount)
	quiet(t, n)
	got := text(w.Events())
	for _, line := range []string{"MODIFY d/changed", "DELETE d/removed", "CREATE d/fresh", "ATTRIB d/kept", "CREATE e/dir dir", "DELETE d/sub dir", "DELETE_SELF d/sub"} {
		if strings.Count(got, line) == 0 {
			t.Errorf("%s is missing in\n%s", line, got)
		}
	}
	if names := model(map[string]bool{"d/kept": true, "d/changed": true, "d/removed": true, "d/moved": true, "d/sub": true}, w.Events()); list(names) != "d/changed d/fresh d/kept e/dir e/moved" {
		t.Errorf("who watched believes in %s", list(names))
	}
	// Under load.
	d := 6 * time.Second
	s := seed(t)
	shell(t, a, "mkdir storm")
	same(t, a, n.Mount)
	watch := Watch(t, n.Mount+"/storm", ".")
	waits := []func(){startStorm(t, a+"/storm", s, d, false), startStorm(t, n.Mount+"/storm", s+1, d, false)}
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
		if _, err := client.Defragment(ctx, n.Endpoint()); err != nil {
			t.Error(err)
		}
		cancel()
	}
	for _, wait := range waits {
		wait()
	}
	same(t, a+"/storm", n.Mount+"/storm")
	want := list(names(t, n.Mount+"/storm"))
	cluster.Until(t, "the watcher believes in what is there", func() (bool, string) {
		got := list(model(nil, watch.Events()))
		return got == want, fmt.Sprintf("it has\n%s\nthere are\n%s", got, want)
	})
}
