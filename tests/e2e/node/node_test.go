// Package node tests quorumfsd as processes: replication, kill -9, lost quorum, and what it refuses.
package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

func TestPutAnywhereIsReadEverywhereAfterABarrier(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	for round := 0; round < 10; round++ {
		for i, at := range c.Nodes {
			value := fmt.Sprintf("value-%d-%d", round, i)
			rev, err := at.Put("shared", value)
			if err != nil {
				t.Fatalf("put at %s: %v", at.Name, err)
			}
			for _, n := range c.Nodes { // a linearizable get is a barrier and a read
				kv, err := n.GetKV("shared")
				if err != nil {
					t.Fatalf("get at %s: %v", n.Name, err)
				}
				if kv == nil || string(kv.Value) != value || kv.ModRevision != rev {
					t.Fatalf("put at %s was revision %d; %s has %+v", at.Name, rev, n.Name, kv)
				}
			}
		}
	}
}

func TestWatchAtAFollowerPrintsEveryChangeOnceInOrder(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	follower := c.Follower()
	w := follower.Watch("w/", 1)
	want := []string{}
	for i := 0; i < 60; i++ {
		at := c.Nodes[i%3]
		key := fmt.Sprintf("w/%d", i%7)
		if i%10 == 9 {
			if _, err := at.Delete(key); err != nil {
				t.Fatal(err)
			}
			want = append(want, "delete "+key+" ")
			continue
		}
		value := fmt.Sprint("v", i)
		if _, err := at.Put(key, value); err != nil {
			t.Fatal(err)
		}
		want = append(want, "put "+key+" "+value)
	}
	late := follower.Watch("w/", 1) // the same from the log as from live
	for name, watch := range map[string]*cluster.Watch{"live": w, "late": late} {
		events := watch.WaitFor(len(want))
		var got []string
		last := int64(0)
		for _, e := range events {
			got = append(got, e.Kind+" "+string(e.Key)+" "+string(e.Value))
			if e.Revision <= last {
				t.Errorf("%s: revision %d after %d", name, e.Revision, last)
			}
			last = e.Revision
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s watch printed\n%s\nwanted\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestWithoutQuorum(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	if _, err := c.Nodes[0].Put("before", "1"); err != nil {
		t.Fatal(err)
	}
	left := c.Nodes[0]
	if v, err := left.Get("before"); err != nil || v != "1" {
		t.Fatal(v, err)
	}
	for _, n := range c.Others(left) {
		n.Kill()
	}
	// The first may still time out under way; from then on the node knows.
	fails := func(what string, call func() error) {
		t.Helper()
		start := time.Now()
		err := call()
		took := time.Since(start)
		if err == nil {
			t.Fatalf("%s succeeded without quorum", what)
		}
		text := strings.ToLower(err.Error())
		if !strings.Contains(text, "no leader") && !strings.Contains(text, "timed out") &&
			!strings.Contains(text, "leader changed") {
			t.Errorf("%s failed without saying why: %v", what, err)
		}
		if took > 15*time.Second {
			t.Errorf("%s took %v to fail", what, took)
		}
		t.Logf("%s failed after %v: %v", what, took.Round(time.Millisecond), err)
	}
	put := func() error { _, err := left.Put("during", "2"); return err }
	get := func() error { _, err := left.Get("before"); return err }
	fails("a write", put)
	fails("a barrier", get)
	cluster.Until(t, "the node says that there is no leader", func() (bool, string) {
		st, err := left.Status()
		return err == nil && (st.Leader == "" || st.Leader == "0"), fmt.Sprint(st.Leader, err)
	})
	fails("a write when it is known", put)
	fails("a barrier when it is known", get)
	if v, err := left.GetLocal("before"); err != nil || v != "1" {
		t.Errorf("a local read answers %q, %v", v, err)
	}
	for _, n := range c.Others(left) {
		n.Spawn()
	}
	for _, n := range c.Others(left) {
		n.WaitReady()
	}
	cluster.Until(t, "writes work again", func() (bool, string) {
		_, err := left.Put("after", "3")
		return err == nil, fmt.Sprint(err)
	})
	for _, n := range c.Nodes {
		if v, err := n.Get("after"); err != nil || v != "3" {
			t.Errorf("%s: %q, %v", n.Name, v, err)
		}
	}
}

func TestAClusterOfOneKeepsItsDataThroughKill(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	n := c.Nodes[0]
	for i := 0; i < 5; i++ {
		if _, err := n.Put("k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		n.Kill()
		n.Start()
		kv, err := n.GetKV("k")
		if err != nil || kv == nil || string(kv.Value) != fmt.Sprint(i) || kv.Version != int64(i+1) {
			t.Fatalf("round %d: %+v, %v", i, kv, err)
		}
	}
}
