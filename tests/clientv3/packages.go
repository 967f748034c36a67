package clientv3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"quorumfs.test/e2e/cluster"
)

// Concurrency: sessions, mutexes, elections and transactions of etcd's package, at several nodes.
func Concurrency(t *testing.T, one, three *cluster.Cluster) {
	for _, c := range []*cluster.Cluster{one, three} {
		a, b := connect(t, c.Nodes[0]), connect(t, c.Nodes[len(c.Nodes)-1])
		ctx := within(t)
		session := func(c *clientv3.Client, ttl int) *concurrency.Session {
			s, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		// A mutex: TryLock fails while another holds it, and the lock follows when the other's session ends.
		s1, s2 := session(a, 5), session(b, 5)
		m1, m2 := concurrency.NewMutex(s1, "/pkg/mutex"), concurrency.NewMutex(s2, "/pkg/mutex")
		if err := m1.Lock(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m2.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
			t.Errorf("TryLock of a held mutex: %v", err)
		}
		if r, err := a.Txn(ctx).If(m1.IsOwner()).Then(clientv3.OpPut("/pkg/guarded", "x")).Commit(); err != nil || !r.Succeeded {
			t.Errorf("guarded by the owner: %v %v", r, err)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- m2.Lock(ctx) }()
		if err := s1.Close(); err != nil {
			t.Error(err)
		}
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		if r, err := b.Txn(ctx).If(m1.IsOwner()).Then(clientv3.OpPut("/pkg/guarded", "y")).Commit(); err != nil || r.Succeeded {
			t.Errorf("guarded by one who is not the owner any more: %v %v", r, err)
		}
		if err := m2.Unlock(ctx); err != nil {
			t.Error(err)
		}
		// A session whose client goes without a word ends with its lease.
		dying, err := clientv3.New(clientv3.Config{Endpoints: a.Endpoints(), DialTimeout: cluster.Bound, TLS: cluster.ClientTLS()})
		if err != nil {
			t.Fatal(err)
		}
		s3 := session(dying, 2)
		if err := concurrency.NewMutex(s3, "/pkg/mutex").Lock(ctx); err != nil {
			t.Fatal(err)
		}
		dying.Close()
		if err := m2.Lock(ctx); err != nil {
			t.Errorf("after the holder's death: %v", err)
		}
		m2.Unlock(ctx)
		s2.Close()
		stm(t, a, b)
	}
}

// stm moves units between accounts at all levels of isolation; none is lost or made.
func stm(t *testing.T, clients ...*clientv3.Client) {
	t.Helper()
	const accounts, moves = 5, 20
	account := func(i int) string { return fmt.Sprintf("/stm/%d", i) }
	for level, name := range map[concurrency.Isolation]string{
		concurrency.SerializableSnapshot: "serializable snapshot",
		concurrency.Serializable:         "serializable",
		concurrency.RepeatableReads:      "repeatable reads",
	} {
		for i := range accounts {
			put(t, clients[0], account(i), "100")
		}
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range moves {
					from, to := account((w+i)%accounts), account((w+2*i+1)%accounts)
					if from == to {
						continue
					}
					_, err := concurrency.NewSTM(clients[w%len(clients)], func(s concurrency.STM) error {
						var x, y int
						fmt.Sscan(s.Get(from), &x)
						fmt.Sscan(s.Get(to), &y)
						s.Put(from, fmt.Sprint(x-1))
						s.Put(to, fmt.Sprint(y+1))
						return nil
					}, concurrency.WithIsolation(level))
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			}()
		}
		wg.Wait()
		sum := 0
		for i := range accounts {
			var v int
			fmt.Sscan(string(get(t, clients[0], account(i)).Kvs[0].Value), &v)
			sum += v
		}
		if sum != 100*accounts {
			t.Errorf("%s: %d units of %d", name, sum, 100*accounts)
		}
	}
}

// Mirror: the base at one revision in pieces, and from there every update.
func Mirror(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, three.Nodes[0])
	writer := connect(t, three.Nodes[1])
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
	defer cancel()
	const keys = 2500
	for i := 0; i < keys; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/mirror/%04d", j), "base"))
		}
		if _, err := writer.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	s := mirror.NewSyncer(c, "/mirror/", 0)
	got := map[string]string{}
	base, errs := s.SyncBase(ctx)
	for i := range 100 {
		put(t, writer, fmt.Sprintf("/mirror/%04d", i*7), fmt.Sprint("update ", i))
	}
	for r := range base {
		for _, kv := range r.Kvs {
			got[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	if len(got) != keys {
		t.Fatalf("%d keys of %d in the base", len(got), keys)
	}
	if _, err := writer.Delete(ctx, "/mirror/0001"); err != nil {
		t.Fatal(err)
	}
	last := put(t, writer, "/mirror/end", "").Header.Revision
	for r := range s.SyncUpdates(ctx) {
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypeDelete {
				delete(got, string(e.Kv.Key))
			} else {
				got[string(e.Kv.Key)] = string(e.Kv.Value)
			}
		}
		if r.Header.Revision >= last {
			break
		}
	}
	now := get(t, c, "/mirror/", clientv3.WithPrefix())
	if len(now.Kvs) != len(got) {
		t.Errorf("%d keys mirrored of %d", len(got), len(now.Kvs))
	}
	for _, kv := range now.Kvs {
		if got[string(kv.Key)] != string(kv.Value) {
			t.Errorf("%s mirrored as %q", kv.Key, got[string(kv.Key)])
		}
	}
}

// Namespace: a client below a prefix sees nothing else.
func Namespace(t *testing.T, one, three *cluster.Cluster) {
	outer := connect(t, one.Nodes[0])
	inner := connect(t, one.Nodes[0])
	inner.KV = namespace.NewKV(inner.KV, "/space")
	inner.Watcher = namespace.NewWatcher(inner.Watcher, "/space")
	inner.Lease = namespace.NewLease(inner.Lease, "/space")
	put(t, outer, "/outside", "x")
	watch := inner.Watch(within(t), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	next(t, watch)
	lease := grant(t, inner, 100)
	put(t, inner, "/inside", "y", clientv3.WithLease(lease))
	if e := events(t, watch, 1); string(e[0].Kv.Key) != "/inside" {
		t.Errorf("event of %s", e[0].Kv.Key)
	}
	if r := get(t, outer, "/space/inside"); len(r.Kvs) != 1 {
		t.Errorf("seen from outside: %v", r.Kvs)
	}
	if r := get(t, inner, "/", clientv3.WithPrefix()); len(r.Kvs) != 1 || string(r.Kvs[0].Key) != "/inside" {
		t.Errorf("seen from inside: %v", r.Kvs)
	}
	if l, err := inner.TimeToLive(within(t), lease, clientv3.WithAttachedKeys()); err != nil || len(l.Keys) != 1 || string(l.Keys[0]) != "/inside" {
		t.Errorf("attached keys: %v %v", l, err)
	}
	r, err := inner.Txn(within(t)).If(clientv3.Compare(clientv3.Value("/inside"), "=", "y")).
		Then(clientv3.OpDelete("/inside")).Else(clientv3.OpGet("/inside")).Commit()
	if err != nil || !r.Succeeded {
		t.Errorf("txn: %v %v", r, err)
	}
	if e := events(t, watch, 1); e[0].Type != clientv3.EventTypeDelete {
		t.Errorf("instead of the delete: %v", e)
	}
	if _, err := inner.Revoke(within(t), lease); err != nil {
		t.Error(err)
	}
}

// Ordering: a client that reads at changing nodes never goes back; the wrapper has nothing to mend.
func Ordering(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, three.Nodes...)
	violations := 0
	kv := ordering.NewKV(c.KV, func(op clientv3.Op, resp clientv3.OpResponse, previous int64) error {
		violations++
		return ordering.ErrNoGreaterRev
	})
	for i := range 100 {
		put(t, c, "/ordering", fmt.Sprint(i))
		if r, err := kv.Get(within(t), "/ordering"); err != nil || string(r.Kvs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("%d: %v %v", i, r, err)
		}
	}
	if violations > 0 {
		t.Errorf("%d linearizable reads went back", violations)
	}
}

// Leasing: reads from a cache that other clients' writes revoke.
func Leasing(t *testing.T, one, three *cluster.Cluster) {
	a, b := connect(t, three.Nodes[0]), connect(t, three.Nodes[1])
	cached, closeA, err := leasing.NewKV(a, "/leasing-of/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeA()
	other, closeB, err := leasing.NewKV(b, "/leasing-of/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeB()
	put(t, a, "/leasing/k", "0")
	for i := range 10 {
		r, err := cached.Get(within(t), "/leasing/k")
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("round %d: %v %v", i, r, err)
		}
		if again, err := cached.Get(within(t), "/leasing/k"); err != nil || string(again.Kvs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("round %d, cached: %v %v", i, again, err)
		}
		writer := other
		if i%2 == 1 {
			writer = cached
		}
		if _, err := writer.Put(within(t), "/leasing/k", fmt.Sprint(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := cached.Txn(within(t)).If(clientv3.Compare(clientv3.Value("/leasing/k"), "=", "10")).
		Then(clientv3.OpPut("/leasing/k", "11")).Commit()
	if err != nil || !r.Succeeded {
		t.Errorf("txn: %v %v", r, err)
	}
}

// Naming: endpoints registered under a name with a lease, resolved by gRPC.
func Naming(t *testing.T, one, three *cluster.Cluster) {
	c := connect(t, one.Nodes[0])
	ctx := within(t)
	m, err := endpoints.NewManager(c, "/services/self")
	if err != nil {
		t.Fatal(err)
	}
	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lease := grant(t, c, 100)
	address := one.Nodes[0].Endpoint()
	if err := m.AddEndpoint(ctx, "/services/self/1", endpoints.Endpoint{Addr: address}, clientv3.WithLease(lease)); err != nil {
		t.Fatal(err)
	}
	if u := <-updates; len(u) != 1 || u[0].Op != endpoints.Add || u[0].Endpoint.Addr != address {
		t.Errorf("update: %v", u)
	}
	builder, err := resolver.NewBuilder(c)
	if err != nil {
		t.Fatal(err)
	}
	creds := insecure.NewCredentials()
	if config := cluster.ClientTLS(); config != nil {
		config.ServerName = "localhost" // not the service's name
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.Dial("etcd:////services/self", grpc.WithResolvers(builder), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if r, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil ||
		r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("through the name: %v %v", r, err)
	}
	if _, err := c.Revoke(ctx, lease); err != nil {
		t.Error(err)
	}
	if u := <-updates; len(u) != 1 || u[0].Op != endpoints.Delete {
		t.Errorf("update: %v", u)
	}
	if all, err := m.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("left: %v %v", all, err)
	}
}

// KeepAliveEnds: the channel of a lease that is revoked elsewhere is closed.
func KeepAliveEnds(t *testing.T, one, three *cluster.Cluster) {
	a, b := connect(t, three.Nodes[0]), connect(t, three.Nodes[1])
	lease := grant(t, a, 2)
	beats, err := a.KeepAlive(context.Background(), lease)
	if err != nil {
		t.Fatal(err)
	}
	if k := <-beats; k.TTL != 2 {
		t.Errorf("kept alive: %v", k)
	}
	if _, err := b.Revoke(within(t), lease); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(cluster.Bound)
	for open := true; open; {
		select {
		case _, open = <-beats:
		case <-timeout:
			t.Fatal("the channel is not closed")
		}
	}
	if _, err := a.KeepAliveOnce(within(t), lease); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("once more: %v", err)
	}
}
