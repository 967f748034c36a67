package node

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// family is a quorumfsd whose sidecar and mount are scripts beside it, so that each can do what a test wants. A script's
// NAME.does says what: lines of shell. Each start adds a line to NAME.log: the process and its arguments.
type family struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

func (f *family) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.Write(p)
}

func (f *family) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.String()
}

// Waiting is a read from the pipe that says nothing until the supervisor has gone: no process of its own to leave behind.
const (
	serve  = "trap 'echo TERM $0 >>$0.ended; exit 0' TERM\necho ready >&$QUORUMFS_READY_FD\nread <&$QUORUMFS_PARENT_FD"
	silent = "trap '' TERM\necho ready >&$QUORUMFS_READY_FD\nread <&$QUORUMFS_PARENT_FD"
)

func newFamily(t *testing.T) *family {
	f := &family{t: t, dir: cluster.TempDir(t)}
	program, err := os.ReadFile(cluster.Program("quorumfsd"))
	if err != nil {
		t.Fatal(err)
	}
	f.write("quorumfsd", string(program))
	for _, name := range []string{"quorumfs-grpc", "quorumfs"} {
		f.write(name, "#!/bin/bash\necho $$ \"$@\" >>$0.log\n. $0.does\n")
		f.does(name, serve)
	}
	return f
}

func (f *family) write(name, content string) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+".tmp", []byte(content), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		f.t.Fatal(err)
	}
}

func (f *family) does(name, what string) { f.write(name+".does", what+"\n") }

func (f *family) read(name string) string {
	content, _ := os.ReadFile(filepath.Join(f.dir, name))
	return string(content)
}

// starts is each start of a script: process and arguments.
func (f *family) starts(name string) []string {
	return strings.Fields(strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(f.read(name+".log"), " ", "\x01")), "\n", " "))
}

func (f *family) pid(name string) int {
	all := f.starts(name)
	if len(all) == 0 {
		return 0
	}
	pid, _ := strconv.Atoi(strings.Split(all[len(all)-1], "\x01")[0])
	return pid
}

func (f *family) start(more ...string) {
	f.t.Helper()
	args := single(f.t, filepath.Join(f.dir, "d"), append([]string{"--mount", filepath.Join(f.dir, "m") + ",ro,prefix=/x"}, more...)...)
	f.cmd = exec.Command(filepath.Join(f.dir, "quorumfsd"), args...)
	f.cmd.Stderr = f
	f.cmd.WaitDelay = 5 * time.Second
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.done = make(chan struct{})
	go func() {
		f.cmd.Wait()
		close(f.done)
	}()
	f.t.Cleanup(func() {
		f.cmd.Process.Kill()
		<-f.done
	})
}

func (f *family) until(what string, condition func() bool) {
	f.t.Helper()
	cluster.Until(f.t, what, func() (bool, string) { return condition(), f.said() })
}

func (f *family) ready() {
	f.t.Helper()
	f.until("ready", func() bool { return strings.Contains(f.said(), cluster.ReadyLine) })
}

func (f *family) exit() int {
	f.t.Helper()
	f.until("the end of the supervisor", func() bool {
		select {
		case <-f.done:
			return true
		default:
			return false
		}
	})
	return f.cmd.ProcessState.ExitCode()
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestChildrenGetWhatTheContractSays(t *testing.T) {
	f := newFamily(t)
	f.start("--log-level", "warn")
	f.ready()
	socket := filepath.Join(f.dir, "d", "node.sock")
	grpc := strings.Split(f.starts("quorumfs-grpc")[0], "\x01")[1:]
	if len(grpc) != 10 || grpc[0] != "--socket" || grpc[1] != socket || grpc[2] != "--listen-client-urls" ||
		grpc[4] != "--advertise-client-urls" || strings.Join(grpc[6:], " ") != "--name n1 --log-level warn" {
		t.Errorf("sidecar: %q", grpc)
	}
	mount := strings.ReplaceAll(f.starts("quorumfs")[0], "\x01", " ")
	if want := filepath.Join(f.dir, "m") + " -f -o node=" + socket + ",ro,prefix=/x"; !strings.HasSuffix(mount, want) {
		t.Errorf("mount: %q, not %q", mount, want)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.pid("quorumfs")))
	if err != nil || len(fds) > 7 { // three, two pipes, the script twice
		t.Errorf("it inherits %d descriptors, %v", len(fds), err)
	}
}

func TestNotReadyBeforeEveryChildIs(t *testing.T) {
	f := newFamily(t)
	f.does("quorumfs", "while [ ! -e $0.go ]; do sleep 0.02; done\n"+serve)
	f.start()
	f.until("a mount that waits", func() bool { return f.pid("quorumfs") != 0 })
	cluster.Until(t, "the node answers", func() (bool, string) {
		out, err := exec.Command(cluster.Program("quorumctl"), "--socket", filepath.Join(f.dir, "d", "node.sock"), "status").CombinedOutput()
		return err == nil, string(out)
	})
	if strings.Contains(f.said(), cluster.ReadyLine) {
		t.Errorf("ready without the mount: %s", f.said())
	}
	f.write("quorumfs.go", "")
	f.ready()
}

func TestWhatDiesIsStartedAgain(t *testing.T) {
	f := newFamily(t)
	f.start()
	f.ready()
	for _, name := range []string{"quorumfs-grpc", "quorumfs"} {
		before := f.pid(name)
		syscall.Kill(before, syscall.SIGKILL)
		f.until(name+" again", func() bool { return f.pid(name) != before })
	}
	// A status that is final before the first readiness is not so after it.
	f.does("quorumfs-grpc", "exit 2")
	n := len(f.starts("quorumfs-grpc"))
	syscall.Kill(f.pid("quorumfs-grpc"), syscall.SIGKILL)
	f.until("tries", func() bool { return len(f.starts("quorumfs-grpc")) >= n+2 })
	f.does("quorumfs-grpc", serve)
	f.until("it serves", func() bool { return alive(f.pid("quorumfs-grpc")) && len(f.starts("quorumfs-grpc")) >= n+3 })
	if strings.Count(f.said(), cluster.ReadyLine) != 1 {
		t.Errorf("the ready line is said once:\n%s", f.said())
	}
}

func TestAMountThatWasUnmountedStaysSo(t *testing.T) {
	f := newFamily(t)
	f.start()
	f.ready()
	syscall.Kill(f.pid("quorumfs"), syscall.SIGTERM) // the script ends with 0, as after umount
	f.until("said", func() bool { return strings.Contains(f.said(), "was unmounted") })
	before := f.pid("quorumfs-grpc")
	syscall.Kill(before, syscall.SIGKILL) // the supervisor goes on meanwhile
	f.until("the sidecar again", func() bool { return f.pid("quorumfs-grpc") != before })
	if len(f.starts("quorumfs")) != 1 {
		t.Error("it was started again")
	}
}

func TestAChildThatCannotWorkEndsEverything(t *testing.T) {
	for name, status := range map[string]int{"quorumfs-grpc": 2, "quorumfs": 3} {
		t.Run(name, func(t *testing.T) {
			f := newFamily(t)
			f.does(name, fmt.Sprintf("echo it is because of this >&2\nexit %d", status))
			f.start("--log-level", "error")
			if code := f.exit(); code != 1 {
				t.Errorf("status %d", code)
			}
			if f.said() != "it is because of this\n" {
				t.Errorf("not the one line of the child: %q", f.said())
			}
		})
	}
}

func TestStopGoesInOrder(t *testing.T) {
	f := newFamily(t)
	for _, name := range []string{"quorumfs-grpc", "quorumfs"} {
		f.does(name, strings.ReplaceAll(serve, "$0.ended", filepath.Join(f.dir, "ended")))
	}
	f.start()
	f.ready()
	node := f.nodePID()
	f.cmd.Process.Signal(syscall.SIGTERM)
	f.cmd.Process.Signal(syscall.SIGTERM) // as timeout(1) does: no reason to hurry
	if code := f.exit(); code != 0 {
		t.Errorf("status %d\n%s", code, f.said())
	}
	var order []string
	for _, line := range strings.Split(strings.TrimSpace(f.read("ended")), "\n") {
		order = append(order, filepath.Base(line))
	}
	if strings.Join(order, " ") != "quorumfs quorumfs-grpc" {
		t.Errorf("ended in the order %q", order)
	}
	if alive(node) {
		t.Error("the node lives")
	}
}

func (f *family) nodePID() int {
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(f.cmd.Process.Pid), "-f", "internal-node").Output()
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	if pid == 0 {
		f.t.Fatalf("no node\n%s", f.said())
	}
	return pid
}

func TestASecondInterruptEndsWhatDoesNotStop(t *testing.T) {
	f := newFamily(t)
	f.does("quorumfs", "trap 'echo asked >>$0.asked' TERM\necho ready >&$QUORUMFS_READY_FD\n"+
		"while [ -e $0 ]; do read -t 0.1 <&$QUORUMFS_PARENT_FD; done")
	f.start()
	f.ready()
	mount := f.pid("quorumfs")
	f.cmd.Process.Signal(syscall.SIGTERM)
	f.until("the mount is asked", func() bool { return f.read("quorumfs.asked") != "" })
	f.cmd.Process.Signal(syscall.SIGTERM) // timeout(1) sends it twice: that is no hurry
	before := time.Now()
	f.cmd.Process.Signal(syscall.SIGINT)
	f.exit()
	if took := time.Since(before); took > 4*time.Second {
		t.Errorf("it took %v\n%s", took, f.said())
	}
	if alive(mount) {
		t.Error("the mount lives")
	}
}

func TestChildrenDieWithTheSupervisor(t *testing.T) {
	f := newFamily(t)
	f.does("quorumfs", silent)
	f.start()
	f.ready()
	children := []int{f.nodePID(), f.pid("quorumfs-grpc"), f.pid("quorumfs")}
	f.cmd.Process.Kill()
	for _, pid := range children {
		f.until(fmt.Sprintf("the end of %d", pid), func() bool { return !alive(pid) })
	}
}

// Whoever restarts a supervisor that was killed does not wait for its children to be gone.
func TestAStartRightAfterAKill(t *testing.T) {
	f := newFamily(t)
	f.start()
	f.ready()
	args := f.cmd.Args[1:]
	for range 5 {
		f.cmd.Process.Kill()
		next := exec.Command(f.cmd.Path, args...)
		next.SysProcAttr = f.cmd.SysProcAttr
		next.WaitDelay = f.cmd.WaitDelay
		<-f.done
		f.mu.Lock()
		f.out.Reset()
		f.mu.Unlock()
		next.Stderr = f
		if err := next.Start(); err != nil {
			t.Fatal(err)
		}
		f.cmd = next
		done := make(chan struct{})
		f.done = done
		go func() {
			next.Wait()
			close(done)
		}()
		f.ready()
	}
}
