package clientv3

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"quorumfs.test/e2e/cluster"
)

// Program: a sidecar started by hand beside the node's own, with flags of its own; how it starts and ends.
func Program(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	start := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		var words bytes.Buffer
		// before the case's own, which count when a flag is there twice
		args = append(append([]string{"--socket", n.Socket()}, cluster.SecureFlags()...), args...)
		cmd := exec.Command(cluster.Program("quorumfs-grpc"), args...)
		cmd.Stderr = &words
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		return cmd, &words
	}
	for _, x := range []struct{ args, word string }{
		{"--listen-client-urls " + n.ClientURL, "Address already in use"},
		{"--listen-client-urls http://127.0.0.1", "--listen-client-urls"},
		{"--listen-client-urls https://127.0.0.1:1 --cert-file= --key-file=/nowhere", "file"},
		{"--nonsense 1", "--nonsense"},
		{"--log-level loud", "--log-level"},
		{"--watch-progress-notify-interval 1ms", "--watch-progress-notify-interval"},
	} {
		cmd, words := start(strings.Fields(x.args)...)
		cmd.Wait()
		if cmd.ProcessState.ExitCode() != 2 || strings.Count(words.String(), "\n") != 1 || !strings.Contains(words.String(), x.word) {
			t.Errorf("%s: %v, %q", x.args, cmd.ProcessState, words)
		}
	}

	url := fmt.Sprintf(cluster.Scheme()+"://127.0.0.1:%d", cluster.FreePort(t))
	cmd, words := start("--listen-client-urls", url, "--watch-progress-notify-interval", "100ms")
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: cluster.Bound, TLS: cluster.ClientTLS(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cluster.Until(t, "the second sidecar answers", func() (bool, string) {
		_, err := c.Get(within(t), "/program")
		return err == nil, fmt.Sprint(err)
	})
	revision := put(t, c, "/program", "x").Header.Revision
	ch := c.Watch(within(t), "/program", clientv3.WithProgressNotify(), clientv3.WithRev(revision))
	if got := events(t, ch, 1); string(got[0].Kv.Value) != "x" {
		t.Errorf("the event before: %v", got)
	}
	for range 3 {
		if r := next(t, ch); !r.IsProgressNotify() || r.Header.Revision < revision {
			t.Errorf("instead of progress: %v", r)
		}
	}
	put(t, c, "/program", "y")
	for {
		if r := next(t, ch); !r.IsProgressNotify() {
			if len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "y" {
				t.Errorf("after progress: %v", r)
			}
			break
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, words)
	}
}
