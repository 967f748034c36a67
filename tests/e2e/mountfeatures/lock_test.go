package mountfeatures

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"quorumfs.test/e2e/cluster"
)

// A lock of one of the two kinds, held by an open file.
type locker interface {
	lock(fd int) error
	try(fd int) error
	unlock(fd int) error
}

type flocks struct{}

func (flocks) lock(fd int) error   { return again(func() error { return unix.Flock(fd, unix.LOCK_EX) }) }
func (flocks) try(fd int) error    { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }
func (flocks) unlock(fd int) error { return unix.Flock(fd, unix.LOCK_UN) }

// Open file description locks: fcntl's, with the open file as the owner, so that one process can be several.
type fcntls struct{}

func (fcntls) set(fd, cmd int, kind int16) error {
	return again(func() error { return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: kind}) })
}
func (l fcntls) lock(fd int) error   { return l.set(fd, unix.F_OFD_SETLKW, unix.F_WRLCK) }
func (l fcntls) try(fd int) error    { return l.set(fd, unix.F_OFD_SETLK, unix.F_WRLCK) }
func (l fcntls) unlock(fd int) error { return l.set(fd, unix.F_OFD_SETLK, unix.F_UNLCK) }

// Go's runtime sends its threads signals.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatal(path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

func rounds(t testing.TB, few int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		return n
	}
	if os.Getenv("QUORUMFS_SOAK") != "" {
		return 1000
	}
	return few
}

// Two nodes take the same lock in turns. Who holds it reads a counter, which nobody else changes meanwhile, through handles
// that stay open; the readers' too. With flock(1), with flock(2), with fcntl(2).
func TestALockIsOneNodesAtATime(t *testing.T) {
	c := nodes(t, 3)
	for name, l := range map[string]locker{"flock": flocks{}, "fcntl": fcntls{}} {
		t.Run(name, func(t *testing.T) {
			handovers, workers := rounds(t, 100), 4
			shell(t, c.Nodes[0].Mount, `echo 0 > counter-`+name+`; : > lock-`+name)
			var wg sync.WaitGroup
			var mu sync.Mutex
			inside := 0
			expect(t, c.Nodes[1].Mount, `cat counter-`+name, "0\n")
			for w := 0; w < workers; w++ {
				node := c.Nodes[w%2]
				lockFile, counter := open(t, in(node, "lock-"+name)), open(t, in(node, "counter-"+name))
				reader, err := unix.Open(in(node, "counter-"+name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(reader)
				wg.Add(1)
				go func() {
					defer wg.Done()
					for i := 0; i < handovers/workers; i++ {
						if err := l.lock(int(lockFile.Fd())); err != nil {
							t.Errorf("lock on %s: %v", node.Name, err)
							return
						}
						mu.Lock()
						inside++
						if inside != 1 {
							t.Errorf("%d hold it", inside)
						}
						mu.Unlock()
						buf, again := make([]byte, 32), make([]byte, 32)
						n, err := unix.Pread(int(counter.Fd()), buf, 0)
						m, err2 := unix.Pread(reader, again, 0)
						if err := errors.Join(err, err2); err != nil || string(buf[:n]) != string(again[:m]) {
							t.Errorf("on %s a writer reads %q, a reader %q: %v", node.Name, buf[:n], again[:m], err)
						}
						count, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
						if _, err := unix.Pwrite(int(counter.Fd()), []byte(fmt.Sprintf("%d\n", count+1)), 0); err != nil {
							t.Errorf("write on %s: %v", node.Name, err)
						}
						if err := unix.Fsync(int(counter.Fd())); err != nil {
							t.Errorf("fsync on %s: %v", node.Name, err)
						}
						mu.Lock()
						inside--
						mu.Unlock()
						if err := l.unlock(int(lockFile.Fd())); err != nil {
							t.Errorf("unlock on %s: %v", node.Name, err)
						}
					}
				}()
			}
			wg.Wait()
			expect(t, c.Nodes[2].Mount, `cat counter-`+name, fmt.Sprintln(handovers/workers*workers))
		})
	}

	t.Run("flock(1)", func(t *testing.T) {
		// What is written is committed before the lock is given up: no fsync, the file itself is locked.
		script := `for i in $(seq 25); do flock .lock sh -c 'read -r n < sum; echo $((n + 1)) > sum'; done`
		shell(t, c.Nodes[0].Mount, `echo 0 > sum; : > .lock`)
		expect(t, c.Nodes[1].Mount, `cat sum; cat .lock`, "0\n")
		var wg sync.WaitGroup
		for i := 0; i < 4; i++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range rounds(t, 100) / 100 {
					if out, err := try(c.Nodes[i%2].Mount, script); err != nil {
						t.Errorf("%v %s", err, out)
						return
					}
				}
			}()
		}
		wg.Wait()
		expect(t, c.Nodes[2].Mount, `cat sum`, fmt.Sprintln(rounds(t, 100)/100*100))
	})
}

// Two nodes make the same file, neither of which knows of the other's: it is one file, with what was written to it, and for
// who has it open it stays the file that was opened.
func TestAFileMadeOnTwoNodesIsOne(t *testing.T) {
	c := nodes(t, 2)
	for i, how := range []string{"locks", "syncs", "closes"} {
		name := fmt.Sprint("made", i)
		writer, other := open(t, in(c.Nodes[0], name)), open(t, in(c.Nodes[1], name))
		var before, after syscall.Stat_t
		if err := syscall.Fstat(int(other.Fd()), &before); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Pwrite(int(writer.Fd()), []byte("content"), 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fsync(int(writer.Fd())); err != nil {
			t.Fatal(err)
		}
		switch how {
		case "locks":
			if err := again(func() error { return unix.Flock(int(other.Fd()), unix.LOCK_EX) }); err != nil {
				t.Fatal(err)
			}
		case "syncs":
			if err := unix.Fsync(int(other.Fd())); err != nil {
				t.Fatal(err)
			}
		}
		if how != "closes" {
			buf := make([]byte, 32)
			n, err := unix.Pread(int(other.Fd()), buf, 0)
			if err != nil || string(buf[:n]) != "content" {
				t.Errorf("%s: it reads %q, %v", how, buf[:n], err)
			}
			if err := syscall.Fstat(int(other.Fd()), &after); err != nil || before.Ino != after.Ino || after.Size != 7 {
				t.Errorf("%s: inode %d of %d bytes, it was %d: %v", how, after.Ino, after.Size, before.Ino, err)
			}
		}
		if err := other.Close(); err != nil {
			t.Errorf("%s: close: %v", how, err)
		}
		for _, n := range c.Nodes {
			expect(t, n.Mount, `cat `+name, "content")
		}
		// Truncated at its opening, it is as empty as that asks for.
		shell(t, c.Nodes[1].Mount, `: > `+name)
		expect(t, c.Nodes[0].Mount, `stat -c %s `+name, "0\n")
	}
}

// The rules of fcntl(2) and flock(2), between nodes.
func TestTheRulesOfLocks(t *testing.T) {
	c := nodes(t, 2)
	a, b := c.Nodes[0], c.Nodes[1]
	shell(t, a.Mount, `echo 0123456789 > f`)
	expect(t, b.Mount, `cat f`, "0123456789\n")
	here, there := open(t, in(a, "f")), open(t, in(b, "f"))
	set := func(f *os.File, kind int16, start, length int64) error {
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
	}
	conflict := func(f *os.File, kind int16, start, length int64) string {
		l := unix.Flock_t{Type: kind, Start: start, Len: length}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d %d+%d", l.Type, l.Start, l.Len)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	blocked := func(err error) {
		t.Helper()
		if err != unix.EAGAIN {
			t.Errorf("%v, wanted EAGAIN", err)
		}
	}
	must(set(here, unix.F_WRLCK, 2, 3))
	blocked(set(there, unix.F_RDLCK, 4, 1))
	must(set(there, unix.F_WRLCK, 5, 0))
	must(set(there, unix.F_RDLCK, 0, 2))
	must(set(here, unix.F_RDLCK, 0, 1))
	if got, want := conflict(there, unix.F_RDLCK, 0, 0), fmt.Sprintf("%d 2+3", unix.F_WRLCK); got != want {
		t.Errorf("in the way: %s, not %s", got, want)
	}
	if got, want := conflict(there, unix.F_RDLCK, 0, 2), fmt.Sprintf("%d 0+2", unix.F_UNLCK); !strings.HasPrefix(got, want[:2]) {
		t.Errorf("in the way: %s, not %s", got, want)
	}
	must(set(here, unix.F_UNLCK, 3, 1))
	must(set(there, unix.F_RDLCK, 3, 1))
	blocked(set(there, unix.F_RDLCK, 2, 1))

	t.Run("a close releases", func(t *testing.T) {
		must(here.Close())
		cluster.Until(t, "the range is free", func() (bool, string) {
			err := set(there, unix.F_WRLCK, 0, 5)
			return err == nil, fmt.Sprint(err)
		})
		must(set(there, unix.F_UNLCK, 0, 0))
	})

	t.Run("flock and fcntl do not meet", func(t *testing.T) {
		here := open(t, in(a, "f"))
		must(unix.Flock(int(here.Fd()), unix.LOCK_EX))
		must(set(there, unix.F_WRLCK, 0, 0))
		blocked(unix.Flock(int(there.Fd()), unix.LOCK_SH|unix.LOCK_NB))
		must(unix.Flock(int(here.Fd()), unix.LOCK_SH))
		must(unix.Flock(int(there.Fd()), unix.LOCK_SH|unix.LOCK_NB))
		must(set(there, unix.F_UNLCK, 0, 0))
		must(unix.Flock(int(there.Fd()), unix.LOCK_UN))
	})

	t.Run("a signal ends a wait", func(t *testing.T) {
		must(unix.Flock(int(there.Fd()), unix.LOCK_EX))
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			waiter := start(t, "flock", in(a, "f"), "true")
			cluster.Until(t, "it waits", func() (bool, string) {
				out, err := try(a.Mount, `cat .quorumfs/locks/* || true`)
				return err == nil && strings.Contains(out, `"waiting":true`), out
			})
			waiter.Process.Signal(sig)
			done := make(chan error, 1)
			go func() { done <- waiter.Wait() }()
			select {
			case err := <-done:
				if err == nil {
					t.Error("it had the lock")
				}
			case <-time.After(cluster.Bound):
				t.Fatal("it still waits")
			}
		}
		must(unix.Flock(int(there.Fd()), unix.LOCK_UN))
		shell(t, a.Mount, `flock -n f true`) // none of the two has it
	})

	t.Run("a killed holder's process releases", func(t *testing.T) {
		holder := start(t, "flock", in(a, "f"), "sleep", "1000")
		cluster.Until(t, "it is held", func() (bool, string) {
			err := unix.Flock(int(there.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil {
				unix.Flock(int(there.Fd()), unix.LOCK_UN)
			}
			return err == unix.EAGAIN, fmt.Sprint(err)
		})
		shell(t, a.Mount, fmt.Sprintf(`pkill -KILL -P %d`, holder.Process.Pid)) // the open file is the sleeper's too
		holder.Wait()
		must(again(func() error { return unix.Flock(int(there.Fd()), unix.LOCK_EX) }))
		must(unix.Flock(int(there.Fd()), unix.LOCK_UN))
	})

	t.Run("a deadlock of two is seen", func(t *testing.T) {
		first, second := open(t, in(a, "f")), open(t, in(b, "f"))
		must(set(first, unix.F_WRLCK, 0, 1))
		must(set(second, unix.F_WRLCK, 1, 1))
		waits := make(chan error, 2)
		wait := func(f *os.File, at int64) {
			waits <- again(func() error {
				return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
			})
		}
		go wait(first, 1)
		go wait(second, 0)
		if err := <-waits; err != unix.EDEADLK {
			t.Errorf("%v, wanted EDEADLK", err)
		}
		first.Close()
		second.Close()
		<-waits
	})

	t.Run("tokens rise", func(t *testing.T) {
		last := 0
		for i := 0; i < 6; i++ {
			node := c.Nodes[i%2]
			f := open(t, in(node, "f"))
			must(again(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }))
			text, err := getxattr(in(node, "f"), "user.quorumfs.lock_token")
			must(err)
			token, _ := strconv.Atoi(text)
			if token <= last {
				t.Errorf("token %d after %d", token, last)
			}
			last = token
			must(unix.Flock(int(f.Fd()), unix.LOCK_UN))
		}
	})
}

// holder is a process that locks a file, says so, and does what it is told, line by line: it writes to the file with "write
// TEXT", and says "ok" or the error.
const holder = `
import fcntl, os, sys
f = open(sys.argv[1], 'r+b', buffering=0)
fcntl.flock(f, fcntl.LOCK_EX)
print('locked', flush=True)
for line in sys.stdin:
    try:
        os.pwrite(f.fileno(), line.encode(), 0)
        os.fsync(f.fileno())
        print('ok', flush=True)
    except OSError as e:
        print(e.errno, flush=True)
`

type holding struct {
	cmd   *exec.Cmd
	in    func(string)
	lines chan string
}

func hold(t *testing.T, path string) *holding {
	t.Helper()
	cmd := exec.Command("python3", "-c", holder, path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &holding{cmd, func(s string) { fmt.Fprint(stdin, s) }, make(chan string, 100)}
	go func() {
		for in := bufio.NewScanner(stdout); in.Scan(); {
			h.lines <- in.Text()
		}
		close(h.lines)
	}()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return h
}

func (h *holding) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case line := <-h.lines:
		if line != want {
			t.Errorf("%q, wanted %q", line, want)
		}
	case <-time.After(2 * cluster.Bound):
		t.Fatalf("nothing comes, wanted %q", want)
	}
}

// The holder's node dies, or is stopped for longer than its lease: another node gets the lock, and what the former holder
// still writes does not reach the file.
func TestALostHoldersLockIsAnothers(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	needMounts(t)
	c := cluster.Start(t, cluster.Options{Nodes: 3, Mount: true, MayLeave: true, Flags: func(n *cluster.Node) []string {
		return []string{"--no-sidecar"}
	}})
	times := 1
	if os.Getenv("QUORUMFS_SOAK") != "" {
		times = 10
	}
	for i := 0; i < times; i++ {
		t.Run("stopped", func(t *testing.T) {
			victim := c.Follower()
			other := c.Others(victim)[0]
			file := fmt.Sprint("s", i)
			shell(t, other.Mount, `echo begin > `+file)
			expect(t, victim.Mount, `cat `+file, "begin\n")
			first := hold(t, in(victim, file))
			first.expect(t, "locked")
			first.in("first\n")
			first.expect(t, "ok")
			syscall.Kill(victim.NodePID(), syscall.SIGSTOP)
			second := hold(t, in(other, file))
			second.expect(t, "locked")
			second.in("second\n")
			second.expect(t, "ok")
			// Written while its node stands still: it goes out with the first thing that the node does when it runs on.
			first.in("stale\n")
			time.Sleep(50 * time.Millisecond) // not a condition: both orders must do
			syscall.Kill(victim.NodePID(), syscall.SIGCONT)
			first.expect(t, fmt.Sprint(int(syscall.EIO)))
			expect(t, victim.Mount, `cat `+file, "second\n")
			first.in("still stale\n")
			first.expect(t, fmt.Sprint(int(syscall.EIO)))
			second.in("second again\n")
			second.expect(t, "ok")
			first.cmd.Process.Kill()
			first.cmd.Wait()
			// Closed, it is a file like any other.
			third := hold(t, in(victim, file))
			second.cmd.Process.Kill()
			third.expect(t, "locked")
			third.in("third\n")
			third.expect(t, "ok")
			expect(t, other.Mount, `head -c 6 `+file, "third\n")
		})

		t.Run("killed", func(t *testing.T) {
			victim := c.Follower()
			other := c.Others(victim)[0]
			file := fmt.Sprint("k", i)
			shell(t, other.Mount, `echo begin > `+file)
			expect(t, victim.Mount, `cat `+file, "begin\n")
			first := hold(t, in(victim, file))
			first.expect(t, "locked")
			first.in("first\n")
			first.expect(t, "ok")
			second := hold(t, in(other, file))
			victim.Kill() // the whole node, its mount included
			second.expect(t, "locked")
			second.in("second\n")
			second.expect(t, "ok")
			first.in("gone\n")
			if line := <-first.lines; line == "ok" {
				t.Error("a dead node's mount takes writes")
			}
			victim.Start()
			expect(t, victim.Mount, `head -c 7 `+file, "second\n")
			third := hold(t, in(victim, file))
			second.cmd.Process.Kill()
			third.expect(t, "locked")
		})
	}
}
