package clientv3

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"quorumfs.test/e2e/cluster"
)

// NoQuorum: one node of three is left. Writes and linearizable reads fail in time and say why, serializable reads answer,
// watches stay but for those that require a leader, and all goes on when another node is back.
func NoQuorum(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	n := c.Follower()
	client := connect(t, n)
	ctx := within(t)
	put(t, client, "/quorum", "before")
	patient := client.Watch(ctx, "/quorum", clientv3.WithCreatedNotify())
	strict := client.Watch(clientv3.WithRequireLeader(ctx), "/quorum", clientv3.WithCreatedNotify())
	next(t, patient)
	next(t, strict)
	lease := grant(t, client, 300)
	beats, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(clientv3.WithRequireLeader(ctx))
	if err != nil {
		t.Fatal(err)
	}
	beats.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
	if r, err := beats.Recv(); err != nil || r.TTL != 300 {
		t.Errorf("kept alive: %v %v", r, err)
	}
	for _, o := range c.Others(n) {
		o.Kill()
	}
	if r, err := beats.Recv(); !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
		t.Errorf("a stream of keep-alives that requires a leader: %v %v", r, err)
	}
	if r := next(t, strict); !errors.Is(r.Err(), rpctypes.ErrNoLeader) {
		t.Errorf("a watch that requires a leader: %v %v", r, r.Err())
	}
	if code, body, err := fetch(n, "/health"); err != nil || code != http.StatusServiceUnavailable ||
		!strings.Contains(body, `"health":"false"`) {
		t.Errorf("/health: %d %s %v", code, body, err)
	}
	notReady(t, n)
	if v := metric(t, n, "etcd_server_has_leader"); v != 0 {
		t.Errorf("etcd_server_has_leader is %d", v)
	}
	kv := pb.NewKVClient(client.ActiveConnection()) // clientv3 would try reads again
	_, err = kv.Put(within(t), &pb.PutRequest{Key: []byte("/quorum"), Value: []byte("lost")})
	if status.Code(err) != codes.Unavailable || !strings.HasPrefix(status.Convert(err).Message(), "etcdserver: ") {
		t.Errorf("a put: %v", err)
	}
	_, err = kv.Range(within(t), &pb.RangeRequest{Key: []byte("/quorum")})
	if status.Code(err) != codes.Unavailable || !strings.HasPrefix(status.Convert(err).Message(), "etcdserver: ") {
		t.Errorf("a linearizable read: %v", err)
	}
	if r := get(t, client, "/quorum", clientv3.WithSerializable()); len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "before" {
		t.Errorf("a serializable read: %v", r)
	}
	// So do transactions that only read.
	read := pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("/quorum"), Serializable: true}}}
	if r, err := kv.Txn(within(t), &pb.TxnRequest{Success: []*pb.RequestOp{&read}}); err != nil || len(r.Responses[0].GetResponseRange().Kvs) != 1 {
		t.Errorf("a serializable txn: %v %v", r, err)
	}
	read.GetRequestRange().Serializable = false
	if _, err = kv.Txn(within(t), &pb.TxnRequest{Success: []*pb.RequestOp{&read}}); status.Code(err) != codes.Unavailable {
		t.Errorf("a linearizable txn: %v", err)
	}
	c.Others(n)[0].Start()
	cluster.Until(t, "a put succeeds again", func() (bool, string) {
		_, err := client.Put(within(t), "/quorum", "after")
		return err == nil, fmt.Sprint(err)
	})
	for { // the put that timed out may have gone through after all
		r := next(t, patient)
		if r.Err() != nil || len(r.Events) != 1 {
			t.Fatalf("the patient watch: %v %v", r, r.Err())
		}
		if string(r.Events[0].Kv.Value) == "after" {
			break
		}
	}
}
