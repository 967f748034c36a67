package mountfeatures

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// What stands in .quorumfs says what is so, is not in the way of anything and cannot be changed.
func TestTheDirectoryBesideTheData(t *testing.T) {
	c := nodes(t, 3)
	n := c.Nodes[0]
	shell(t, n.Mount, `echo one > f; mkdir -p d/e; echo two > d/e/g`)

	t.Run("is there and not listed", func(t *testing.T) {
		if out := shell(t, n.Mount, `ls -A; find . -name .quorumfs; cd .quorumfs; ls | tr '\n' ' '`); !strings.HasPrefix(out,
			"d\nf\nevents health history") {
			t.Error(out)
		}
		if kv, err := n.GetKV("/.quorumfs/status"); err != nil || kv != nil {
			t.Errorf("it is a key: %v %v", kv, err)
		}
		// A key of that name is another file, and not in its way.
		if _, err := n.Put("/.quorumfs", "a key"); err != nil {
			t.Fatal(err)
		}
		if out := shell(t, n.Mount, `cat '%:.quorumfs'; cat .quorumfs/health`); out != "a keyok\n" {
			t.Error(out)
		}
	})

	t.Run("status and members", func(t *testing.T) {
		var status struct {
			Mountpoint, Leader string
			Connected          bool
			Revision           int64
			Node               struct {
				Name    string
				Members []map[string]any
			}
		}
		if err := json.Unmarshal([]byte(shell(t, n.Mount, `cat .quorumfs/status`)), &status); err != nil {
			t.Fatal(err)
		}
		if status.Mountpoint != n.Mount || !status.Connected || status.Node.Name != n.Name || len(status.Node.Members) != 3 ||
			status.Leader == "0" {
			t.Errorf("%+v", status)
		}
		leader := c.Leader()
		expect(t, n.Mount, `ls .quorumfs/members | wc -l; cat .quorumfs/members/* | grep '"leader":true' | sed 's/.*"name":"\([^"]*\)".*/\1/'`,
			"3\n"+leader.Name+"\n")
		if out := shell(t, n.Mount, `grep '^quorumfs_mount_revision [1-9]' .quorumfs/metrics | wc -l`); out != "1\n" {
			t.Error(shell(t, n.Mount, `cat .quorumfs/metrics`))
		}
	})

	t.Run("nothing in it can be changed", func(t *testing.T) {
		for _, script := range []string{`echo > .quorumfs/status`, `touch .quorumfs/x`, `mkdir .quorumfs/x`, `rmdir .quorumfs`,
			`rm .quorumfs/rev/2/f`, `mv f .quorumfs/f`, `mv .quorumfs/health h`, `ln -s a .quorumfs/l`, `mknod .quorumfs/p p`,
			`chmod 700 .quorumfs/rev`, `mv -T d .quorumfs`} {
			out, err := try(n.Mount, `LC_ALL=C `+script)
			if err == nil || !strings.Contains(out, "Read-only file system") {
				t.Errorf("%s: %v %s", script, err, out)
			}
		}
	})

	t.Run("a revision read on one node is there on the others at once", func(t *testing.T) {
		for i := 0; i < 20; i++ {
			revision := strings.TrimSpace(shell(t, n.Mount, fmt.Sprintf(`echo %d > count; cat .quorumfs/revision`, i)))
			if out := shell(t, c.Nodes[1+i%2].Mount, `cat .quorumfs/rev/`+revision+`/count`); out != fmt.Sprintln(i) {
				t.Errorf("revision %s has %q, not %d", revision, out, i)
			}
		}
	})

	t.Run("without a quorum", func(t *testing.T) {
		syscall.Kill(c.Nodes[1].NodePID(), syscall.SIGSTOP)
		syscall.Kill(c.Nodes[2].NodePID(), syscall.SIGSTOP)
		defer syscall.Kill(c.Nodes[1].NodePID(), syscall.SIGCONT)
		defer syscall.Kill(c.Nodes[2].NodePID(), syscall.SIGCONT)
		cluster.Until(t, "health says so", func() (bool, string) {
			out, err := try(n.Mount, `cat .quorumfs/health`)
			return err == nil && strings.HasPrefix(out, "unavailable: "), out
		})
		if out := shell(t, n.Mount, `cat .quorumfs/status .quorumfs/metrics; cat .quorumfs/rev/2/f`); !strings.HasSuffix(out, "\none\n") {
			t.Error(out)
		}
	})
}

// What a tree is, as find and md5sum see it. Directories have no times of their own.
const describe = `find . -mindepth 1 -printf '%P %y %m %U:%G %l\n' | sort; find . -type f -printf '%P %s %T@\n' | sort
	find . -type f -print0 | sort -z | xargs -0 -r md5sum`

// Each revision can be entered as it was: directories made by mkdir, attributes, links and renames included; on every node.
func TestEachRevisionIsAsItWas(t *testing.T) {
	c := nodes(t, 2)
	n, other := c.Nodes[0], c.Nodes[1]
	steps := []string{`mkdir d`, `echo one > d/f`, `chmod 750 d`, `ln -s d/f l`, `mkdir -p d/e/empty`, `echo two >> d/f`, `mv d q`, `chmod 600 q/f`,
		`rmdir q/e/empty`, `mkfifo q/p`, `cp -a q copy`, `rm -r q`, `touch -d 2001-02-03 copy/f`, `mkdir q`, `mv copy q/`, `mv q/copy/f q/copy/e/f`,
		`rm q/copy/e/f; mkdir q/copy/e/f`, `head -c 100000 /dev/zero > q/zeros`, `rm -r q l`}
	revisions := []string{}
	trees := map[string]string{}
	for _, step := range steps {
		shell(t, n.Mount, step)
		revision := strings.TrimSpace(shell(t, n.Mount, `cat .quorumfs/revision`))
		revisions = append(revisions, revision)
		trees[revision] = shell(t, n.Mount, describe)
	}
	if _, err := n.Put("/by/clientv3", "key"); err != nil { // a directory that nobody made
		t.Fatal(err)
	}
	revision := strings.TrimSpace(shell(t, n.Mount, `cat .quorumfs/revision`))
	revisions = append(revisions, revision)
	trees[revision] = shell(t, n.Mount, describe)
	if _, err := n.Delete("/by/clientv3"); err != nil {
		t.Fatal(err)
	}
	compare := func(from int) {
		for i, revision := range revisions[from:] {
			for _, node := range []*cluster.Node{n, other} {
				if got := shell(t, in(node, ".quorumfs/rev", revision), describe); got != trees[revision] {
					t.Errorf("after step %d revision %s is\n%s\nand was\n%s", from+i, revision, got, trees[revision])
				}
			}
		}
	}
	compare(0)

	t.Run("a file can be copied back, mapped and run", func(t *testing.T) {
		shell(t, n.Mount, `printf '#!/bin/sh\necho it runs' > s; chmod 755 s`)
		at := strings.TrimSpace(shell(t, n.Mount, `cat .quorumfs/revision; echo other > s`))
		if out := shell(t, n.Mount, `.quorumfs/rev/`+at+`/s; cp -a .quorumfs/rev/`+at+`/s s; ./s; cmp s .quorumfs/rev/`+at+`/s`); out !=
			"it runs\nit runs\n" {
			t.Error(out)
		}
	})

	t.Run("what is compacted is stale, what is to come is not there", func(t *testing.T) {
		at := len(revisions) / 2
		n.MustCtl("compact", revisions[at])
		cluster.Until(t, "the compaction is here", func() (bool, string) {
			out, err := try(other.Mount, `LC_ALL=C ls .quorumfs/rev/`+revisions[at-1])
			return err != nil && strings.Contains(out, "Stale file handle"), out
		})
		compare(at)
		for _, name := range []string{"99999999", "0", "01", "+1", "x"} {
			if _, err := os.Stat(in(n, ".quorumfs/rev", name)); !os.IsNotExist(err) {
				t.Errorf("rev/%s: %v", name, err)
			}
		}
		if out := shell(t, other.Mount, `ls .quorumfs/rev | head -n 1`); out != revisions[at]+"\n" {
			t.Errorf("the oldest is %s, not %s", out, revisions[at])
		}
	})
}

// history/PATH/ has the file's revisions, those of deleted files too.
func TestAFileHasItsHistory(t *testing.T) {
	c := nodes(t, 1)
	n := c.Nodes[0]
	at := func(script string) string {
		return strings.TrimSpace(shell(t, n.Mount, script+`; cat .quorumfs/revision`))
	}
	r1, r2, r3 := at(`mkdir d; echo one > d/f`), at(`echo two > d/f; touch -d @981158400 d/f`), at(`rm d/f`)
	r4, r5 := at(`echo three > d/f`), at(`mv d/f d/g`)
	history := in(n, ".quorumfs/history")
	if out := shell(t, history, `ls; ls d; ls -U d/f | tr '\n' ' '; ls d/g`); out != "d\nf\ng\n"+strings.Join([]string{r1,
		fmt.Sprint(number(r2) - 1), r2, r3 + ".deleted", r4, r5 + ".deleted", r5}, " ")+"\n" {
		t.Error(out)
	}
	if out := shell(t, history, `cat d/f/`+r1+` d/f/`+r2+` d/f/`+r4+`; stat -c '%Y %s' d/f/`+r2+`; cat d/f/`+r3+`.deleted`); out !=
		"one\ntwo\nthree\n981158400 4\n" {
		t.Error(out)
	}
	if out := shell(t, n.Mount, `ls -A; cp .quorumfs/history/d/f/`+r1+` back; cat back; rm -r d; ls .quorumfs/history/d`); out != "d\none\nf\ng\n" {
		t.Error(out)
	}
	// The same without a mount.
	if out := n.MustCtl("fs", "history", "/d/f"); strings.Join(strings.Fields(out)[0:1], "") != r1 || strings.Count(out, "\n") != 6 ||
		!strings.Contains(out, r3+" delete") {
		t.Error(out)
	}
	if out := n.MustCtl("fs", "cat", "/d/f", "--rev", r1); out != "one\n" {
		t.Errorf("%q", out)
	}
	if out := n.MustCtl("fs", "ls", "/d", "--rev", r4); !strings.HasSuffix(out, " f\n") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
	// A key beside a directory, one without a leading slash, and one of a long name.
	long := strings.Repeat("k", 300)
	for _, key := range []string{"/a", "/a/b", "bare", "/" + long} {
		if _, err := n.Put(key, "of "+key[:2]); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"a/%:value", "a/b", "%:bare/bare", long[:250] + "%+/" + long[250:]} {
		if out := shell(t, n.Mount, `cat "$(ls -d .quorumfs/history/`+path+`/*)"`); !strings.HasPrefix(out, "of ") {
			t.Errorf("%s: %s", path, out)
		}
	}
}

func number(text string) (n int64) {
	fmt.Sscan(text, &n)
	return n
}

// stream is a running cat of an events file.
type stream struct {
	cmd   *exec.Cmd
	lines chan string
}

func follow(t *testing.T, dir, name string) *stream {
	t.Helper()
	s := &stream{cmd: exec.Command("cat", name), lines: make(chan string, 100000)}
	s.cmd.Dir = dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		in := bufio.NewScanner(out)
		for in.Scan() {
			s.lines <- in.Text()
		}
		close(s.lines)
	}()
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	return s
}

type change struct {
	Revision        int64
	Type, Path, To  string
	PathBase64      string `json:"path_base64"`
	Size            int64
	Created         bool
	CompactRevision int64 `json:"compact_revision"`
}

func (s *stream) next(t *testing.T) change {
	t.Helper()
	var c change
	select {
	case line, ok := <-s.lines:
		if !ok {
			t.Fatal("the stream has ended")
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	case <-time.After(cluster.Bound):
		t.Fatal("nothing comes")
	}
	return c
}

func TestEventsAreAStream(t *testing.T) {
	c := nodes(t, 3)
	n, other := c.Nodes[0], c.Nodes[1]
	shell(t, n.Mount, `echo before > before`)
	s := follow(t, n.Mount, ".quorumfs/events")
	// It begins with what comes after its opening: the first change that it shows tells that it is open.
	opened := int64(0)
	cluster.Until(t, "the stream is open", func() (bool, string) {
		shell(t, other.Mount, `echo > ping`)
		select {
		case line := <-s.lines:
			var first change
			json.Unmarshal([]byte(line), &first)
			opened = first.Revision
			return first.Path == "ping", line
		case <-time.After(100 * time.Millisecond):
			return false, "nothing yet"
		}
	})
	shell(t, other.Mount, `echo one > f; mkdir d; mv f d/g; chmod 600 d/g; rm d/g; rmdir d; printf x > $'\xff'`)
	want := []string{"put f", "mkdir d", "rename f d/g", "attributes d/g", "delete d/g", "rmdir d", "put /w=="}
	last := opened
	for _, w := range want {
		e := s.next(t)
		for e.Path == "ping" {
			e = s.next(t)
		}
		if got := strings.TrimSpace(e.Type + " " + e.Path + e.PathBase64 + " " + e.To); got != w || e.Revision <= last {
			t.Errorf("%s at %d after %d, wanted %s", got, e.Revision, last, w)
		}
		last = e.Revision
	}

	t.Run("from a revision on", func(t *testing.T) {
		again := follow(t, other.Mount, fmt.Sprintf(".quorumfs/events@%d", opened))
		if e := again.next(t); e.Revision != opened {
			t.Errorf("%+v, wanted revision %d", e, opened)
		}
		future := follow(t, other.Mount, fmt.Sprintf(".quorumfs/events@%d", last+2))
		shell(t, n.Mount, `echo > a; echo > b`)
		if e := future.next(t); e.Revision != last+2 || e.Path != "b" {
			t.Errorf("%+v, wanted b at %d", e, last+2)
		}
	})

	t.Run("a signal ends a wait at once", func(t *testing.T) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
			waiting := follow(t, n.Mount, ".quorumfs/events")
			cluster.Until(t, "cat waits", func() (bool, string) {
				state, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", waiting.cmd.Process.Pid))
				return err == nil && strings.Contains(string(state), "request_wait_answer"), string(state)
			})
			waiting.cmd.Process.Signal(sig)
			done := make(chan error, 1)
			go func() { done <- waiting.cmd.Wait() }()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				t.Errorf("cat still waits after %v", sig)
			}
		}
	})

	t.Run("none is lost in many", func(t *testing.T) {
		many := follow(t, n.Mount, fmt.Sprintf(".quorumfs/events@%d", last+1))
		shell(t, other.Mount, `mkdir m; cd m; for i in $(seq 2000); do : > $i; done`)
		seen := map[string]bool{}
		for len(seen) < 2000 {
			e := many.next(t)
			if e.Type == "put" && strings.HasPrefix(e.Path, "m/") {
				if seen[e.Path] {
					t.Fatalf("%s twice", e.Path)
				}
				seen[e.Path] = true
			}
		}
	})

	t.Run("an old revision far back", func(t *testing.T) { // its directories are collected from the log, in several slices
		if out := shell(t, n.Mount, fmt.Sprintf(`ls -A .quorumfs/rev/%d; ls .quorumfs/rev/%d/m | wc -l`, opened, last+1000)); !strings.HasPrefix(out,
			"before\nping\n") || number(out[len("before\nping\n"):]) < 900 {
			t.Error(out)
		}
	})

	t.Run("compaction overtakes a reader that does not read", func(t *testing.T) {
		// Not os.Open: Go polls files, and who polls is read ahead for.
		fd, err := syscall.Open(in(n, ".quorumfs", fmt.Sprintf("events@%d", opened)), syscall.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		n.MustCtl("compact", fmt.Sprint(last))
		cluster.Until(t, "the compaction is here", func() (bool, string) {
			_, err := os.Stat(in(n, ".quorumfs", "rev", fmt.Sprint(opened)))
			return err != nil && err.(*os.PathError).Err == syscall.ESTALE, fmt.Sprint(err)
		})
		buf := make([]byte, 4096)
		got, err := syscall.Read(fd, buf)
		if err != nil || !strings.Contains(string(buf[:got]), `"type":"compacted"`) {
			t.Errorf("%q %v", buf[:got], err)
		}
		if _, err := syscall.Read(fd, buf); err != syscall.ESTALE {
			t.Errorf("it goes on: %v", err)
		}
	})
}
