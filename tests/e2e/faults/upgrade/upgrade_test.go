// Package upgrade replaces the members of a cluster of the first version by those of this one, one after the other, while
// clients go on.
package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"quorumfs.test/e2e/cluster"
)

// The last commit of version 0.1.
const firstVersion = "2f3ad31"

func TestMain(m *testing.M) { cluster.Main(m) }

// firstBuild is the directory of the programs of the first version: $QUORUMFS_OLD_BUILD, or built from the repository's history.
func firstBuild(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("QUORUMFS_OLD_BUILD"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "quorumfsd")); err != nil {
			t.Fatalf("QUORUMFS_OLD_BUILD: %v", err)
		}
		return dir
	}
	if os.Getenv("QUORUMFS_SOAK") == "" {
		t.Skip("it builds the first version: with QUORUMFS_SOAK, or name a build of " + firstVersion + " by QUORUMFS_OLD_BUILD")
	}
	if out, err := exec.Command("git", "-C", cluster.Top(), "cat-file", "-e", firstVersion+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("the commit %s of the first version is not here (a shallow clone?): %v %s", firstVersion, err, bytes.TrimSpace(out))
	}
	dir := cluster.TempDir(t)
	script := `git -C "$1" archive ` + firstVersion + ` | tar -x -C "$2" && make -C "$2" -j2 all`
	if out, err := exec.Command("sh", "-c", script, "sh", cluster.Top(), dir).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", firstVersion, err, out)
	}
	return filepath.Join(dir, "build")
}

func connect(t *testing.T, nodes ...*cluster.Node) *clientv3.Client {
	t.Helper()
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.ClientURL)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// world is the cluster, and what goes on in it all the time.
type world struct {
	t       *testing.T
	c       *cluster.Cluster
	first   string // the programs of the first version
	writers []*cluster.Writer
	mu      sync.Mutex
	events  []*clientv3.Event // of a watch by whatever sidecar is there
	round   int
}

func (w *world) isFirst(n *cluster.Node) bool { return n.Programs != "" }

// have is the nodes of the first version, or of this one.
func (w *world) have(first bool) (nodes []*cluster.Node) {
	for _, n := range w.c.Nodes {
		if w.isFirst(n) == first {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func start(t *testing.T, mount bool) *world {
	t.Helper()
	cluster.Need(t, "e2e/writer", "e2e/dump")
	w := &world{t: t, first: firstBuild(t)}
	w.c = cluster.New(t, cluster.Options{Nodes: 3, Mount: mount, HeartbeatMS: 50, ElectionMS: 500})
	for _, n := range w.c.Nodes {
		n.Programs = w.first
	}
	w.c.StartAll()
	return w
}

func (w *world) replace(n *cluster.Node, programs string) {
	w.t.Helper()
	if err := n.Stop(); err != nil {
		w.t.Fatalf("%s does not stop: %v\n%s", n.Name, err, n.LastLog())
	}
	n.Programs = programs
	n.Start()
	for _, wr := range w.writers {
		wr.GoesOn(w.t)
	}
}

// watch sees every put of the writers, through all that happens.
func (w *world) watch() {
	client := connect(w.t, w.c.Nodes...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
	ch := client.Watch(ctx, "w", clientv3.WithPrefix(), clientv3.WithRev(1))
	go func() {
		defer close(done)
		for r := range ch {
			w.mu.Lock()
			w.events = append(w.events, r.Events...)
			w.mu.Unlock()
		}
	}()
}

func within(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// serves: what the first version knows works by every sidecar and every mount, whoever leads.
func (w *world) serves() {
	w.t.Helper()
	w.round++
	t, round := w.t, fmt.Sprint(w.round)
	w.c.Leader()
	for _, n := range w.c.Nodes {
		client := connect(t, n)
		key := "/api/" + n.Name
		within(t, "by "+n.Name, func(ctx context.Context) error {
			ch := client.Watch(ctx, key, clientv3.WithCreatedNotify())
			if r, ok := <-ch; !ok || r.Err() != nil {
				return fmt.Errorf("no watch: %v", r.Err())
			}
			if _, err := client.Put(ctx, key, round); err != nil {
				return err
			}
			if r, ok := <-ch; !ok || len(r.Events) == 0 || string(r.Events[0].Kv.Value) != round {
				return fmt.Errorf("the watch says %v %v", r.Events, r.Err())
			}
			r, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), "=", round)).Then(clientv3.OpPut(key+"/txn", round),
				clientv3.OpGet(key, clientv3.WithPrefix())).Commit()
			if err != nil || !r.Succeeded {
				return fmt.Errorf("a transaction: %v %v", r, err)
			}
			return nil
		})
		for _, other := range w.c.Nodes {
			within(t, "read by "+other.Name, func(ctx context.Context) error {
				r, err := connect(t, other).Get(ctx, key)
				if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != round {
					return fmt.Errorf("%v %v", r, err)
				}
				return nil
			})
		}
		if n.Mount != "" {
			w.files(n, round)
		}
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// files changes a tree through one node's mount and looks at it through all.
func (w *world) files(n *cluster.Node, round string) {
	w.t.Helper()
	t, top := w.t, filepath.Join(n.Mount, "files-"+n.Name)
	large := strings.Repeat(round+" large ", 5000)
	must(t, "mkdir", os.MkdirAll(filepath.Join(top, "a", "b"), 0o755))
	must(t, "write", os.WriteFile(filepath.Join(top, "a", "b", "large"), []byte(large), 0o600))
	must(t, "write", os.WriteFile(filepath.Join(top, "new"), []byte(round), 0o644))
	must(t, "rename", os.Rename(filepath.Join(top, "new"), filepath.Join(top, "moved")))
	must(t, "chmod", os.Chmod(filepath.Join(top, "moved"), 0o640))
	os.Remove(filepath.Join(top, "link"))
	must(t, "symlink", os.Symlink("moved", filepath.Join(top, "link")))
	for _, other := range w.c.Nodes {
		there := filepath.Join(other.Mount, "files-"+n.Name)
		if b, err := os.ReadFile(filepath.Join(there, "link")); err != nil || string(b) != round {
			t.Fatalf("a file of %s at %s: %q %v", n.Name, other.Name, b, err)
		}
		if b, err := os.ReadFile(filepath.Join(there, "a/b/large")); err != nil || string(b) != large {
			t.Fatalf("a large file of %s at %s: %d bytes, %v", n.Name, other.Name, len(b), err)
		}
		if st, err := os.Stat(filepath.Join(there, "moved")); err != nil || st.Mode() != 0o640 {
			t.Fatalf("a mode of %s at %s: %v %v", n.Name, other.Name, st, err)
		}
	}
}

// refuses: what the first version does not know is refused for this reason, and nothing stops because of it.
func (w *world) refuses() {
	w.t.Helper()
	t := w.t
	pids := map[string]int{}
	for _, n := range w.c.Nodes {
		pids[n.Name] = n.NodePID()
	}
	for _, n := range w.have(false) {
		client := connect(t, n)
		calls := map[string]func(ctx context.Context) error{
			"LeaseGrant":  func(ctx context.Context) error { _, err := client.Grant(ctx, 60); return err },
			"LeaseRevoke": func(ctx context.Context) error { _, err := client.Revoke(ctx, 77); return err },
			"KeepAlive":   func(ctx context.Context) error { _, err := client.KeepAliveOnce(ctx, 77); return err },
			"TimeToLive":  func(ctx context.Context) error { _, err := client.TimeToLive(ctx, 77); return err },
			"MemberAdd": func(ctx context.Context) error {
				_, err := client.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"})
				return err
			},
			"MemberUpdate": func(ctx context.Context) error {
				list, err := client.MemberList(ctx)
				if err != nil {
					return err
				}
				_, err = client.MemberUpdate(ctx, list.Members[0].ID, []string{"http://127.0.0.1:1"})
				return err
			},
			"Alarm": func(ctx context.Context) error {
				_, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1, Alarm: 1})
				return err
			},
		}
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			err := call(ctx)
			cancel()
			if err == nil || !strings.Contains(err.Error(), "etcdserver: not capable") {
				t.Errorf("%s at %s: %v", name, n.Name, err)
			}
		}
		if n.Mount == "" {
			continue
		}
		path := filepath.Join(n.Mount, "files-"+n.Name, "moved")
		if err := syscall.Setxattr(path, "user.x", []byte("v"), 0); !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("setxattr at %s: %v", n.Name, err)
		}
		f, err := os.Open(path)
		must(t, "open", err)
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("flock at %s: %v", n.Name, err)
		}
		f.Close()
	}
	for _, n := range w.have(true) {
		client := connect(t, n)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if _, err := client.Grant(ctx, 60); status.Code(err) != codes.Unimplemented {
			t.Errorf("LeaseGrant at %s, of the first version: %v", n.Name, err)
		}
		cancel()
	}
	for _, n := range w.c.Nodes {
		if pid := n.NodePID(); pid == 0 || pid != pids[n.Name] {
			t.Errorf("the node of %s was %d and is %d:\n%s", n.Name, pids[n.Name], pid, n.LastLog())
		}
	}
}

// lead makes one of the first version, or of this one, the leader, by killing others until it is so.
func (w *world) lead(first bool) *cluster.Node {
	w.t.Helper()
	for try := 0; try < 30; try++ {
		leader := w.c.Leader()
		if w.isFirst(leader) == first {
			return leader
		}
		if !w.isFirst(leader) { // it can be asked
			st, err := w.have(first)[0].Status()
			must(w.t, "status", err)
			if out, err := leader.Ctl("move-leader", st.MemberID); err != nil {
				w.t.Logf("move-leader: %s %v", out, err)
			}
			continue
		}
		leader.Kill()
		leader.Start()
	}
	w.t.Fatalf("no leader with first=%v in 30 tries", first)
	return nil
}

// dies kills a node with everything of it while the writers of the others go on, and starts it again.
func (w *world) dies(n *cluster.Node) {
	w.t.Helper()
	n.Kill()
	for i, wr := range w.writers {
		if w.c.Nodes[i] != n {
			wr.GoesOn(w.t)
		}
	}
	n.Start()
	w.writers[n.Index].GoesOn(w.t)
}

// mixed is all that has to hold while both versions are there.
func (w *world) mixed() {
	w.t.Helper()
	w.serves()
	w.refuses()
	for _, first := range []bool{true, false} {
		leader := w.lead(first)
		w.t.Logf("%s leads, of the first version: %v", leader.Name, first)
		w.serves()
		w.refuses()
		w.dies(leader)
		w.serves()
	}
}

// able: what is new is there, by every node, without anybody having asked for it.
func (w *world) able() {
	w.t.Helper()
	t := w.t
	cluster.Until(t, "the cluster's version rises", func() (bool, string) {
		var st struct {
			ClusterVersion string `json:"cluster_version"`
		}
		err := w.c.Nodes[0].CtlJSON(&st, "status")
		return err == nil && st.ClusterVersion == "0.2", fmt.Sprint(st.ClusterVersion, err)
	})
	for _, n := range w.c.Nodes {
		client := connect(t, n)
		var lease clientv3.LeaseID
		cluster.Until(t, "leases at "+n.Name, func() (bool, string) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			r, err := client.Grant(ctx, 60)
			if err == nil {
				lease = r.ID
			}
			return err == nil, fmt.Sprint(err)
		})
		within(t, "a key of a lease at "+n.Name, func(ctx context.Context) error {
			_, err := client.Put(ctx, "/leased/"+n.Name, "v", clientv3.WithLease(lease))
			if err == nil {
				_, err = client.KeepAliveOnce(ctx, lease)
			}
			return err
		})
		if n.Mount == "" {
			continue
		}
		path := filepath.Join(n.Mount, "files-"+n.Name, "moved")
		cluster.Until(t, "attributes at "+n.Name, func() (bool, string) {
			err := syscall.Setxattr(path, "user.x", []byte("v"), 0)
			return err == nil, fmt.Sprint(err)
		})
		cluster.Until(t, "locks at "+n.Name, func() (bool, string) {
			f, err := os.Open(path)
			must(t, "open", err)
			defer f.Close()
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			return err == nil, fmt.Sprint(err)
		})
	}
}

// same: all nodes say the same of their keys and history.
func (w *world) same() {
	w.t.Helper()
	t := w.t
	var revision, hash int64
	for i, n := range w.c.Nodes {
		client := connect(t, n)
		within(t, "HashKV of "+n.Name, func(ctx context.Context) error {
			r, err := client.Get(ctx, "anything") // and a barrier
			if err != nil {
				return err
			}
			if i == 0 {
				revision = r.Header.Revision
			}
			h, err := client.HashKV(ctx, n.ClientURL, revision)
			if err != nil {
				return err
			}
			if i > 0 && int64(h.Hash) != hash {
				return fmt.Errorf("%d at revision %d, not %d", h.Hash, revision, hash)
			}
			hash = int64(h.Hash)
			return nil
		})
	}
}

func (w *world) end() {
	w.t.Helper()
	t := w.t
	for _, wr := range w.writers {
		wr.Stop(t)
		t.Logf("%s: %d writes acknowledged", wr.Prefix, len(wr.OK))
	}
	w.same()
	var rows string
	var first []cluster.Row
	for i, n := range w.c.Nodes {
		n.MustCtl("get", "anything")
		dump := n.Dump()
		if i == 0 {
			rows, first = fmt.Sprint(dump), dump
			for _, wr := range w.writers {
				wr.Check(t, dump)
			}
		}
		if fmt.Sprint(dump) != rows {
			t.Errorf("the log of %s is another than that of %s", n.Name, w.c.Nodes[0].Name)
		}
	}
	var puts []cluster.Row
	for _, r := range first {
		if strings.HasPrefix(r.Key, "w") {
			puts = append(puts, r)
		}
	}
	cluster.Until(t, "the watch has all", func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.events) >= len(puts), fmt.Sprintf("%d of %d", len(w.events), len(puts))
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, e := range w.events {
		if i >= len(puts) || e.Kv.ModRevision != puts[i].Revision || string(e.Kv.Value) != puts[i].Value {
			t.Fatalf("event %d of %d is %v; %d puts", i, len(w.events), e, len(puts))
		}
	}
}

func TestRollingUpgrade(t *testing.T) {
	w := start(t, true)
	c := w.c
	for i, n := range c.Nodes {
		w.writers = append(w.writers, cluster.StartWriter(t, n, fmt.Sprintf("w%d", i), 4, 5))
	}
	w.watch()
	w.serves()

	first := c.Follower()
	w.replace(first, "")
	w.mixed()

	// It did not please: back to the first version, and later on once more.
	w.replace(first, w.first)
	w.serves()
	w.replace(first, "")
	w.serves()
	w.refuses()

	second := w.have(true)[0]
	w.replace(second, "")
	w.mixed()

	// Back again, with the others as they are: what it published says that it is new.
	w.replace(second, w.first)
	w.serves()
	w.refuses()
	w.lead(false)
	w.refuses()
	w.replace(second, "")
	w.serves()
	w.refuses()

	w.replace(w.have(true)[0], "")
	w.able()
	w.serves()
	w.same()
	for range 2 {
		w.dies(c.Leader())
	}
	w.able()
	w.end()

	// As everybody now: a fourth, and a start after the power was gone.
	n := c.Join(c.Nodes...)
	c.Nodes[0].MustCtl("member", "add", n.Name, "--peer-urls", n.PeerURL)
	n.Start()
	w.same()
	for _, n := range c.Nodes {
		n.Kill()
	}
	c.StartAll()
	w.able()
	w.same()
}

// The last member of the first version is dead and does not come back: it is removed, and the others are able.
func TestTheLastOfTheFirstVersionIsDead(t *testing.T) {
	w := start(t, false)
	dead := w.c.Nodes[2]
	must(t, "put", func() error { _, err := w.c.Nodes[0].Put("k", "v"); return err }())
	w.replace(w.c.Nodes[0], "")
	w.replace(w.c.Nodes[1], "")
	dead.Kill()
	w.c.Leader()
	w.c.Nodes = w.c.Nodes[:2]
	w.refuses()
	var list struct {
		Members []struct {
			ID   uint64
			Name string
		}
	}
	must(t, "member list", w.c.Nodes[0].CtlJSON(&list, "member", "list"))
	for _, m := range list.Members {
		if m.Name == dead.Name {
			w.c.Nodes[0].MustCtl("member", "remove", fmt.Sprintf("%x", m.ID))
		}
	}
	w.able()
	if v, err := w.c.Nodes[1].Get("k"); err != nil || v != "v" {
		t.Fatalf("%q %v", v, err)
	}
	w.same()
}
