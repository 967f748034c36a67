package clientv3

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// Kill: under writes and 1,000 watchers the sidecar and then the leader are killed with SIGKILL, again and again. The
// client resumes by itself, and in the end every watcher has got what the log holds for its key, once and in order. So
// have 100 more that want a leader, as far as they got: clientv3 does not resume those after there was none.
func Kill(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	const keys, strict, prefixed = 1000, 100, 10
	rounds := 3
	if Soak() {
		rounds = 50
	}
	client := connect(t, c.Nodes...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	start := put(t, client, "/kill/begin", "").Header.Revision + 1
	key := func(i int) string { return fmt.Sprintf("/kill/key-%d", i) }

	type event struct {
		rev   int64
		value string
	}
	var mu sync.Mutex
	got := make([][]event, keys+strict)
	var broken atomic.Int64
	var wg sync.WaitGroup
	for i := range got {
		ch := client.Watch(ctx, key(i), clientv3.WithRev(start))
		if i >= keys {
			ch = client.Watch(clientv3.WithRequireLeader(ctx), key(i-keys), clientv3.WithRev(start))
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for r := range ch {
				if r.Err() != nil && i < keys {
					broken.Add(1)
				}
				mu.Lock()
				for _, e := range r.Events {
					got[i] = append(got[i], event{e.Kv.ModRevision, string(e.Kv.Value)})
				}
				mu.Unlock()
			}
		}()
	}
	all := make([][]event, prefixed)
	for i := range all {
		ch := client.Watch(ctx, "/kill/key-", clientv3.WithPrefix(), clientv3.WithRev(start))
		wg.Add(1)
		go func() {
			defer wg.Done()
			for r := range ch {
				if r.Err() != nil {
					broken.Add(1)
				}
				mu.Lock()
				for _, e := range r.Events {
					all[i] = append(all[i], event{e.Kv.ModRevision, string(e.Kv.Value)})
				}
				mu.Unlock()
			}
		}()
	}
	var writers sync.WaitGroup
	stop := make(chan struct{})
	var acked atomic.Int64
	for w := range 4 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				one, done := context.WithTimeout(ctx, 5*time.Second)
				if _, err := client.Put(one, key((n*7+w)%keys), fmt.Sprintf("%d-%d", w, n)); err == nil {
					acked.Add(1)
				}
				done()
			}
		}()
	}
	progress := func(what string) {
		t.Helper()
		from := acked.Load()
		cluster.Until(t, "writes go on "+what, func() (bool, string) {
			return acked.Load() >= from+200, fmt.Sprint(acked.Load()-from, " acknowledged")
		})
	}
	progress("at first")
	for round := range rounds {
		n := c.Nodes[round%3]
		pid := n.Child("quorumfs-grpc")
		if pid == 0 {
			t.Fatalf("%s has no sidecar", n.Name)
		}
		syscall.Kill(pid, syscall.SIGKILL)
		cluster.Until(t, "a new sidecar", func() (bool, string) {
			now := n.Child("quorumfs-grpc")
			if now == 0 || now == pid {
				return false, "none yet"
			}
			_, body, err := fetch(n, "/health")
			return err == nil && strings.Contains(body, `"true"`), fmt.Sprint(body, err)
		})
		progress("after the sidecar's death")
		leader := c.Leader()
		leader.Kill()
		progress("without the leader")
		leader.Start()
		progress("with all nodes")
	}
	close(stop)
	writers.Wait()
	last := put(t, client, "/kill/end", "").Header.Revision
	n := c.Nodes[0]
	local := connect(t, n)
	get(t, local, "/kill/end")
	want := make([][]event, keys)
	var whole []event
	total := 0
	for _, row := range n.DumpFrom(start) {
		var i int
		if row.Revision < start || row.Revision > last {
			continue
		}
		if _, err := fmt.Sscanf(row.Key, "/kill/key-%d", &i); err == nil {
			want[i] = append(want[i], event{row.Revision, row.Value})
			whole = append(whole, event{row.Revision, row.Value})
			total++
		}
	}
	if int64(total) < acked.Load() {
		t.Errorf("%d writes were acknowledged, the log has %d", acked.Load(), total)
	}
	cluster.Until(t, "every watcher has as many events as the log", func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		for i := range keys {
			if len(got[i]) < len(want[i]) {
				return false, fmt.Sprintf("watcher %d has %d of %d", i, len(got[i]), len(want[i]))
			}
		}
		for i := range all {
			if len(all[i]) < len(whole) {
				return false, fmt.Sprintf("watcher %d of the prefix has %d of %d", i, len(all[i]), len(whole))
			}
		}
		return true, ""
	})
	cancel()
	wg.Wait()
	if broken.Load() > 0 {
		t.Errorf("%d watchers were ended", broken.Load())
	}
	for i := range got {
		logged := want[i%keys]
		if len(got[i]) > len(logged) {
			t.Fatalf("watcher %d has %d events, the log %d", i, len(got[i]), len(logged))
		}
		for j := range got[i] {
			if got[i][j] != logged[j] {
				t.Fatalf("watcher %d, event %d: %v, the log has %v", i, j, got[i][j], logged[j])
			}
		}
	}
	for i := range all {
		if !slices.Equal(all[i], whole) {
			t.Errorf("watcher %d of the prefix has %d events, not those of the log, which are %d", i, len(all[i]), len(whole))
		}
	}
	fmt.Fprintf(os.Stderr, "kill: %d rounds, %d writes acknowledged, %d events for %d watchers\n", rounds, acked.Load(), total, keys)
}
