package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// refused runs quorumfsd, which has to end by itself with status 1 and one line that contains each of words.
func refused(t *testing.T, credential *syscall.Credential, args []string, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	program := cluster.Program("quorumfsd")
	if credential != nil { // the build may lie where another user cannot reach
		copied := filepath.Join(cluster.TempDir(t), "quorumfsd")
		content, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, content, 0o755); err != nil {
			t.Fatal(err)
		}
		program = copied
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("it still ran after 20 s\n%s", out.String())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v, not with status 1", err)
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if len(lines) != 1 || lines[0] == "" {
		t.Errorf("said %d lines, not one clear one:\n%s", len(lines), out.String())
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(out.String()), strings.ToLower(w)) {
			t.Errorf("does not mention %q: %s", w, out.String())
		}
	}
}

// single is the command line of a cluster of one in dir.
func single(t *testing.T, dataDir string, more ...string) []string {
	t.Helper()
	client := fmt.Sprintf("http://127.0.0.1:%d", cluster.FreePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", cluster.FreePort(t))
	return append([]string{"--name", "n1", "--data-dir", dataDir, "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "n1=" + peer}, more...)
}

func TestWrongFlagsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"unknown", []string{"--no-such-flag", "1"}, []string{"no-such-flag"}},
		{"stray argument", []string{"stray"}, []string{"stray"}},
		{"value missing", []string{"--name"}, []string{"name"}},
		{"no number", []string{"--heartbeat-interval", "soon"}, []string{"heartbeat-interval", "soon"}},
		{"negative number", []string{"--election-timeout", "-1"}, []string{"election-timeout"}},
		{"election too short for the heartbeat", []string{"--heartbeat-interval", "100", "--election-timeout", "200"},
			[]string{"election-timeout"}},
		{"log level", []string{"--log-level", "loud"}, []string{"log-level", "loud"}},
		{"cluster state", []string{"--initial-cluster-state", "old"}, []string{"initial-cluster-state", "old"}},
		{"not a URL", []string{"--listen-client-urls", "127.0.0.1"}, []string{"listen-client-urls"}},
		{"port out of range", []string{"--listen-peer-urls", "http://127.0.0.1:70000"}, []string{"listen-peer-urls"}},
		{"own name not in the cluster", []string{"--name", "b", "--initial-cluster", "a=http://127.0.0.1:2380"},
			[]string{"initial-cluster", "b"}},
		{"a member twice", []string{"--name", "a", "--initial-cluster",
			"a=http://127.0.0.1:2380,a=http://127.0.0.1:2381"}, []string{"initial-cluster"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(cluster.TempDir(t), "d")
			refused(t, nil, append([]string{"--data-dir", dir}, c.args...), c.words...)
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("a data directory was made all the same")
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	for _, flag := range []string{"--version", "--help"} {
		out, err := exec.Command(cluster.Program("quorumfsd"), flag).Output()
		if err != nil {
			t.Errorf("%s: %v", flag, err)
		}
		if !strings.Contains(string(out), "quorumfs") {
			t.Errorf("%s prints %q", flag, out)
		}
		if flag == "--help" {
			for _, f := range []string{"name", "data-dir", "listen-client-urls", "advertise-client-urls",
				"listen-peer-urls", "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-state",
				"initial-cluster-token", "heartbeat-interval", "election-timeout", "log-level", "version"} {
				if !strings.Contains(string(out), "--"+f) {
					t.Errorf("--help does not mention --%s", f)
				}
			}
		}
	}
}

func listen(t *testing.T) (l net.Listener, url string) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", cluster.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, "http://" + l.Addr().String()
}

func TestBusyPortIsNamed(t *testing.T) {
	for _, flag := range []string{"--listen-peer-urls", "--listen-client-urls"} {
		t.Run(flag, func(t *testing.T) {
			l, url := listen(t)
			args := single(t, filepath.Join(cluster.TempDir(t), "d"), flag, url)
			refused(t, nil, args, "address already in use", l.Addr().String())
		})
	}
}

func TestEtcdsDataDirectoryIsRefused(t *testing.T) {
	dir := filepath.Join(cluster.TempDir(t), "default.etcd")
	for _, d := range []string{"member/snap", "member/wal"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	wal := filepath.Join(dir, "member/wal/0000000000000000-0000000000000000.wal")
	os.WriteFile(wal, make([]byte, 512), 0o600)
	os.WriteFile(filepath.Join(dir, "member/snap/db"), make([]byte, 4096), 0o600)
	refused(t, nil, single(t, dir), dir, "etcd")
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("something was written into it: %v", entries)
	}
}

func TestAnotherClustersDataDirectoryIsRefused(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	c.StopAll()
	args := c.Nodes[0].Args()
	refused(t, nil, append(args, "--initial-cluster-token", "another"), c.Nodes[0].DataDir, "cluster")
}

func TestANewerOrDamagedDataDirectoryIsRefused(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	c.StopAll()
	n := c.Nodes[0]
	path := filepath.Join(n.DataDir, "identity")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ name, from, to, word string }{
		{"newer", "quorumfs-data 2\n", "quorumfs-data 3\n", "newer"},
		{"damaged", "member ", "member 0", "damaged"},
	} {
		t.Run(change.name, func(t *testing.T) {
			now := strings.Replace(string(was), change.from, change.to, 1)
			if now == string(was) {
				t.Fatalf("identity has no %q: %s", change.from, was)
			}
			if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, nil, n.Args(), n.DataDir, change.word)
			if after, _ := os.ReadFile(path); string(after) != now {
				t.Errorf("it was changed to %q", after)
			}
		})
	}
	if err := os.WriteFile(path, was, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Start()
}

func TestDataDirectoryInUseIsRefused(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	refused(t, nil, single(t, c.Nodes[0].DataDir), c.Nodes[0].DataDir)
	c.Nodes[0].MustCtl("put", "still", "there")
}

func TestUnwritableDataDirectoryIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become nobody")
	}
	dir := cluster.TempDir(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	t.Run("parent", func(t *testing.T) {
		refused(t, nobody, single(t, filepath.Join(dir, "d")), filepath.Join(dir, "d"), "permission denied")
	})
	t.Run("itself", func(t *testing.T) {
		own := filepath.Join(dir, "own")
		if err := os.Mkdir(own, 0o555); err != nil {
			t.Fatal(err)
		}
		refused(t, nobody, single(t, own), own, "permission denied")
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(dir, "file")
		os.WriteFile(file, nil, 0o644)
		refused(t, nil, single(t, file), file, "not a directory")
	})
}

func TestLongSocketPathIsRefused(t *testing.T) {
	dir := filepath.Join(cluster.TempDir(t), strings.Repeat("d", 120))
	refused(t, nil, single(t, dir), "socket", "long")
}

func TestAddressesByNameAndIPv6(t *testing.T) {
	for _, host := range []string{"localhost", "[::1]"} {
		t.Run(host, func(t *testing.T) {
			if host == "[::1]" {
				l, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Skipf("this machine has no ::1: %v", err)
				}
				l.Close()
			}
			if host == "localhost" {
				if _, err := net.LookupHost(host); err != nil {
					t.Skipf("this machine does not know its own name (no /etc/hosts?): %v", err)
				}
			}
			c := cluster.Start(t, cluster.Options{Nodes: 3, Host: host})
			c.Nodes[0].MustCtl("put", "k", "v")
			for _, n := range c.Nodes {
				if v, err := n.Get("k"); err != nil || v != "v" {
					t.Errorf("%s: %q, %v", n.Name, v, err)
				}
			}
		})
	}
}

func TestTermStopsEverythingCleanly(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	for i, n := range c.Nodes {
		n.MustCtl("put", fmt.Sprintf("k%d", i), "v")
	}
	before := time.Now()
	c.StopAll()
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	for _, n := range c.Nodes {
		if _, err := os.Stat(n.Socket()); err == nil {
			t.Errorf("%s left its socket", n.Name)
		}
	}
	c.StartAll()
	for i := range c.Nodes {
		if v, err := c.Nodes[0].Get(fmt.Sprintf("k%d", i)); err != nil || v != "v" {
			t.Errorf("after the restart: %q, %v", v, err)
		}
	}
}

func TestSupervisorRestartsItsNode(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	n := c.Nodes[0]
	n.MustCtl("put", "k", "v")
	supervisor, child := n.PID(), n.NodePID()
	if child == 0 || child == supervisor {
		t.Fatalf("supervisor %d, node %d", supervisor, child)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cluster.Until(t, "another node process", func() (bool, string) {
		now := n.NodePID()
		return now != 0 && now != child, fmt.Sprintf("it is %d", now)
	})
	if v, err := n.Get("k"); err != nil || v != "v" {
		t.Errorf("%q, %v", v, err)
	}
	if n.PID() != supervisor {
		t.Error("the supervisor is another one")
	}
}
