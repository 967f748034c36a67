package clientv3

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"quorumfs.test/e2e/cluster"
)

// restored makes a new cluster of what etcdctl saved, and looks for a key in it.
func restored(t *testing.T, path string, want *mvccpb.KeyValue) {
	t.Helper()
	c := cluster.New(t, cluster.Options{})
	n := c.Nodes[0]
	out, err := exec.Command(cluster.Program("quorumctl"), "snapshot", "restore", path, "--data-dir", n.DataDir, "--name", n.Name,
		"--initial-cluster", c.InitialCluster(), "--initial-cluster-token", c.Token, "--initial-advertise-peer-urls", n.PeerURL).CombinedOutput()
	if err != nil {
		t.Errorf("restore: %v %s", err, out)
		return
	}
	n.Start()
	r := get(t, connect(t, n), string(want.Key))
	if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != string(want.Value) || r.Kvs[0].ModRevision != want.ModRevision {
		t.Errorf("restored: %v, saved: %v", r.Kvs, want)
	}
}

// EtcdctlMore: leases, locks, elections, members and maintenance by etcdctl as the distribution packages it.
func EtcdctlMore(t *testing.T, one, three *cluster.Cluster) {
	program, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Fatalf("etcdctl is not installed: %v", err)
	}
	for _, c := range []*cluster.Cluster{one, three} {
		command := func(ctx context.Context, args ...string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, program, append([]string{"--endpoints", strings.Join(c.ClientURLs(), ",")}, args...)...)
			cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
			return cmd
		}
		run := func(want string, args ...string) []string {
			t.Helper()
			out, err := command(within(t), args...).CombinedOutput()
			if err != nil {
				t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
			}
			m := regexp.MustCompile("(?s)^" + want + "$").FindStringSubmatch(string(out))
			if m == nil {
				t.Fatalf("etcdctl %v: %q, not %q", args, out, want)
			}
			return m
		}
		fails := func(want string, args ...string) {
			t.Helper()
			out, err := command(within(t), args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("etcdctl %v: %v, %q, not %q", args, err, out, want)
			}
		}
		// start runs one that goes on, and gives its lines.
		start := func(args ...string) (*bufio.Scanner, func()) {
			t.Helper()
			ctx, cancel := context.WithCancel(context.Background())
			cmd := command(ctx, args...)
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			return bufio.NewScanner(pipe), func() {
				cmd.Process.Signal(os.Interrupt)
				cmd.Wait()
				cancel()
			}
		}
		line := func(s *bufio.Scanner, want string) string {
			t.Helper()
			if !s.Scan() || !regexp.MustCompile("^"+want+"$").MatchString(s.Text()) {
				t.Fatalf("printed %q, not %q: %v", s.Text(), want, s.Err())
			}
			return s.Text()
		}

		// leases
		id := run(`lease ([0-9a-f]+) granted with TTL\(50s\)\n`, "lease", "grant", "50")[1]
		run("OK\n", "put", "/ctl2/leased", "x", "--lease="+id)
		run("lease "+id+` granted with TTL\(50s\), remaining\([0-9]+s\), attached keys\(\[/ctl2/leased\]\)\n`, "lease", "timetolive", id, "--keys")
		run("lease "+id+` keepalived with TTL\(50\)\n`, "lease", "keep-alive", "--once", id)
		run(`found [0-9]+ leases\n.*`+id+`\n.*`, "lease", "list")
		run("lease "+id+" revoked\n", "lease", "revoke", id)
		run("", "get", "/ctl2/leased")
		run("lease "+id+" already expired\n", "lease", "timetolive", id)
		fails("requested lease not found", "lease", "revoke", id)

		// a lock, held while a program runs
		run(`/ctl2-lock/[0-9a-f]+\n`, "lock", "/ctl2-lock", "printenv", "ETCD_LOCK_KEY")
		holder, release := start("lock", "/ctl2-lock")
		key := line(holder, "/ctl2-lock/[0-9a-f]+")
		next, releaseNext := start("lock", "/ctl2-lock")
		cluster.Until(t, "two stand in the queue", func() (bool, string) {
			out, err := command(within(t), "get", "--prefix", "/ctl2-lock/", "--keys-only").CombinedOutput()
			return err == nil && strings.Count(string(out), "/ctl2-lock/") == 2, string(out)
		})
		release()
		if line(next, "/ctl2-lock/[0-9a-f]+") == key {
			t.Error("the lock did not change hands")
		}
		releaseNext()

		// an election and somebody who listens
		listener, endListener := start("elect", "-l", "/ctl2-election")
		leader, resign := start("elect", "/ctl2-election", "proposal")
		line(leader, "/ctl2-election/[0-9a-f]+")
		line(leader, "proposal")
		line(listener, "/ctl2-election/[0-9a-f]+")
		line(listener, "proposal")
		resign()
		endListener()

		// history
		run("OK\n", "put", "/ctl2/h", "1")
		revision := run(`.*"revision":([0-9]+).*`, "put", "/ctl2/h", "2", "-w", "json")[1]
		run("compacted revision "+revision+"\n", "compaction", revision, "--physical=true")
		fails("required revision has been compacted", "get", "/ctl2/h", "--rev=1")
		fails("required revision is a future revision", "compaction", "999999999")

		// the cluster
		members := run(`(?:[0-9a-f]+, started, n[0-9], https?://[^ ]+, https?://[^ ]+, false\n)+`, "member", "list")
		if n := strings.Count(members[0], "\n"); n != len(c.Nodes) {
			t.Errorf("%d members listed", n)
		}
		run(fmt.Sprintf(`(?:[^\n]+is healthy: successfully committed proposal: took = [^\n]+\n){%d}`, len(c.Nodes)), "endpoint", "health", "--cluster")
		run(fmt.Sprintf(`(?:https?://[^ ]+, [0-9a-f]+, 3\.6\.[0-9]+, [^,]+, (?:true|false), false, [0-9]+, [0-9]+, [0-9]+, \n){%d}`, len(c.Nodes)), "endpoint", "status")
		hashes := run(fmt.Sprintf(`(?:https?://[^ ]+, [0-9]+\n){%d}`, len(c.Nodes)), "endpoint", "hashkv")[0]
		all := regexp.MustCompile(`, ([0-9]+)\n`).FindAllStringSubmatch(hashes, -1)
		for _, m := range all {
			if m[1] != all[0][1] {
				t.Errorf("hashkv: %s", hashes)
			}
		}
		run("", "alarm", "list")
		run("", "alarm", "disarm")
		run(fmt.Sprintf(`(?:Finished defragmenting etcd member\[[^\n]+\]\n){%d}`, len(c.Nodes)), "defrag")
		if len(c.Nodes) > 1 {
			target := c.Follower()
			st, err := target.Status()
			if err != nil {
				t.Fatal(err)
			}
			run(`Leadership transferred from [0-9a-f]+ to `+st.MemberID+`\n`, "move-leader", st.MemberID)
		}

		// a snapshot
		path := filepath.Join(c.Dir, "ctl.snapshot")
		out, err := exec.Command(program, "--endpoints", c.Nodes[0].ClientURL, "snapshot", "save", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Snapshot saved at "+path) {
			t.Errorf("snapshot save: %v %s", err, out)
		}
		image, err := os.ReadFile(path)
		if err != nil || len(image)%512 != sha256.Size {
			t.Errorf("the snapshot's file: %d bytes, %v", len(image), err)
		}
		restored(t, path, get(t, connect(t, c.Nodes[0]), "/ctl2/h").Kvs[0])
		os.Remove(path)
	}

	// a mirror of one cluster in the other
	ctx, cancel := context.WithCancel(context.Background())
	args := []string{"--endpoints", three.Nodes[0].ClientURL, "make-mirror", "--prefix", "/mirrored/", "--dest-prefix", "/copy/", "--no-dest-prefix=false"}
	if ca := os.Getenv("ETCDCTL_CACERT"); ca != "" {
		args = append(args, "--dest-insecure-transport=false", "--dest-cacert", ca, "--dest-cert", os.Getenv("ETCDCTL_CERT"), "--dest-key", os.Getenv("ETCDCTL_KEY"))
	}
	cmd := exec.CommandContext(ctx, program, append(args, one.Nodes[0].Endpoint())...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	from, to := connect(t, three.Nodes[0]), connect(t, one.Nodes[0])
	put(t, from, "/mirrored/a", "before")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	arrives := func(key, value string) {
		t.Helper()
		cluster.Until(t, key+" arrives", func() (bool, string) {
			r := get(t, to, key)
			return len(r.Kvs) == 1 && string(r.Kvs[0].Value) == value, fmt.Sprint(r.Kvs)
		})
	}
	arrives("/copy/a", "before")
	put(t, from, "/mirrored/b", "after")
	arrives("/copy/b", "after")
	if _, err := from.Delete(within(t), "/mirrored/a"); err != nil {
		t.Fatal(err)
	}
	cluster.Until(t, "the delete arrives", func() (bool, string) { return get(t, to, "/copy/a").Count == 0, "it is there" })
	cancel()
	cmd.Wait()
	if Soak() {
		out, err := exec.Command(program, "--endpoints", one.Nodes[0].ClientURL, "check", "perf").CombinedOutput()
		if err != nil {
			t.Errorf("check perf: %v %s", err, out)
		}
	}
}
