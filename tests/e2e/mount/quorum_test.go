package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func elapsed(f func() error) (error, time.Duration) {
	began := time.Now()
	err := f()
	return err, time.Since(began)
}

func read(path string) func() error {
	return func() error {
		content, err := os.ReadFile(path)
		if err == nil && string(content) != "old\n" {
			err = fmt.Errorf("it has %q", content)
		}
		return err
	}
}

// Without quorum a mount says so, within its bound, as its options have it; and works again when quorum is back.
func TestWithoutQuorumNothingHangs(t *testing.T) {
	three(t).StopAll() // for its skips
	const strict, stale, local = ".strict,timeout=3", ".stale,timeout=3,noquorum=stale", ".local,timeout=3,consistency=local"
	dir := func(n *cluster.Node, kind string) string {
		return filepath.Join(n.Cluster.Dir, n.Name+strings.SplitN(kind, ",", 2)[0])
	}
	c := cluster.Start(t, cluster.Options{Nodes: 3, Mount: true, Flags: func(n *cluster.Node) []string {
		args := []string{"--no-sidecar"}
		for _, kind := range []string{strict, stale, local} {
			os.MkdirAll(dir(n, kind), 0o755)
			args = append(args, "--mount", filepath.Join(n.Cluster.Dir, n.Name+kind))
		}
		return args
	}})
	n := c.Nodes[0]
	shell(t, n.Mount, "mkdir d; echo old > d/f")
	for _, kind := range []string{strict, stale, local} {
		cluster.Until(t, kind, func() (bool, string) { err := read(dir(n, kind) + "/d/f")(); return err == nil, fmt.Sprint(err) })
	}
	c.Nodes[1].Kill()
	c.Nodes[2].Kill()
	cluster.Until(t, "the node knows no leader", func() (bool, string) {
		st, err := n.Status()
		return err == nil && (st.Leader == "" || st.Leader == "0" || strings.Trim(st.Leader, "0") == ""), fmt.Sprint(st, err)
	})
	if err, took := elapsed(read(dir(n, strict) + "/d/f")); !errors.Is(err, syscall.ETIMEDOUT) || took > 6*time.Second {
		t.Errorf("a strict read: %v after %v", err, took)
	}
	if err, took := elapsed(read(dir(n, stale) + "/d/f")); err != nil || took > 6*time.Second {
		t.Errorf("a stale read: %v after %v", err, took)
	}
	if err, took := elapsed(read(dir(n, local) + "/d/f")); err != nil || took > time.Second {
		t.Errorf("a local read: %v after %v", err, took)
	}
	if _, err := os.Stat(dir(n, stale) + "/d/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stale lookup: %v", err)
	}
	time.Sleep(3 * time.Second) // longer than an election could take, so that the mounts no longer wait for one
	for what, f := range map[string]func() error{
		"open for writing": func() error { return os.WriteFile(dir(n, local)+"/d/f", nil, 0o644) },
		"create":           func() error { return os.WriteFile(dir(n, local)+"/d/new", nil, 0o644) },
		"mkdir":            func() error { return os.Mkdir(dir(n, local)+"/d/new", 0o755) },
		"rm":               func() error { return os.Remove(dir(n, local) + "/d/f") },
		"rename":           func() error { return os.Rename(dir(n, local)+"/d/f", dir(n, local)+"/d/g") },
		"chmod":            func() error { return os.Chmod(dir(n, local)+"/d/f", 0o600) },
	} {
		if err, took := elapsed(f); !errors.Is(err, syscall.EROFS) || took > 4*time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
	}
	c.Nodes[1].Start()
	c.Nodes[2].Start()
	cluster.Until(t, "writes work again", func() (bool, string) {
		err := os.WriteFile(dir(n, strict)+"/d/f", []byte("new\n"), 0o644)
		return err == nil, fmt.Sprint(err)
	})
	cluster.Until(t, "another node sees them", func() (bool, string) {
		content, err := os.ReadFile(c.Nodes[2].Mount + "/d/f")
		return string(content) == "new\n", fmt.Sprint(string(content), err)
	})
}

// Exactly one of all that try makes a file with O_EXCL, or a directory.
func TestExclusiveCreationIsExclusiveInTheCluster(t *testing.T) {
	c := three(t)
	for round := 0; round < 10; round++ {
		made := make(chan string, 12)
		var starts []func()
		for i := 0; i < 12; i++ {
			n := c.Nodes[i%3]
			path := filepath.Join(n.Mount, fmt.Sprint("lock", round))
			starts = append(starts, func() {
				var err error
				if round%2 == 0 {
					var f *os.File
					if f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err == nil {
						f.Close()
					}
				} else {
					err = os.Mkdir(path, 0o755)
				}
				switch {
				case err == nil:
					made <- n.Name
				case errors.Is(err, fs.ErrExist):
					made <- ""
				default:
					made <- err.Error()
				}
			})
		}
		for _, f := range starts {
			go f()
		}
		winners := []string{}
		for range starts {
			if who := <-made; who != "" {
				winners = append(winners, who)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("round %d: %v", round, winners)
		}
	}
}

// Lines appended on several nodes are all kept.
func TestAppendsOfSeveralNodesAreAllKept(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, ": > log")
	done := make(chan error, 3)
	for _, n := range c.Nodes {
		same(t, c.Nodes[0].Mount, n.Mount)
		go func() {
			_, err := try(n.Mount, fmt.Sprintf("for i in $(seq 50); do echo %s-$i >> log; done", n.Name))
			done <- err
		}()
	}
	for range c.Nodes {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if out := shell(t, c.Nodes[1].Mount, "sort log | uniq | wc -l; wc -l < log"); out != "150\n150\n" {
		t.Errorf("lines: %q", out)
	}
}

// Started alone, with a monitor of its own.
func TestAMountStartedAlone(t *testing.T) {
	c := three(t)
	n := c.Nodes[0]
	dir := filepath.Join(c.Dir, "alone dir") // a space in the kernel's list of mounts
	os.Mkdir(dir, 0o755)
	if _, err := n.Put("/config/x", "1"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cluster.Program("quorumfs"), dir, "-o", "node="+n.Socket()+",prefix=/config,umask=077,uid=1,gid=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	mounted := func() bool { points, _ := cluster.Mounts(dir); return len(points) == 1 }
	works := func() {
		t.Helper()
		cluster.Until(t, "the mount works", func() (bool, string) {
			out, err := try(dir, "cat x; stat -c '%a %u %g' x")
			return mounted() && err == nil && out == "1600 1 2\n", fmt.Sprint(out, err)
		})
	}
	works()
	front := func() string {
		out, _ := exec.Command("pgrep", "-P", fmt.Sprint(cmd.Process.Pid)).Output()
		return strings.TrimSpace(string(out))
	}
	first := front()
	exec.Command("kill", "-9", first).Run()
	cluster.Until(t, "another front end", func() (bool, string) { f := front(); return f != "" && f != first, f })
	works()
	shell(t, dir, "echo 2 > y; mkdir z; echo 3 > z/w")
	if v, err := n.Get("/config/z/w"); v != "3\n" || err != nil {
		t.Errorf("/config/z/w is %q, %v", v, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, log.String())
	}
	if mounted() {
		t.Error("it is still mounted")
	}
	for _, args := range [][]string{{}, {dir}, {dir, "-o", "node=x,what"}, {"/nowhere/at/all", "-o", "node=x"}} {
		out, err := exec.Command(cluster.Program("quorumfs"), args...).CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 {
			t.Errorf("quorumfs %v: %v %q", args, err, out)
		}
	}
}

// What one node acknowledged, the next open on any other sees: new content, new names, names that are gone, listings.
func TestAnOpenSeesWhatWasAcknowledged(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, "mkdir d; echo 0 > d/f")
	for _, n := range c.Nodes {
		same(t, c.Nodes[0].Mount, n.Mount)
	}
	at := func(k int, name string) string { return filepath.Join(c.Nodes[k%3].Mount, "d", name) }
	for i := 0; i < 120; i++ {
		text := fmt.Sprint("content ", i)
		name := fmt.Sprint("n", i)
		if err := os.WriteFile(at(i, "f"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(at(i+1, "f")); err != nil || string(got) != text {
			t.Fatalf("round %d: %q, %v after %q was closed", i, got, err, text)
		}
		if err := os.WriteFile(at(i+1, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(at(i+2, name)); err != nil || string(got) != text {
			t.Fatalf("round %d: a new file has %q, %v", i, got, err)
		}
		if err := os.Mkdir(at(i+2, name+".d"), 0o755); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Dir(at(i, "f")))
		found := false
		for _, e := range entries {
			found = found || e.Name() == name+".d"
		}
		if !found {
			t.Fatalf("round %d: a new directory is not listed: %v", i, err)
		}
		if err := os.Remove(at(i, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile(at(i+1, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: a removed file: %v", i, err)
		}
		if err := os.Rename(at(i+1, name+".d"), at(i+1, name+".e")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadDir(at(i+2, name+".e")); err != nil {
			t.Fatalf("round %d: a moved directory: %v", i, err)
		}
	}
}
