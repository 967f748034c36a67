package node

import (
	"fmt"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// partitioned starts three nodes, each in a network namespace of its own. The clients come over the Unix sockets.
func partitioned(t *testing.T) (*cluster.Cluster, *cluster.Network) {
	c, w := cluster.NewNetwork(t, cluster.Options{Nodes: 3})
	c.StartAll()
	return c, w
}

func TestALeaderThatIsCutOff(t *testing.T) {
	c, w := partitioned(t)
	old := c.Leader()
	others := c.Others(old)
	old.MustCtl("put", "before", "1")
	w.Cut(old)
	cut := time.Now()
	cluster.Until(t, "the majority has another leader and takes writes", func() (bool, string) {
		_, err := others[0].Put("during", "2")
		return err == nil, fmt.Sprint(err)
	})
	t.Logf("writes again %v after the cut", time.Since(cut).Round(time.Millisecond))
	cluster.Until(t, "the one that is cut off knows that it leads nobody", func() (bool, string) {
		st, err := old.Status()
		return err == nil && (st.Leader == "" || st.Leader == "0"), fmt.Sprint(st.Leader, err)
	})
	if _, err := old.Put("lost", "3"); err == nil {
		t.Error("a node that is cut off acknowledged a write")
	}
	if v, err := old.Get("during"); err == nil {
		t.Errorf("a node that is cut off answered a linearizable read with %q", v)
	}
	if v, err := old.GetLocal("before"); err != nil || v != "1" {
		t.Errorf("its local read: %q, %v", v, err)
	}
	w.Heal(old)
	healed := time.Now()
	cluster.Until(t, "it has caught up", func() (bool, string) {
		v, err := old.Get("during")
		return err == nil && v == "2", fmt.Sprint(v, err)
	})
	// A connection of before the cut would wait for TCP's timer, which has doubled a few times by now.
	if took := time.Since(healed); took > 5*time.Second {
		t.Errorf("that took %v", took)
	} else {
		t.Logf("caught up %v after the cable was back", took.Round(time.Millisecond))
	}
	for _, n := range c.Nodes {
		if kv, err := n.GetKV("lost"); err != nil || kv != nil {
			t.Errorf("%s has what was refused for sure: %v, %v", n.Name, kv, err)
		}
	}
}

func TestAFollowerThatIsCutOffDisturbsNobody(t *testing.T) {
	c, w := partitioned(t)
	leader, follower := c.Leader(), c.Follower()
	before, err := leader.Status()
	if err != nil {
		t.Fatal(err)
	}
	w.Cut(follower)
	end := time.Now().Add(4 * time.Second) // some elections that it would call
	for i := 0; time.Now().Before(end); i++ {
		if _, err := leader.Put("k", fmt.Sprint(i)); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	want, err := leader.Get("k")
	if err != nil {
		t.Fatal(err)
	}
	w.Heal(follower)
	cluster.Until(t, "the follower has caught up", func() (bool, string) {
		v, err := follower.Get("k")
		return err == nil && v == want, fmt.Sprint(v, err)
	})
	after, err := leader.Status()
	if err != nil || after.Term != before.Term || after.Leader != before.Leader {
		t.Errorf("term %d and leader %s became %d and %s, %v", before.Term, before.Leader, after.Term, after.Leader, err)
	}
}

// Only one direction is lost: a leader that nobody hears is replaced, and so is one that hears nobody.
func TestALeaderWithHalfANetwork(t *testing.T) {
	c, w := partitioned(t)
	for _, deaf := range []bool{false, true} {
		old := c.Leader()
		others := c.Others(old)
		for _, o := range others {
			if deaf {
				w.Silence(o, old)
			} else {
				w.Silence(old, o)
			}
		}
		cluster.Until(t, "the others have a leader of their own and take writes", func() (bool, string) {
			st, err := others[0].Status()
			if err != nil {
				return false, err.Error()
			}
			_, err = others[0].Put("half", fmt.Sprint(deaf))
			return err == nil && st.Leader != "0" && st.Leader != "", fmt.Sprint(st.Leader, err)
		})
		if v, err := old.Get("half"); err == nil {
			t.Errorf("a node with half a network answered a linearizable read with %q", v)
		}
		for _, o := range others {
			if deaf {
				w.Hear(o, old)
			} else {
				w.Hear(old, o)
			}
		}
		cluster.Until(t, "it has caught up", func() (bool, string) {
			v, err := old.Get("half")
			return err == nil && v == fmt.Sprint(deaf), fmt.Sprint(v, err)
		})
	}
}
