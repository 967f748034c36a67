// Package quickstart runs ./quickstart as a newcomer does, in a directory of its own.
package quickstart

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

func quickstart(t *testing.T, home string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(cluster.Top(), "quickstart"), arguments...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "QUORUMFS_QUICKSTART="+home)
	cmd.WaitDelay = 5 * time.Second
	file, err := os.Create(home + ".out") // a file: the nodes go on running, and would hold a pipe
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	err = cmd.Run()
	out, _ := os.ReadFile(file.Name())
	if err != nil {
		t.Fatalf("quickstart %v: %v\n%s", arguments, err, out)
	}
	return string(out)
}

func pid(t *testing.T, home, node string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(home, node+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(text), &pid)
	return pid
}

func mustSay(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("it does not say %q:\n%s", w, out)
		}
	}
}

func TestQuickstartDemonstratesStopsAndCleans(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	home := filepath.Join(cluster.TempDir(t), "qs")
	defer func() {
		if t.Failed() {
			for _, n := range []string{"a", "b", "c"} {
				log, _ := os.ReadFile(filepath.Join(home, n+".log"))
				t.Logf("---- %s ----\n%s", n, log)
			}
			exec.Command(filepath.Join(cluster.Top(), "quickstart"), "clean").Run()
		}
	}()
	t.Setenv("QUORUMFS_QUICKSTART", home)

	out := quickstart(t, home, "--no-install")
	mustSay(t, out, "CLOSE_WRITE,CLOSE "+home+"/c/motd", "hello from a", "no difference", "the clientv3 watcher at b saw",
		"It goes on running")
	if points, _ := cluster.Mounts(home); len(points) != 3 {
		t.Errorf("mounted: %v", points)
	}
	mustSay(t, quickstart(t, home, "status"), "mounted at "+home+"/c")

	// Again, with one node dead: that one is started, the others are left as they are.
	b := pid(t, home, "b")
	if err := syscall.Kill(pid(t, home, "a"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustSay(t, quickstart(t, home, "--no-install"), "node a: ready", "no difference")
	if now := pid(t, home, "b"); now != b {
		t.Errorf("b was process %d and is %d", b, now)
	}

	// A stop keeps the data.
	quickstart(t, home, "stop")
	if points, _ := cluster.Mounts(home); len(points) != 0 {
		t.Errorf("after the stop there are mounts: %v", points)
	}
	if cluster.Alive(b) {
		t.Errorf("after the stop process %d is there", b)
	}
	mustSay(t, quickstart(t, home, "status"), "node a: does not run")
	quickstart(t, home, "stop") // again is no error
	mustSay(t, quickstart(t, home, "--no-install"), "node c: ready", "no difference")

	quickstart(t, home, "clean")
	if _, err := os.Stat(home); err == nil {
		t.Error("clean left its directory")
	}
	quickstart(t, home, "clean")
}
