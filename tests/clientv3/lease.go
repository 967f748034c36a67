package clientv3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"quorumfs.test/e2e/cluster"
)

// Lease: granted, read, kept alive, revoked; its keys go with it, in one revision, at every node.
func Lease(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Leader(), three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		g, err := c.Grant(ctx, 100)
		if err != nil || g.ID <= 0 || g.TTL != 100 || g.Error != "" || g.ResponseHeader == nil {
			t.Fatalf("grant: %v %v", g, err)
		}
		if small, err := c.Grant(ctx, 0); err != nil || small.TTL < 2 { // one and a half election timeouts
			t.Errorf("the smallest grant: %v %v", small, err)
		} else if _, err := c.Revoke(ctx, small.ID); err != nil {
			t.Error(err)
		}
		lease := clientv3.WithLease(g.ID)
		first := put(t, c, "/lease/"+n.Name+"/1", "x", lease).Header.Revision
		put(t, c, "/lease/"+n.Name+"/2", "y", lease)
		put(t, c, "/lease/"+n.Name+"/other", "z")
		if r := get(t, c, "/lease/"+n.Name+"/1"); len(r.Kvs) != 1 || r.Kvs[0].Lease != int64(g.ID) {
			t.Errorf("the key's lease: %v", r.Kvs)
		}
		put(t, c, "/lease/"+n.Name+"/1", "again", clientv3.WithIgnoreLease())
		if r := get(t, c, "/lease/"+n.Name+"/1"); r.Kvs[0].Lease != int64(g.ID) {
			t.Errorf("ignore_lease: %v", r.Kvs)
		}
		l, err := c.TimeToLive(ctx, g.ID, clientv3.WithAttachedKeys())
		if err != nil || l.GrantedTTL != 100 || l.TTL < 1 || l.TTL > 100 || l.ID != g.ID || len(l.Keys) != 2 {
			t.Errorf("time to live: %v %v", l, err)
		} else {
			slices.SortFunc(l.Keys, slices.Compare)
			if string(l.Keys[0]) != "/lease/"+n.Name+"/1" || string(l.Keys[1]) != "/lease/"+n.Name+"/2" {
				t.Errorf("attached keys: %q", l.Keys)
			}
		}
		if l, err := c.TimeToLive(ctx, g.ID); err != nil || len(l.Keys) != 0 {
			t.Errorf("time to live without keys: %v %v", l, err)
		}
		if all, err := c.Leases(ctx); err != nil || !slices.Contains(all.Leases, clientv3.LeaseStatus{ID: g.ID}) {
			t.Errorf("leases: %v %v", all, err)
		}
		if k, err := c.KeepAliveOnce(ctx, g.ID); err != nil || k.TTL != 100 || k.ID != g.ID {
			t.Errorf("kept alive: %v %v", k, err)
		}
		put(t, c, "/lease/"+n.Name+"/2", "free") // without the lease: not its key any more
		watch := c.Watch(ctx, "/lease/"+n.Name+"/", clientv3.WithPrefix(), clientv3.WithRev(first))
		events(t, watch, 5)
		put(t, c, "/lease/"+n.Name+"/3", "w", lease)
		r, err := c.Revoke(ctx, g.ID)
		if err != nil {
			t.Fatalf("revoke: %v", err)
		}
		events(t, watch, 1)
		gone := next(t, watch)
		if len(gone.Events) != 2 || gone.Header.Revision != r.Header.Revision || gone.Events[0].Type != clientv3.EventTypeDelete ||
			gone.Events[0].Kv.ModRevision != gone.Events[1].Kv.ModRevision {
			t.Errorf("the end of its keys: %v, revoked at %d", gone, r.Header.Revision)
		}
		if left := get(t, c, "/lease/"+n.Name+"/", clientv3.WithPrefix()); len(left.Kvs) != 2 {
			t.Errorf("left: %v", left.Kvs)
		}
		if l, err := c.TimeToLive(ctx, g.ID, clientv3.WithAttachedKeys()); err != nil || l.TTL != -1 || l.ID != g.ID || l.GrantedTTL != 0 {
			t.Errorf("time to live of one that is gone: %v %v", l, err)
		}
	}
}

// LeaseErrors: by exact error.
func LeaseErrors(t *testing.T, one, three *cluster.Cluster) {
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx := within(t)
		is := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, not %v", what, err, want)
			}
		}
		_, err := c.Grant(ctx, 9_000_000_001)
		is("too large a TTL", err, rpctypes.ErrLeaseTTLTooLarge)
		raw := pb.NewLeaseClient(c.ActiveConnection())
		g, err := raw.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 9_000_000_000, ID: 4711})
		if err != nil || g.ID != 4711 || g.TTL != 9_000_000_000 {
			t.Fatalf("the largest: %v %v", g, err)
		}
		_, err = raw.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60, ID: 4711})
		is("an id twice", rpctypes.Error(err), rpctypes.ErrLeaseExist)
		if _, err := c.Revoke(ctx, 4711); err != nil {
			t.Error(err)
		}
		_, err = c.Revoke(ctx, 4711)
		is("revoked twice", err, rpctypes.ErrLeaseNotFound)
		_, err = c.KeepAliveOnce(ctx, 4711)
		is("kept alive when it is gone", err, rpctypes.ErrLeaseNotFound)
		_, err = c.Put(ctx, "/lease/none", "", clientv3.WithLease(4711))
		is("a key with a lease that is gone", err, rpctypes.ErrLeaseNotFound)
		_, err = c.Txn(ctx).Then(clientv3.OpPut("/lease/none", "", clientv3.WithLease(4711))).Commit()
		is("the same in a txn", err, rpctypes.ErrLeaseNotFound)
	}
}

// LeaseExpires: a lease that nobody keeps alive ends by itself, and takes its keys; one that is kept alive does not.
func LeaseExpires(t *testing.T, one, three *cluster.Cluster) {
	var wg sync.WaitGroup
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := connect(t, n)
			ctx := within(t)
			g, err := c.Grant(ctx, 2)
			if err != nil {
				t.Error(err)
				return
			}
			kept, err := c.Grant(ctx, 2)
			if err != nil {
				t.Error(err)
				return
			}
			beats, err := c.KeepAlive(ctx, kept.ID)
			if err != nil {
				t.Error(err)
				return
			}
			watch := c.Watch(ctx, "/expires/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			next(t, watch)
			put(t, c, "/expires/kept", "x", clientv3.WithLease(kept.ID))
			put(t, c, "/expires/gone", "x", clientv3.WithLease(g.ID))
			events(t, watch, 2)
			if e := events(t, watch, 1); e[0].Type != clientv3.EventTypeDelete || string(e[0].Kv.Key) != "/expires/gone" {
				t.Errorf("instead of the end: %v", e)
			}
			if k := <-beats; k == nil || k.TTL != 2 {
				t.Errorf("kept alive: %v", k)
			}
			if r := get(t, c, "/expires/kept"); len(r.Kvs) != 1 {
				t.Error("the key whose lease was kept alive is gone")
			}
			if _, err := c.Revoke(ctx, kept.ID); err != nil {
				t.Error(err)
			}
			for range beats { // closed when the lease is gone
			}
			events(t, watch, 1)
		}()
	}
	wg.Wait()
}

// LeaseStream: many leases on one stream, answered in the order of the requests, TTL 0 for one that is not there.
func LeaseStream(t *testing.T, one, three *cluster.Cluster) {
	leases := 2000
	for _, n := range []*cluster.Node{one.Nodes[0], three.Follower()} {
		c := connect(t, n)
		ctx, cancel := context.WithTimeout(context.Background(), 2*cluster.Bound)
		defer cancel()
		raw := pb.NewLeaseClient(c.ActiveConnection())
		ids := make([]int64, leases)
		parallel(leases, func(i int) {
			r, err := raw.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: int64(100 + i)})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = r.ID
		})
		s, err := raw.LeaseKeepAlive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range 3 {
				for _, id := range ids {
					s.Send(&pb.LeaseKeepAliveRequest{ID: id})
				}
				s.Send(&pb.LeaseKeepAliveRequest{ID: 1})
			}
			s.CloseSend()
		}()
		for round := range 3 {
			for i, id := range append(slices.Clone(ids), 1) {
				want := int64(100 + i)
				if i == leases {
					want = 0
				}
				r, err := s.Recv()
				if err != nil || r.ID != id || r.TTL != want || r.Header.Revision == 0 {
					t.Fatalf("round %d, answer %d: %v %v, want %d with TTL %d", round, i, r, err, id, want)
				}
			}
		}
		if r, err := s.Recv(); err != io.EOF {
			t.Errorf("after the last: %v %v", r, err)
		}
		untilMetric(t, n, "quorumfs_grpc_keepalives_pending", 0)
		if all, err := raw.LeaseLeases(ctx, &pb.LeaseLeasesRequest{}); err != nil || len(all.Leases) < leases {
			t.Errorf("%d leases, %v", len(all.GetLeases()), err)
		}
		parallel(leases, func(i int) {
			if _, err := raw.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: ids[i]}); err != nil {
				t.Error(fmt.Sprint(i), err)
			}
		})
	}
}
