package node

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

const anonymousLimit = 64e6 // bytes, of either node, while a follower gets a database

// anonymous is a process's memory that is backed by no file, in bytes; 0 when there is no such process.
func anonymous(pid int) int64 {
	var sum int64
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) == 3 && (words[0] == "RssAnon:" || words[0] == "VmSwap:") {
			kb, _ := strconv.ParseInt(words[1], 10, 64)
			sum += kb * 1024
		}
	}
	return sum
}

// putter puts, one after the other, and knows how long each took.
type putter struct {
	mu    sync.Mutex
	took  []time.Duration
	other string
}

func startPutter(t *testing.T, n *cluster.Node) *putter {
	t.Helper()
	p := &putter{}
	cmd := exec.Command(cluster.Program("e2e/writer"), n.Socket(), "putter", "1", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe() // it ends when this does
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		stdin.Close()
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("the writer: %v", err)
		}
	})
	go func() {
		defer close(done)
		last := time.Now()
		for s := bufio.NewScanner(stdout); s.Scan(); {
			now := time.Now()
			p.mu.Lock()
			if strings.HasPrefix(s.Text(), "ok ") {
				p.took = append(p.took, now.Sub(last))
			} else if !strings.HasPrefix(s.Text(), "end ") {
				p.other = s.Text()
			}
			p.mu.Unlock()
			last = now
		}
	}()
	return p
}

// count is how many puts were acknowledged.
func (p *putter) count(t *testing.T) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.other != "" {
		t.Fatalf("a put was not acknowledged: %s", p.other)
	}
	return len(p.took)
}

// figures of the puts from one count to another.
func (p *putter) figures(from, to int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := slices.Sorted(slices.Values(p.took[from:to]))
	if len(took) == 0 {
		return "no puts"
	}
	ms := func(part float64) float64 { return took[int(part*float64(len(took)-1))].Seconds() * 1000 }
	return fmt.Sprintf("%d puts, p50 %.2f ms, p99 %.2f ms, longest %.1f ms", len(took), ms(0.5), ms(0.99), ms(1))
}

// load puts values until there are so many bytes of them.
func load(t *testing.T, n *cluster.Node, bytes int64, keySize int) {
	t.Helper()
	const valueBytes = 65536
	count := strconv.FormatInt(bytes/valueBytes, 10)
	out, err := exec.Command(cluster.Program("quorumfs-load"), "--endpoint", n.Endpoint(), "--op", "put", "--sequential", "--keys", count,
		"--count", count, "--clients", "8", "--key-size", strconv.Itoa(keySize), "--value-size", strconv.Itoa(valueBytes)).CombinedOutput()
	if err != nil {
		t.Fatalf("load: %v\n%s", err, out)
	}
}

// loadWithout puts so many bytes while one node is dead. Then each of the others has a checkpoint of all that, and trims its log.
func loadWithout(t *testing.T, c *cluster.Cluster, dead, leader *cluster.Node, bytes int64) {
	t.Helper()
	load(t, leader, bytes, 32)
	backup := filepath.Join(c.Dir, "backup")
	for _, n := range c.Others(dead) {
		n.MustCtl("snapshot", "save", backup)
		os.Remove(backup)
	}
}

// peaks are the most that processes had at a time, by name and by what was going on.
type peaks map[string]int64

func (p peaks) see(phase string, nodes ...*cluster.Node) {
	for _, n := range nodes {
		if pid := n.NodePID(); pid != 0 {
			key := phase + " " + n.Name
			p[key] = max(p[key], anonymous(pid))
		}
	}
}

// A follower that has nothing of the database gets it as a file and then the log behind it, while another client puts. What the two
// nodes need for it does not depend on the size: 64 MB in a quick run, 1 GB with QUORUMFS_SOAK.
func TestMemoryWhileAFollowerGetsTheDatabase(t *testing.T) {
	if cluster.Scheme() != "http" {
		t.Skip("quorumfs-load speaks no TLS")
	}
	cluster.Need(t, "e2e/writer", "quorumfs-load")
	size, rate, idlePuts := int64(64<<20), int64(32<<20), 300
	if os.Getenv("QUORUMFS_SOAK") != "" {
		size, rate, idlePuts = 1<<30, 64<<20, 5000
	}
	c := cluster.Start(t, cluster.Options{Nodes: 3, Flags: func(*cluster.Node) []string {
		return []string{"--snapshot-catchup-entries", "10", "--snapshot-rate-bytes", strconv.FormatInt(rate, 10)}
	}})
	sender := c.Leader()
	behind := c.Follower()
	behind.Kill()
	loadWithout(t, c, behind, sender, size)
	load(t, sender, size*3/4, 40) // the log behind the checkpoint
	if _, err := sender.Put("last", "v"); err != nil {
		t.Fatal(err)
	}
	if leader := c.Leader(); leader != sender {
		t.Fatalf("%s leads meanwhile", leader.Name)
	}
	puts := startPutter(t, sender)
	cluster.UntilWithin(t, 10*time.Minute, "puts while nothing else goes on", func() (bool, string) {
		n := puts.count(t)
		return n >= idlePuts, fmt.Sprint(n)
	})
	most := peaks{}
	begun := puts.count(t)
	most.see("before", sender)
	behind.Spawn()
	began := time.Now()
	phase := func(name, ends string, over func() bool) (int, time.Duration) {
		t.Helper()
		cluster.UntilWithin(t, 10*time.Minute, ends, func() (bool, string) {
			most.see(name, sender, behind)
			return over(), behind.LastLog()
		})
		took := time.Since(began)
		began = time.Now()
		return puts.count(t), took
	}
	says := func(what string) func() bool { return func() bool { return strings.Contains(behind.LastLog(), what) } }
	phase("start", "it fetches a checkpoint", says("fetching the checkpoint"))
	begun = puts.count(t)
	got, transfer := phase("file", "the checkpoint is installed", says("is installed"))
	had, follow := phase("log", "it has the log behind it", func() bool {
		v, err := behind.GetLocal("last")
		return err == nil && v == "v"
	})
	t.Logf("idle: %s", puts.figures(0, idlePuts))
	t.Logf("the file, %.1f s at %d bytes a second: %s", transfer.Seconds(), rate, puts.figures(begun, got))
	t.Logf("the log behind it, %.1f s: %s", follow.Seconds(), puts.figures(got, had))
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range most {
			if !yield(key) {
				return
			}
		}
	}) {
		t.Logf("anonymous memory, %s: %.1f MB", key, float64(most[key])/1e6)
	}
	if !strings.Contains(sender.LastLog(), "sending a checkpoint to") {
		t.Fatalf("%s sent no checkpoint:\n%s", sender.Name, sender.LastLog())
	}
	for key, bytes := range most {
		if bytes > anonymousLimit {
			t.Errorf("%s: %.1f MB of anonymous memory", key, float64(bytes)/1e6)
		}
	}
}

// The node that sends the file dies in the middle of it, by SIGKILL, and comes back, while a client puts through the third one. The follower
// gets that file or another one from whoever leads then; all three have the same in the end, and all that was acknowledged.
func TestTheSenderDiesInTheMiddle(t *testing.T) {
	if cluster.Scheme() != "http" {
		t.Skip("quorumfs-load speaks no TLS")
	}
	cluster.Need(t, "e2e/dump", "e2e/writer", "quorumfs-load")
	c := cluster.Start(t, cluster.Options{Nodes: 3, HeartbeatMS: 50, ElectionMS: 500, Flags: func(*cluster.Node) []string {
		return []string{"--snapshot-catchup-entries", "10", "--snapshot-rate-bytes", "8000000"}
	}})
	sender := c.Leader()
	behind := c.Follower()
	behind.Kill()
	loadWithout(t, c, behind, sender, 24<<20)
	load(t, sender, 24<<20, 40) // so that the log is trimmed when the next checkpoint is there
	loaded, err := sender.Put("last", "v")
	if err != nil {
		t.Fatal(err)
	}
	third := c.Others(behind)[0]
	if third == sender {
		third = c.Others(behind)[1]
	}
	w := cluster.StartWriter(t, third, "w", 4, 5)
	behind.Spawn()
	cluster.Until(t, "some of the file is there", func() (bool, string) {
		st, err := os.Stat(filepath.Join(behind.DataDir, "store", "incoming"))
		return err == nil && st.Size() > 4<<20, behind.LastLog()
	})
	if strings.Contains(behind.LastLog(), "is installed") || !strings.Contains(sender.LastLog(), "sending a checkpoint to") {
		t.Fatalf("it is not in the middle of it:\n%s", sender.LastLog())
	}
	pid := sender.NodePID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cluster.Until(t, "the follower has it all", func() (bool, string) {
		v, err := behind.GetLocal("last")
		return err == nil && v == "v" && strings.Contains(behind.LastLog(), "is installed"), behind.LastLog()
	})
	cluster.Until(t, "the sender is back", func() (bool, string) {
		now := sender.NodePID()
		return now != 0 && now != pid, sender.LastLog()
	})
	before := w.Acknowledged()
	cluster.Until(t, "the client goes on", func() (bool, string) { return w.Acknowledged() > before, "" })
	w.Stop(t)
	if len(w.Other) > 0 {
		t.Errorf("%d writes were not acknowledged in spite of retries: %v", len(w.Other), w.Other[0])
	}
	keys, rows := "", ""
	for _, n := range c.Nodes {
		count := n.MustCtl("get", "", "--prefix", "--count-only") // and a barrier
		dump := n.DumpFrom(loaded)
		if keys == "" {
			keys, rows = count, fmt.Sprint(dump)
			values := map[string]int64{}
			for _, r := range dump {
				values[r.Value] = r.Revision
			}
			for number, revision := range w.OK {
				if at := values[fmt.Sprintf("w:%d", number)]; at != revision {
					t.Errorf("write %d, acknowledged at revision %d, stands at %d", number, revision, at)
				}
			}
		}
		if count != keys || fmt.Sprint(dump) != rows {
			t.Errorf("%s has another log than %s, or %s keys, not %s", n.Name, c.Nodes[0].Name, count, keys)
		}
	}
}
