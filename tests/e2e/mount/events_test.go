package mount

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

// shell runs a script in a directory; a mount that hangs fails the test instead of hanging it.
func shell(t testing.TB, dir, script string) string {
	t.Helper()
	out, err := try(dir, script)
	if err != nil {
		t.Fatalf("in %s: %s: %v\n%s", dir, script, err, out)
	}
	return out
}

func try(dir, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-u", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %v", cluster.Bound)
	}
	return string(out), err
}

// three starts three nodes with a mount each and no sidecars.
func three(t testing.TB) *cluster.Cluster {
	t.Helper()
	return threeWith(t, "--no-sidecar")
}

func threeWith(t testing.TB, flags ...string) *cluster.Cluster {
	t.Helper()
	cluster.Need(t, "quorumfsd", "quorumfs", "quorumctl")
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	return cluster.Start(t, cluster.Options{Nodes: 3, Mount: true, Flags: func(*cluster.Node) []string { return flags }})
}

func tmpfs(t testing.TB) string {
	t.Helper()
	dir := cluster.TempDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	return dir
}

const listing = `find . -mindepth 1 -printf '%P %y %m %s %l\n' | sed -E 's/ d ([0-9]+) [0-9]+ $/ d \1 0 /' | sort; find . -type f -print0 | sort -z | xargs -0 -r md5sum`

// same waits until the trees below two directories are the same.
func same(t testing.TB, a, b string) {
	t.Helper()
	cluster.Until(t, b+" is as "+a, func() (bool, string) {
		x, err := try(a, listing)
		if err != nil {
			return false, fmt.Sprint(x, err)
		}
		y, err := try(b, listing)
		if err != nil {
			return false, fmt.Sprint(y, err)
		}
		return x == y, fmt.Sprintf("%s:\n%s%s:\n%s", a, x, b, y)
	})
}

type eventCase struct {
	name, setup, script string
	dirs                []string
}

// The commands of people and programs, each in a directory of its own. Dirs are watched besides the case's top.
var cases = []eventCase{
	{"echo to a new file", ``, `echo hello > motd`, nil},
	{"echo over a file", `echo one > f`, `echo two > f`, nil},
	{"append", `echo one > f`, `echo two >> f`, nil},
	{"an empty file", ``, `: > f`, nil},
	{"touch of a new file", ``, `touch f`, nil},
	{"touch of an old file", `echo one > f`, `touch -d 2001-02-03 f`, nil},
	{"truncate", `echo one > f`, `truncate -s 2 f`, nil},
	{"rm", `echo one > f`, `rm f`, nil},
	{"mkdir and rmdir", ``, `mkdir d; rmdir d`, nil},
	{"mkdir", ``, `mkdir d`, nil},
	{"rmdir of a watched directory", `mkdir d`, `rmdir d`, []string{"d"}},
	{"mv of a file", `echo one > f`, `mv f g`, nil},
	{"mv of a file to another directory", `mkdir a b; echo one > a/f`, `mv a/f b/g`, []string{"a", "b"}},
	{"mv over a file", `echo one > f; echo two > g`, `mv f g`, nil},
	{"mv of a directory", `mkdir -p d/sub; echo one > d/sub/f`, `mv d e`, nil},
	{"mv of a watched directory", `mkdir -p d/sub; echo one > d/sub/f`, `mv d e`, []string{"d", "d/sub"}},
	{"mv of a directory into another", `mkdir -p a/d b; echo one > a/d/f`, `mv a/d b/d`, []string{"a", "b"}},
	{"work in a directory that was moved", `mkdir -p d; echo one > d/f`, `mv d e; echo two > e/g; rm e/f`, []string{"d"}},
	{"exchange", `echo one > f; echo two > g`, `python3 - <<'E'
import ctypes
l = ctypes.CDLL(None, use_errno=True)
assert l.renameat2(-100, b"f", -100, b"g", 2) == 0, ctypes.get_errno()
E`, nil},
	{"chmod", `echo one > f; mkdir d`, `chmod 600 f; chmod 700 d`, nil},
	{"chown", `echo one > f`, `chown 1:1 f`, nil},
	{"ln -s", ``, `ln -s target l`, nil},
	{"rm of a symlink", `ln -s target l`, `rm l`, nil},
	{"mkfifo", ``, `mkfifo p`, nil},
	{"cp -p", `mkdir src; echo one > src/f; touch -d 2001-02-03 src/f`, `cp -p src/f f`, nil},
	{"rm -r", `mkdir -p d/e/f; echo 2 > d/e/f/g`, `rm -r d`, []string{"d", "d/e"}}, // one entry each: their order is the disk's
	{"a temporary file moved into place", `echo one > conf`, `echo two > .conf.tmp; mv .conf.tmp conf`, nil},
	{"odd names", ``, `echo 1 > 'a b'; echo 2 > $'new\nline'; echo 3 > '100%'; mv '100%' 'ä'`, nil},
}

// What a watcher on another node reads is what one on a tmpfs reads of the same commands, but for the rules of normalise().
func TestEventsAreThoseOfALocalDisk(t *testing.T) {
	c := three(t)
	local := cluster.TempDir(t)
	for i, one := range cases {
		t.Run(strings.ReplaceAll(one.name, " ", "_"), func(t *testing.T) {
			there, settle := watchedFrom(t, c, i)
			runCase(t, local, c.Nodes[0].Mount, there, settle, one, nil)
		})
	}
}

// quiet waits until what a mount still has to tell is told: a change made now, at its end, is the last one seen.
func quiet(t testing.TB, n *cluster.Node) {
	t.Helper()
	quietAt(t, n, n.Mount)
}

func quietAt(t testing.TB, n *cluster.Node, mount string) {
	t.Helper()
	name := fmt.Sprintf(".quiet-%d", time.Now().UnixNano())
	w := Watch(t, mount, ".")
	defer w.Close()
	if _, err := n.Put("/"+name, "x"); err != nil {
		t.Fatal(err)
	}
	cluster.Until(t, n.Name+" tells of the last change", func() (bool, string) {
		for _, e := range w.Events() {
			if e.Path == name && e.Mask&syscall.IN_CREATE != 0 {
				return true, ""
			}
		}
		return false, text(w.Events())
	})
	if _, err := n.Delete("/" + name); err != nil {
		t.Fatal(err)
	}
}

// A put of clientv3 (here: of quorumctl) is an event on every mount.
func TestPutsAreEventsEverywhere(t *testing.T) {
	c := three(t)
	var watchers []*Watcher
	for _, n := range c.Nodes {
		watchers = append(watchers, Watch(t, n.Mount, "."))
	}
	shell(t, c.Nodes[0].Mount, "mkdir etc")
	want := []string{"CREATE etc dir"}
	for k, w := range watchers { // the directory can be seen before it is told of, and that telling is not what follows
		cluster.Until(t, c.Nodes[k].Name+" tells of etc", func() (bool, string) {
			got := text(w.Events())
			return got == want[0], got
		})
		w.Add("etc")
	}
	steps := []struct {
		do   func(n *cluster.Node) error
		want []string
	}{
		{func(n *cluster.Node) error { _, err := n.Put("/etc/x", "y"); return err },
			[]string{"CREATE etc/x", "MODIFY etc/x", "CLOSE_WRITE etc/x"}},
		{func(n *cluster.Node) error { _, err := n.Put("/etc/x", "z"); return err },
			[]string{"MODIFY etc/x", "CLOSE_WRITE etc/x"}},
		{func(n *cluster.Node) error { _, err := n.Put("/deep/er/f", "1"); return err }, []string{"CREATE deep dir"}},
		{func(n *cluster.Node) error { _, err := n.Delete("/deep/er/f"); return err }, []string{"DELETE deep dir"}},
		{func(n *cluster.Node) error { _, err := n.Delete("/etc/x"); return err }, []string{"DELETE etc/x"}},
	}
	for i, s := range steps {
		if err := s.do(c.Nodes[(i+1)%3]); err != nil {
			t.Fatal(err)
		}
		want = append(want, s.want...)
		for k, w := range watchers {
			cluster.Until(t, fmt.Sprintf("events of step %d on %s", i, c.Nodes[k].Name), func() (bool, string) {
				got := text(w.Events())
				return got == strings.Join(want, "\n"), got
			})
		}
	}
	if out := shell(t, c.Nodes[2].Mount, "ls"); out != "etc\n" { // the last directory was made by mkdir, so it stays
		t.Errorf("ls says %q", out)
	}
}

// A file written through a mount is one event of the API at one revision: nobody sees it empty first.
func TestAFileWrittenInAShellIsOneEventOfTheAPI(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, "mkdir etc")
	w := c.Nodes[2].Watch("/etc/", 1)
	shell(t, c.Nodes[0].Mount, "echo hello > etc/motd; echo again > etc/motd; printf 'a\nb\n' | while read l; do echo $l; done > etc/z; rm etc/z")
	var got []string
	for _, e := range w.WaitFor(4) {
		got = append(got, fmt.Sprintf("%s %s %q", e.Kind, e.Key, e.Value))
	}
	want := []string{`put /etc/motd "hello\n"`, `put /etc/motd "again\n"`, `put /etc/z "a\nb\n"`, `delete /etc/z ""`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the watch saw\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A key that gets keys below it turns from a file into a directory, and back: for watchers the one goes and the other comes.
func TestANameThatFlipsBetweenFileAndDirectory(t *testing.T) {
	c := three(t)
	if _, err := c.Nodes[0].Put("/top/a", "value"); err != nil {
		t.Fatal(err)
	}
	dir := c.Nodes[1].Mount + "/top"
	cluster.Until(t, "the file", func() (bool, string) { _, err := os.Stat(dir + "/a"); return err == nil, fmt.Sprint(err) })
	open, err := os.Open(dir + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	w := Watch(t, c.Nodes[1].Mount, "top")
	want := []string{}
	step := func(do func() (int64, error), more ...string) {
		t.Helper()
		if _, err := do(); err != nil {
			t.Fatal(err)
		}
		want = append(want, more...)
		cluster.Until(t, "the events", func() (bool, string) {
			got := text(w.Events())
			return got == strings.Join(want, "\n"), fmt.Sprintf("got\n%s\nwanted\n%s", got, strings.Join(want, "\n"))
		})
	}
	for round := 0; round < 3; round++ {
		step(func() (int64, error) { return c.Nodes[2].Put("/top/a/b", "1") }, "DELETE top/a", "CREATE top/a dir")
		if out := shell(t, dir, "ls a; cat a/%:value"); out != "%:value\nb\nvalue" {
			t.Errorf("the directory: %q", out)
		}
		if round == 0 { // who had it open still reads what it was
			content := make([]byte, 10)
			if n, err := open.ReadAt(content, 0); string(content[:n]) != "value" {
				t.Errorf("the open file: %q %v", content[:n], err)
			}
		}
		step(func() (int64, error) { return c.Nodes[2].Delete("/top/a/b") }, "DELETE top/a dir", "CREATE top/a",
			"MODIFY top/a", "CLOSE_WRITE top/a")
		if out := shell(t, dir, "cat a"); out != "value" {
			t.Errorf("the file: %q", out)
		}
	}
}

// How long after a close() on one node the event is read on another. Nothing is demanded but that all come: the figures
// are the machine's.
func TestEventsComeSoon(t *testing.T) {
	c := three(t)
	shell(t, c.Nodes[0].Mount, "mkdir d")
	same(t, c.Nodes[0].Mount, c.Nodes[1].Mount)
	w := Watch(t, c.Nodes[1].Mount, "d")
	var took []time.Duration
	for i := 0; i < 200; i++ {
		name := fmt.Sprint("f", i)
		if err := os.WriteFile(c.Nodes[0].Mount+"/d/"+name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		closed := time.Now()
		for {
			if at, ok := w.when("d/" + name); ok {
				took = append(took, at.Sub(closed))
				break
			}
			if time.Since(closed) > cluster.Bound {
				t.Fatalf("%s never came", name)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	slices.Sort(took)
	t.Logf("close() here to event there: p50 %v, p99 %v, longest %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
