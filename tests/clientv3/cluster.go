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
	"quorumfs.test/e2e/cluster"
)

// joining lays out one more node of a cluster that runs; it is started after MemberAdd.
func joining(t *testing.T, c *cluster.Cluster, name string) *cluster.Node {
	t.Helper()
	var n *cluster.Node
	other := cluster.New(t, cluster.Options{Flags: func(*cluster.Node) []string {
		all := c.InitialCluster() + "," + n.Name + "=" + n.PeerURL
		return []string{"--initial-cluster", all, "--initial-cluster-state", "existing"}
	}})
	n = other.Nodes[0]
	n.Name = name
	other.Token = c.Token
	return n
}

// Cluster: members come, learn, are promoted, change their addresses and go.
func Cluster(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	client := connect(t, c.Follower())
	ctx := within(t)
	put(t, client, "/cluster", "before")
	is := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", what, err, want)
		}
	}
	raw := pb.NewClusterClient(client.ActiveConnection()) // clientv3 looks at URLs itself
	for _, urls := range [][]string{{"not a url"}, nil, {"http://127.0.0.1:1,http://127.0.0.1:2"}, {"http://127.0.0.1:1", ""}} {
		_, err := raw.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls})
		is(fmt.Sprintf("the URLs %q", urls), rpctypes.Error(err), rpctypes.ErrMemberBadURLs)
	}
	_, err := client.MemberAdd(ctx, []string{c.Nodes[0].PeerURL})
	is("an address that another has", err, rpctypes.ErrPeerURLExist)
	_, err = client.MemberRemove(ctx, 1)
	is("removing nobody", err, rpctypes.ErrMemberNotFound)
	_, err = client.MemberUpdate(ctx, 1, []string{"http://127.0.0.1:1"})
	is("moving nobody", err, rpctypes.ErrMemberNotFound)
	_, err = client.MemberPromote(ctx, 1)
	is("promoting nobody", err, rpctypes.ErrMemberNotFound)
	list, err := client.MemberList(ctx)
	if err != nil || len(list.Members) != 3 {
		t.Fatal(list, err)
	}
	_, err = client.MemberPromote(ctx, list.Members[0].ID)
	is("promoting a voter", err, rpctypes.ErrMemberNotLearner)

	// A learner joins.
	n := joining(t, c, "n4")
	added, err := client.MemberAddAsLearner(ctx, []string{n.PeerURL})
	if err != nil {
		t.Fatal(err)
	}
	id := added.Member.ID
	if id == 0 || !added.Member.IsLearner || added.Member.Name != "" || len(added.Members) != 4 || added.Member.PeerURLs[0] != n.PeerURL {
		t.Errorf("added: %v", added)
	}
	_, err = client.MemberPromote(ctx, id)
	is("promoting one that has not started", err, rpctypes.ErrMemberLearnerNotReady)
	_, err = client.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"})
	is("a second learner", err, rpctypes.ErrTooManyLearners)
	n.Start()
	learner := connect(t, n)
	cluster.Until(t, "the learner answers a serializable read", func() (bool, string) {
		r, err := learner.Get(within(t), "/cluster", clientv3.WithSerializable())
		return err == nil && len(r.Kvs) == 1, fmt.Sprint(r, err)
	})
	cluster.Until(t, "it says that it is a learner", func() (bool, string) {
		s, err := learner.Status(within(t), n.Endpoint())
		return err == nil && s.IsLearner, fmt.Sprint(s, err)
	})
	kv := pb.NewKVClient(learner.ActiveConnection()) // clientv3 would look for another endpoint
	for what, call := range map[string]func() error{
		"range":  func() error { _, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("/cluster")}); return err },
		"put":    func() error { _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("/cluster")}); return err },
		"txn":    func() error { _, err := kv.Txn(ctx, &pb.TxnRequest{}); return err },
		"grant":  func() error { _, err := learner.Grant(ctx, 10); return err },
		"list":   func() error { _, err := learner.MemberList(ctx); return err },
		"leases": func() error { _, err := learner.Leases(ctx); return err },
		"hash":   func() error { _, err := learner.HashKV(ctx, n.Endpoint(), 0); return err },
		"watch":  func() error { r := <-learner.Watch(ctx, "/cluster"); return r.Err() },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "etcdserver: rpc not supported for learner") {
			t.Errorf("%s of a learner: %v", what, err)
		}
	}
	if code, body, err := fetch(n, "/readyz/non_learner"); err != nil || code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "not supported for learner") {
		t.Errorf("/readyz: %d %q %v", code, body, err)
	}
	cluster.Until(t, "the learner is promoted", func() (bool, string) {
		r, err := client.MemberPromote(within(t), id)
		if err == nil && len(r.Members) != 4 {
			t.Errorf("promoted: %v", r)
		}
		return err == nil, fmt.Sprint(err)
	})
	cluster.Until(t, "it serves all", func() (bool, string) {
		_, err := learner.Put(within(t), "/cluster", "promoted")
		return err == nil, fmt.Sprint(err)
	})
	if list, err = client.MemberList(ctx); err != nil || len(list.Members) != 4 {
		t.Fatal(list, err)
	}
	for _, m := range list.Members {
		if m.ID == id && (m.Name != "n4" || m.IsLearner || len(m.ClientURLs) != 1 || m.ClientURLs[0] != n.ClientURL) {
			t.Errorf("the new member: %v", m)
		}
	}

	// It gets another address, and is removed.
	moved := fmt.Sprintf("http://127.0.0.1:%d", cluster.FreePort(t))
	if r, err := client.MemberUpdate(ctx, id, []string{moved}); err != nil || len(r.Members) != 4 {
		t.Errorf("moved: %v %v", r, err)
	}
	cluster.Until(t, "its new address is listed", func() (bool, string) {
		list, err := client.MemberList(within(t))
		if err != nil {
			return false, err.Error()
		}
		for _, m := range list.Members {
			if m.ID == id {
				return m.PeerURLs[0] == moved, fmt.Sprint(m)
			}
		}
		return false, "gone"
	})
	if r, err := client.MemberRemove(ctx, id); err != nil || len(r.Members) != 3 {
		t.Errorf("removed: %v %v", r, err)
	}
	_, err = client.MemberRemove(ctx, id)
	is("removed twice", err, rpctypes.ErrMemberNotFound)
	put(t, client, "/cluster", "after")
	n.Kill()
}
