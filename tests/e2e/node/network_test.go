package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorumfs.test/e2e/cluster"
)

// A member comes back at another address under its old name: its peers ask for the name again.
func TestNamesAreResolvedAgainAtAReconnect(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for name tables of its own in mount namespaces")
	}
	if out, err := exec.Command("unshare", "-m", "--propagation", "private", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace of its own can be made here (in a chroot?): %v %s", err, out)
	}
	hosts := filepath.Join(cluster.TempDir(t), "hosts")
	name := func(address string) {
		// in place: the file is bind-mounted where the nodes look
		if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"+address+" moving.test\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	name("127.0.0.1")
	c := cluster.New(t, cluster.Options{Nodes: 3, Command: func(n *cluster.Node, words []string) []string {
		return append([]string{"unshare", "-m", "--propagation", "private", "sh", "-c",
			`mount --bind "$0" /etc/hosts && exec "$@"`, hosts}, words...)
	}})
	moving := c.Nodes[1]
	port := moving.PeerURL[strings.LastIndexByte(moving.PeerURL, ':'):]
	moving.PeerURL = "http://moving.test" + port
	moving.ListenPeerURL = "http://127.0.0.1" + port
	c.StartAll()
	for i, address := range []string{"127.0.0.2", "127.0.0.3"} {
		moving.Kill()
		if _, err := c.Nodes[0].Put("k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		name(address)
		moving.ListenPeerURL = "http://" + address + port
		moving.Start()
		if v, err := moving.Get("k"); err != nil || v != fmt.Sprint(i) {
			t.Errorf("after the move to %s: %q, %v", address, v, err)
		}
		// with another one away it takes part in every decision
		c.Nodes[2].Kill()
		cluster.Until(t, "a write that needs the moved member", func() (bool, string) {
			_, err := c.Nodes[0].Put("k2", fmt.Sprint(i))
			return err == nil, fmt.Sprint(err)
		})
		c.Nodes[2].Start()
	}
}

// A leader that stands still is replaced; when it goes on it does not answer from the past.
func TestALeaderThatStoodStillAnswersNothingOld(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3, HeartbeatMS: 50, ElectionMS: 500})
	for round := 0; round < 3; round++ {
		old := c.Leader()
		if _, err := old.Put("k", fmt.Sprint("old", round)); err != nil {
			t.Fatal(err)
		}
		old.Signal(syscall.SIGSTOP)
		other := c.Others(old)[round%2]
		cluster.Until(t, "another node takes a write", func() (bool, string) {
			_, err := other.Put("k", fmt.Sprint("new", round))
			return err == nil, fmt.Sprint(err)
		})
		old.Signal(syscall.SIGCONT)
		cluster.Until(t, "the old leader answers", func() (bool, string) {
			v, err := old.Get("k")
			if err == nil && v != fmt.Sprint("new", round) {
				t.Fatalf("a linearizable read gave %q", v)
			}
			return err == nil, fmt.Sprint(err)
		})
	}
}
