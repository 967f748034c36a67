package clientv3

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// output collects what a program prints while it runs.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// inotifywait watches a mount as a shell's user would, and returns when it does.
func inotifywait(t *testing.T, dir string) *output {
	t.Helper()
	program, err := exec.LookPath("inotifywait")
	if err != nil {
		t.Fatalf("inotifywait is not installed: %v", err)
	}
	var out, errs output
	cmd := exec.Command(program, "-m", "-r", "-e", "create,modify,close_write,delete", "--format", "%e %w%f", dir)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	cluster.Until(t, "inotifywait watches "+dir, func() (bool, string) {
		return strings.Contains(errs.String(), "Watches established"), errs.String()
	})
	return &out
}

// Mount: what a shell writes on one node is inotify's events on the others and one event of a clientv3 watch; what
// etcdctl puts is a file everywhere; and keys that are no plain paths go both ways.
func Mount(t *testing.T) {
	cluster.Need(t, "quorumfs")
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	c := cluster.Start(t, cluster.Options{Nodes: 3, Mount: true})
	a, b, last := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	shell := func(script string) {
		t.Helper()
		if out, err := exec.CommandContext(within(t), "sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	shell("mkdir " + a.Mount + "/etc")
	var seen []*output
	for _, n := range c.Nodes {
		cluster.Until(t, "etc on "+n.Name, func() (bool, string) {
			_, err := os.Stat(n.Mount + "/etc")
			return err == nil, fmt.Sprint(err)
		})
		seen = append(seen, inotifywait(t, n.Mount))
	}
	told := func(nodes []*cluster.Node, name string) {
		t.Helper()
		for _, n := range nodes {
			path := n.Mount + name
			want := fmt.Sprintf("CREATE %s\nMODIFY %s\nCLOSE_WRITE,CLOSE %s\n", path, path, path)
			cluster.Until(t, n.Name+" tells of "+name, func() (bool, string) {
				return strings.Contains(seen[n.Index].String(), want), seen[n.Index].String()
			})
		}
	}
	content := func(name, want string) {
		t.Helper()
		for _, n := range c.Nodes {
			if got, err := os.ReadFile(n.Mount + name); err != nil || string(got) != want {
				t.Errorf("%s on %s is %q, %v", name, n.Name, got, err)
			}
		}
	}

	client := connect(t, last)
	ch := client.Watch(within(t), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := next(t, ch); !r.Created {
		t.Fatal(r)
	}
	shell("echo hello > " + a.Mount + "/etc/motd")
	told(c.Nodes[1:], "/etc/motd")
	content("/etc/motd", "hello\n")
	etcdctl := exec.CommandContext(within(t), "etcdctl", "--endpoints", b.ClientURL, "put", "/etc/x", "y")
	etcdctl.Env = append(os.Environ(), "ETCDCTL_API=3")
	if out, err := etcdctl.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl put: %v\n%s", err, out)
	}
	told(c.Nodes, "/etc/x")
	content("/etc/x", "y")
	// One event each, at a revision of its own: nothing of how the content came about, and nothing between them.
	for _, want := range []string{"/etc/motd=hello\n", "/etc/x=y"} {
		r := next(t, ch)
		if len(r.Events) != 1 || r.Events[0].Type != clientv3.EventTypePut || !r.Events[0].IsCreate() ||
			string(r.Events[0].Kv.Key)+"="+string(r.Events[0].Kv.Value) != want {
			t.Fatalf("the watch has %v, not %q alone", r.Events, want)
		}
	}

	for _, x := range []struct{ key, path string }{
		{"foo", "%:bare/foo"},
		{"/o/a\x00b", "o/%:a%00b"},
		{"/o/c/d", "o/c/d"}, // the directory stays
		{"/o/c", "o/c/%:value"},
		{"/o//e", "o/%:/e"},
		{"/o/f/", "o/f/%:slash"},
		{"/o/.", "o/%:."},
		{"/o/..", "o/%:.."},
		{"/o/" + strings.Repeat("k", 300), "o/" + strings.Repeat("k", 250) + "%+/" + strings.Repeat("k", 50)},
	} {
		key, path := x.key, x.path
		put(t, client, key, "of clientv3")
		file := filepath.Join(a.Mount, path)
		cluster.Until(t, path+" can be read", func() (bool, string) {
			got, err := os.ReadFile(file)
			return err == nil && string(got) == "of clientv3", fmt.Sprintf("%q %v", got, err)
		})
		if err := os.WriteFile(file, []byte("of the mount"), 0o644); err != nil {
			t.Errorf("write of %s: %v", path, err)
		}
		if r := get(t, client, key); r.Count != 1 || string(r.Kvs[0].Value) != "of the mount" {
			t.Errorf("%q after a write of %s: %v", key, path, r.Kvs)
		}
		if err := os.Remove(file); err != nil {
			t.Errorf("rm of %s: %v", path, err)
		}
		if r := get(t, client, key); r.Count != 0 {
			t.Errorf("%q after rm of %s: %v", key, path, r.Kvs)
		}
	}
}
