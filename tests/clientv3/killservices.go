package clientv3

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"quorumfs.test/e2e/cluster"
)

// KillServices: a lock's waiter, an observer and a session that is kept alive outlive the leader; a session outlives its
// sidecar too, and a waiter whose sidecar is killed leaves a key that its lease takes.
func KillServices(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	leader := c.Leader()
	others := c.Others(leader)
	a, b := connect(t, others[0]), connect(t, others[1])
	ctx, cancel := context.WithTimeout(context.Background(), 3*cluster.Bound)
	defer cancel()

	session, err := concurrency.NewSession(b, concurrency.WithTTL(5))
	if err != nil {
		t.Fatal(err)
	}
	holder, err := lockCall(ctx, b, "/killed", session.Lease())
	if err != nil {
		t.Fatal(err)
	}
	waiter := grant(t, a, 300)
	got := make(chan error, 1)
	go func() {
		r, err := lockCall(ctx, a, "/killed", waiter)
		if err == nil && r.Fields[2] != fmt.Sprintf("/killed/%x", int64(waiter)) {
			err = fmt.Errorf("the key is %s", r.Fields[2])
		}
		got <- err
	}()
	waiters(t, others[0], 1)
	put(t, a, "/killed-election/x", "first")
	o, err := observe(ctx, a, "/killed-election")
	if err != nil {
		t.Fatal(err)
	}
	if kv, _, err := o.next(); err != nil || string(kv.Value) != "first" {
		t.Fatal(kv, err)
	}
	leader.Kill()
	cluster.Until(t, "another leads", func() (bool, string) {
		one, done := context.WithTimeout(ctx, 5*time.Second)
		defer done()
		_, err := b.Put(one, "/killed-election/x", "second")
		return err == nil, fmt.Sprint(err)
	})
	for { // a put that timed out may have been done all the same
		kv, _, err := o.next()
		if err != nil {
			t.Fatalf("observed: %v", err)
		}
		if string(kv.Value) == "second" {
			break
		}
	}
	select {
	case err := <-got:
		t.Fatalf("the lock is given while another holds it: %v", err)
	case <-session.Done():
		t.Fatal("the session did not outlive the leader")
	default:
	}

	// The holder's sidecar dies; its session goes on, and so does the lock.
	pid := others[1].Child("quorumfs-grpc")
	syscall.Kill(pid, syscall.SIGKILL)
	cluster.Until(t, "the lock's key is there, kept alive by the next sidecar", func() (bool, string) {
		one, done := context.WithTimeout(ctx, 5*time.Second)
		defer done()
		r, err := b.TimeToLive(one, session.Lease())
		now := others[1].Child("quorumfs-grpc")
		return err == nil && r.TTL > 0 && now != 0 && now != pid, fmt.Sprint(r, err)
	})
	if r := get(t, b, holder.Fields[2]); len(r.Kvs) != 1 {
		t.Error("the lock's key is gone")
	}
	if _, err := unlockCall(ctx, b, holder.Fields[2]); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the waiter: %v", err)
	}

	// A waiter whose sidecar dies: nobody takes its key back but its lease.
	short := grant(t, b, 3)
	go lockCall(ctx, b, "/killed", short)
	waiters(t, others[1], 1)
	syscall.Kill(others[1].Child("quorumfs-grpc"), syscall.SIGKILL)
	cluster.Until(t, "its key has gone with the lease", func() (bool, string) {
		r, err := a.Get(ctx, fmt.Sprintf("/killed/%x", int64(short)), clientv3.WithCountOnly())
		return err == nil && r.Count == 0, fmt.Sprint(r, err)
	})
}
