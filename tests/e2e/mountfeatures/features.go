// Package mountfeatures tests what a mount has beside files: .quorumfs, extended attributes, locks, options.
package mountfeatures

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func shell(t testing.TB, dir, script string) string {
	t.Helper()
	out, err := try(dir, script)
	if err != nil {
		t.Fatalf("in %s: %s: %v\n%s", dir, script, err, out)
	}
	return out
}

func try(dir, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-u", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %v", cluster.Bound)
	}
	return string(out), err
}

func needMounts(t testing.TB) {
	t.Helper()
	cluster.Need(t, "quorumfsd", "quorumfs", "quorumctl")
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
}

// nodes starts so many nodes with a mount each and no sidecars.
func nodes(t testing.TB, n int, flags ...string) *cluster.Cluster {
	t.Helper()
	needMounts(t)
	return cluster.Start(t, cluster.Options{Nodes: n, Mount: true, Flags: func(*cluster.Node) []string {
		return append([]string{"--no-sidecar"}, flags...)
	}})
}

// in is a path below a node's mount.
func in(n *cluster.Node, path ...string) string {
	return filepath.Join(append([]string{n.Mount}, path...)...)
}

// expect runs a script until it prints what is wanted: what another node shows may lag.
func expect(t testing.TB, dir, script, want string) {
	t.Helper()
	cluster.Until(t, script, func() (bool, string) {
		out, err := try(dir, script)
		return err == nil && out == want, fmt.Sprintf("%q, %v; wanted %q", out, err, want)
	})
}

// start starts a program that does not outlive the test.
func start(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}
