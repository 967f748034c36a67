package node

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

// A front end that holds an old snapshot is told of, and started again when it does not let go; a stranger is only told of.
func TestAReaderThatDoesNotLetGo(t *testing.T) {
	f := newFamily(t)
	store := filepath.Join(f.dir, "d", "store")
	f.does("quorumfs-grpc", fmt.Sprintf("echo ready >&$QUORUMFS_READY_FD\nexec %s %s", cluster.Program("e2e/hold"), store))
	f.start("--reader-timeout", "1")
	f.ready()
	before := f.pid("quorumfs-grpc")
	stranger := exec.Command(cluster.Program("e2e/hold"), store)
	out, err := stranger.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stranger.Process.Kill()
		stranger.Wait()
	})
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	put := exec.Command(cluster.Program("quorumctl"), "--socket", filepath.Join(f.dir, "d", "node.sock"), "put", "a", "1")
	if said, err := put.CombinedOutput(); err != nil {
		t.Fatalf("%s", said)
	}
	f.until("both are told of", func() bool {
		return strings.Count(f.said(), "holds a snapshot") >= 2 &&
			strings.Contains(f.said(), fmt.Sprintf("process %d (hold) holds a snapshot", stranger.Process.Pid))
	})
	f.until("the front end is started again", func() bool {
		return strings.Contains(f.said(), "does not let go: killed") && f.pid("quorumfs-grpc") != before
	})
	if !alive(stranger.Process.Pid) {
		t.Error("the stranger is gone")
	}
}
