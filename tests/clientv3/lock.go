package clientv3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"quorumfs.test/e2e/cluster"
)

// The messages of v3lock and v3election are those of etcd's server module; these few are written by hand instead.

func appendBytes(m []byte, number protowire.Number, v string) []byte {
	if v == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), v)
}

func appendInt(m []byte, number protowire.Number, v int64) []byte {
	if v == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(v))
}

// fields of a message: the last value of each number, as text.
func fields(m []byte) (map[protowire.Number]string, error) {
	all := map[protowire.Number]string{}
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		m = m[n:]
		switch kind {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(m)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			all[number], m = string(v), m[n:]
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(m)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			all[number], m = fmt.Sprint(int64(v)), m[n:]
		default:
			return nil, fmt.Errorf("field %d of kind %d", number, kind)
		}
	}
	return all, nil
}

type answer struct {
	Header pb.ResponseHeader
	Fields map[protowire.Number]string
}

func readAnswer(m []byte) (*answer, error) {
	f, err := fields(m)
	if err != nil {
		return nil, err
	}
	a := &answer{Fields: f}
	return a, a.Header.Unmarshal([]byte(f[1]))
}

func invoke(ctx context.Context, c *clientv3.Client, method string, request []byte) (*answer, error) {
	var reply []byte
	if err := c.ActiveConnection().Invoke(ctx, method, &request, &reply, grpc.ForceCodec(rawBytes{})); err != nil {
		return nil, err
	}
	return readAnswer(reply)
}

func lockCall(ctx context.Context, c *clientv3.Client, name string, lease clientv3.LeaseID) (*answer, error) {
	return invoke(ctx, c, "/v3lockpb.Lock/Lock", appendInt(appendBytes(nil, 1, name), 2, int64(lease)))
}

func unlockCall(ctx context.Context, c *clientv3.Client, key string) (*answer, error) {
	return invoke(ctx, c, "/v3lockpb.Lock/Unlock", appendBytes(nil, 1, key))
}

func campaignCall(ctx context.Context, c *clientv3.Client, name string, lease clientv3.LeaseID, value string) (*answer, error) {
	return invoke(ctx, c, "/v3electionpb.Election/Campaign", appendBytes(appendInt(appendBytes(nil, 1, name), 2, int64(lease)), 3, value))
}

func grant(t testing.TB, c *clientv3.Client, ttl int64) clientv3.LeaseID {
	t.Helper()
	g, err := c.Grant(within(t), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

func isStatus(t testing.TB, what string, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Errorf("%s: %v, not %v: %s", what, err, code, text)
	}
}

// waiters waits until so many calls of Lock and Campaign wait at the node.
func waiters(t testing.TB, n *cluster.Node, want int64) {
	t.Helper()
	untilMetric(t, n, "quorumfs_grpc_lock_waiters", want)
}

// Lock: v3lock, alone and in one queue with etcd's own concurrency package.
func Lock(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		first := grant(t, c, 100)
		a, err := lockCall(ctx, c, "/lock", first)
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("/lock/%x", int64(first))
		if a.Fields[2] != key || a.Header.Revision == 0 || a.Header.MemberId == 0 {
			t.Errorf("lock: %v", a)
		}
		if r := get(t, c, key); len(r.Kvs) != 1 || r.Kvs[0].Lease != int64(first) || r.Kvs[0].CreateRevision != a.Header.Revision {
			t.Errorf("the lock's key: %v, locked at %d", r.Kvs, a.Header.Revision)
		}
		if again, err := lockCall(ctx, c, "/lock", first); err != nil || again.Fields[2] != key {
			t.Errorf("the holder once more: %v %v", again, err)
		}
		// Two wait: one call, one of etcd's mutexes behind it. Each gets its turn when the one in front has gone.
		second := grant(t, c, 100)
		got := make(chan *answer, 1)
		go func() {
			a, err := lockCall(ctx, c, "/lock", second)
			if err != nil {
				t.Error(err)
			}
			got <- a
		}()
		waiters(t, n, 1)
		session, err := concurrency.NewSession(c)
		if err != nil {
			t.Fatal(err)
		}
		mutex := concurrency.NewMutex(session, "/lock")
		locked := make(chan error, 1)
		go func() { locked <- mutex.Lock(ctx) }()
		cluster.Until(t, "three keys stand in the queue", func() (bool, string) {
			r := get(t, c, "/lock/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			return r.Count == 3, fmt.Sprint(r.Count)
		})
		if _, err := unlockCall(ctx, c, key); err != nil {
			t.Error(err)
		}
		if a := <-got; a == nil || a.Fields[2] != fmt.Sprintf("/lock/%x", int64(second)) {
			t.Errorf("the second: %v", a)
		}
		select {
		case err := <-locked:
			t.Errorf("the third holds it beside the second: %v", err)
		default:
		}
		if _, err := c.Revoke(ctx, second); err != nil { // ends it as well
			t.Error(err)
		}
		if err := <-locked; err != nil {
			t.Error(err)
		}
		// Who is cancelled leaves the queue; who has lost its lease while it waited does not hold the lock.
		short, cancel := context.WithCancel(ctx)
		go lockCall(short, c, "/lock", first)
		waiters(t, n, 1)
		lost := grant(t, c, 100)
		end := make(chan error, 1)
		go func() {
			_, err := lockCall(ctx, c, "/lock", lost)
			end <- err
		}()
		waiters(t, n, 2)
		cancel()
		waiters(t, n, 1)
		cluster.Until(t, "the cancelled one's key is gone", func() (bool, string) {
			return get(t, c, key).Count == 0, "it is there"
		})
		if _, err := c.Revoke(ctx, lost); err != nil {
			t.Error(err)
		}
		if err := mutex.Unlock(ctx); err != nil {
			t.Error(err)
		}
		isStatus(t, "a lost lease", <-end, codes.Unknown, "mutex: session is expired")
		session.Close()
		// Without a lease it takes one of 60 s.
		a, err = lockCall(ctx, c, "/lock-free", 0)
		if err != nil {
			t.Fatal(err)
		}
		kv := get(t, c, a.Fields[2]).Kvs[0]
		if l, err := c.TimeToLive(ctx, clientv3.LeaseID(kv.Lease)); err != nil || l.GrantedTTL != 60 {
			t.Errorf("its lease: %v %v", l, err)
		}
		if _, err := c.Revoke(ctx, clientv3.LeaseID(kv.Lease)); err != nil {
			t.Error(err)
		}
		_, err = lockCall(ctx, c, "/lock", 4712)
		isStatus(t, "a lease that is not there", err, codes.Unknown, "etcdserver: requested lease not found")
		_, err = unlockCall(ctx, c, "")
		isStatus(t, "unlock of nothing", err, codes.Unknown, "etcdserver: key is not provided")
		if _, err := unlockCall(ctx, c, "/lock/none"); err != nil {
			t.Errorf("unlock of what is not locked: %v", err)
		}
	}
}

// LockMany: many callers at all nodes, one holder at a time; nobody is forgotten, and the queue is empty at the end.
func LockMany(t *testing.T, one, three *cluster.Cluster) {
	const callers, rounds = 60, 2
	var holders, turns atomic.Int64
	var wg sync.WaitGroup
	for i := range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			n := three.Nodes[i%3]
			c := connect(t, n)
			lease := grant(t, c, 100)
			for range rounds {
				a, err := lockCall(within(t), c, "/lock-many", lease)
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				turns.Add(1)
				holders.Add(-1)
				if _, err := unlockCall(within(t), c, a.Fields[2]); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.Revoke(within(t), lease); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if turns.Load() != callers*rounds {
		t.Errorf("%d turns of %d", turns.Load(), callers*rounds)
	}
	for _, n := range three.Nodes {
		waiters(t, n, 0)
	}
	if r := get(t, connect(t, three.Nodes[0]), "/lock-many/", clientv3.WithPrefix()); len(r.Kvs) != 0 {
		t.Errorf("left: %v", r.Kvs)
	}
}

type observer struct{ s grpc.ClientStream }

func observe(ctx context.Context, c *clientv3.Client, name string) (*observer, error) {
	s, err := c.ActiveConnection().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/v3electionpb.Election/Observe",
		grpc.ForceCodec(rawBytes{}))
	if err != nil {
		return nil, err
	}
	request := appendBytes(nil, 1, name)
	if err := s.SendMsg(&request); err != nil {
		return nil, err
	}
	return &observer{s}, s.CloseSend()
}

func (o *observer) next() (*mvccpb.KeyValue, int64, error) {
	var m []byte
	if err := o.s.RecvMsg(&m); err != nil {
		return nil, 0, err
	}
	a, err := readAnswer(m)
	if err != nil {
		return nil, 0, err
	}
	var kv mvccpb.KeyValue
	return &kv, a.Header.Revision, kv.Unmarshal([]byte(a.Fields[2]))
}

// Elect: v3election, and etcd's own package in the same elections.
func Elect(t *testing.T, one, three *cluster.Cluster) {
	const name = "/election"
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		_, err := invoke(ctx, c, "/v3electionpb.Election/Leader", appendBytes(nil, 1, name))
		isStatus(t, "the leader of nobody", err, codes.Unknown, "election: no leader")
		seen, err := observe(ctx, c, name)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(value string) {
			t.Helper()
			kv, revision, err := seen.next()
			if err != nil || string(kv.Value) != value || revision < kv.ModRevision {
				t.Fatalf("observed %v at %d, %v; want %s", kv, revision, err, value)
			}
		}
		lease := grant(t, c, 100)
		a, err := campaignCall(ctx, c, name, lease, "first")
		if err != nil {
			t.Fatal(err)
		}
		leader, err := fields([]byte(a.Fields[2]))
		key := fmt.Sprintf("%s/%x", name, int64(lease))
		if err != nil || leader[1] != name || leader[2] != key || leader[3] != fmt.Sprint(a.Header.Revision) || leader[4] != fmt.Sprint(int64(lease)) {
			t.Errorf("elected: %v %v", leader, err)
		}
		expect("first")
		if again, err := campaignCall(ctx, c, name, lease, "first, again"); err != nil || again.Header.Revision < a.Header.Revision {
			t.Errorf("once more with another value: %v %v", again, err)
		}
		expect("first, again")
		leaderKey := a.Fields[2]
		proclaim := func(value string) error {
			_, err := invoke(ctx, c, "/v3electionpb.Election/Proclaim", appendBytes(appendBytes(nil, 1, leaderKey), 2, value))
			return err
		}
		for i := range 10 {
			if err := proclaim(fmt.Sprint("proclaimed ", i)); err != nil {
				t.Error(err)
			}
		}
		for i := range 10 {
			expect(fmt.Sprint("proclaimed ", i))
		}
		l, err := invoke(ctx, c, "/v3electionpb.Election/Leader", appendBytes(nil, 1, name))
		if err != nil {
			t.Error(err)
		} else if kv, err := fields([]byte(l.Fields[2])); err != nil || kv[1] != key || kv[5] != "proclaimed 9" {
			t.Errorf("leader: %v %v", kv, err)
		}
		// A candidate of etcd's package waits behind it and follows when it resigns.
		session, err := concurrency.NewSession(c)
		if err != nil {
			t.Fatal(err)
		}
		candidate := concurrency.NewElection(session, name)
		won := make(chan error, 1)
		go func() { won <- candidate.Campaign(ctx, "second") }()
		cluster.Until(t, "two stand for election", func() (bool, string) {
			r := get(t, c, name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			return r.Count == 2, fmt.Sprint(r.Count)
		})
		resign := func() error {
			_, err := invoke(ctx, c, "/v3electionpb.Election/Resign", appendBytes(nil, 1, leaderKey))
			return err
		}
		if err := resign(); err != nil {
			t.Error(err)
		}
		if err := <-won; err != nil {
			t.Error(err)
		}
		expect("second")
		isStatus(t, "proclaimed by one who has resigned", proclaim("late"), codes.Unknown, "election: not leader")
		if err := resign(); err != nil {
			t.Errorf("resigned twice: %v", err)
		}
		// And the other way round; and a candidate that gives up leaves nothing.
		third := grant(t, c, 100)
		elected := make(chan error, 1)
		go func() {
			_, err := campaignCall(ctx, c, name, third, "third")
			elected <- err
		}()
		waiters(t, n, 1)
		short, cancel := context.WithCancel(ctx)
		go campaignCall(short, c, name, grant(t, c, 100), "never")
		waiters(t, n, 2)
		cancel()
		waiters(t, n, 1)
		if err := candidate.Resign(ctx); err != nil {
			t.Error(err)
		}
		if err := <-elected; err != nil {
			t.Error(err)
		}
		expect("third")
		if _, err := c.Revoke(ctx, third); err != nil {
			t.Error(err)
		}
		session.Close()
		if r := get(t, c, name+"/", clientv3.WithPrefix()); len(r.Kvs) != 0 {
			t.Errorf("left: %v", r.Kvs)
		}
		// Nobody leads: the next one is seen all the same.
		if _, err := c.Put(ctx, name+"/by-hand", "fourth"); err != nil {
			t.Error(err)
		}
		expect("fourth")
		if _, err := c.Delete(ctx, name+"/by-hand"); err != nil {
			t.Error(err)
		}
		for _, method := range []string{"Proclaim", "Resign"} {
			_, err = invoke(ctx, c, "/v3electionpb.Election/"+method, nil)
			isStatus(t, method+" of nothing", err, codes.Unknown, `"leader" field must be provided`)
		}
	}
}

// ObserveUnread: an observer that does not read holds one buffer, and has missed nothing when it reads.
func ObserveUnread(t *testing.T, one, three *cluster.Cluster) {
	n := one.Nodes[0]
	c := connect(t, n)
	ctx := within(t)
	put(t, c, "/observed/leader", "begin")
	o, err := observe(ctx, connect(t, n), "/observed")
	if err != nil {
		t.Fatal(err)
	}
	if kv, _, err := o.next(); err != nil || string(kv.Value) != "begin" {
		t.Fatal(kv, err)
	}
	big := strings.Repeat("o", 100000)
	const puts = 60
	for i := range puts {
		put(t, c, "/observed/leader", fmt.Sprint(big, i))
	}
	if v := metric(t, n, metricOutput); v > 2<<20 {
		t.Errorf("%d bytes wait for an observer that does not read", v)
	}
	for i := range puts {
		if kv, _, err := o.next(); err != nil || string(kv.Value) != fmt.Sprint(big, i) {
			t.Fatalf("place %d: %d bytes, %v", i, len(kv.Value), err)
		}
	}
	if _, err := c.Delete(ctx, "/observed/leader"); err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
