package clientv3

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

// Etcdctl: the tool as the distribution packages it (etcd-client).
func Etcdctl(t *testing.T, one, three *cluster.Cluster) {
	program, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Fatalf("etcdctl is not installed: %v", err)
	}
	for _, c := range []*cluster.Cluster{one, three} {
		command := func(args ...string) *exec.Cmd {
			cmd := exec.CommandContext(within(t), program, append([]string{"--endpoints", strings.Join(c.ClientURLs(), ",")}, args...)...)
			cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
			return cmd
		}
		run := func(stdin string, args ...string) string {
			t.Helper()
			cmd := command(args...)
			cmd.Stdin = strings.NewReader(stdin)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		from := get(t, connect(t, c.Nodes[0]), "/ctl/a").Header.Revision + 1
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		watch := exec.CommandContext(ctx, program, "--endpoints", c.Nodes[0].ClientURL, "watch", "--prefix", "/ctl/", "--rev", fmt.Sprint(from))
		watch.Env = append(os.Environ(), "ETCDCTL_API=3")
		var words bytes.Buffer // of the watch
		watch.Stderr = &words
		pipe, err := watch.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := watch.Start(); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			stdin string
			args  string
			want  string
		}{
			{"", "put /ctl/a one", "OK\n"},
			{"", "get /ctl/a", "/ctl/a\none\n"},
			{"", "put /ctl/a two --prev-kv", "OK\n/ctl/a\none\n"},
			{"", "put /ctl/b three", "OK\n"},
			{"", "get --prefix /ctl/ --keys-only", "/ctl/a\n\n/ctl/b\n\n"},
			{"", "get --prefix /ctl/ --print-value-only --order DESCEND --sort-by KEY", "three\ntwo\n"},
			{"value(\"/ctl/a\") = \"two\"\n\nput /ctl/a four\nget /ctl/b\n\nput /ctl/x no\n\n", "txn", "SUCCESS\n\nOK\n\n/ctl/b\nthree\n"},
			{"", "del /ctl/b --prev-kv", "1\n/ctl/b\nthree\n"},
			{"", "get /ctl/b", ""},
		} {
			if got := run(x.stdin, strings.Fields(x.args)...); got != x.want {
				t.Errorf("etcdctl %s: %q, not %q", x.args, got, x.want)
			}
		}
		lines := bufio.NewScanner(pipe)
		for _, want := range strings.Fields("PUT /ctl/a one PUT /ctl/a two PUT /ctl/b three PUT /ctl/a four DELETE /ctl/b") {
			if !lines.Scan() || lines.Text() != want {
				watch.Process.Kill()
				watch.Wait()
				t.Fatalf("watch printed %q, not %q: %s", lines.Text(), want, words.String())
			}
		}
		cancel()
		watch.Wait()
		for _, n := range c.Nodes {
			if out := run("", "endpoint", "status"); !strings.Contains(out, n.ClientURL+", ") || !strings.Contains(out, ", 3.6.") {
				t.Errorf("endpoint status: %s", out)
			}
			if out := run("", "endpoint", "health"); !strings.Contains(out, n.ClientURL+" is healthy") {
				t.Errorf("endpoint health: %s", out)
			}
		}
	}
}
