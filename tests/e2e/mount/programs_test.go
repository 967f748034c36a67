package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// What people use, unmodified, on one mount; the other nodes follow.
func TestProgramsWorkAsOnALocalDisk(t *testing.T) {
	c := three(t)
	programs := []struct {
		name   string
		needs  []string
		script string
		want   string // what show prints on another node
		show   string
	}{
		{"vim", []string{"vim"}, `printf 'one\ntwo\n' > f; vim -u NONE -N -es -c '1s/one/1/' -c 'normal Gothree' -c 'wq' f`,
			"1\ntwo\nthree\n", `cat f`},
		{"vim with a swap file and a backup", []string{"vim", "script"},
			`printf 'one\n' > f; export TERM=xterm; script -qec "vim -u NONE -N -c 'set backup swapfile' -c 'normal Atwo' -c 'wq' f" /dev/null >/dev/null </dev/null`,
			"onetwo\n", `cat f`},
		{"nano", []string{"nano", "script"}, `printf 'one\n' > f; export TERM=xterm
			(sleep 1; printf 'new \017'; sleep 0.5; printf '\r'; sleep 0.5; printf '\030'; sleep 1) | timeout 20 script -qec 'nano -I f' /dev/null >/dev/null`,
			"new one\n", `cat f`},
		{"sed -i", nil, `printf 'one\ntwo\n' > f; sed -i s/two/2/ f`, "one\n2\n", `cat f`},
		{"rsync", []string{"rsync"}, `mkdir -p src/a; echo 1 > src/a/f; ln -s a src/l; rsync -a src/ dst/; echo 2 >> src/a/f; rsync -a --inplace src/ dst/
			test -z "$(rsync -ai src/ dst/)"`, "1\n2\na\n", `cat dst/a/f; readlink dst/l`},
		{"git", []string{"git"}, `export HOME=$PWD; git -c init.defaultBranch=main init -q r; cd r
			git config user.email a@b; git config user.name n; echo 1 > f; git add f; git commit -qm one; echo 2 >> f; git commit -qam two
			git fsck --strict 2>&1; git gc -q; cd ..; git clone -q r s; git -C s fsck; cat s/f`, "1\n2\n", `cat s/f`},
		{"tar", []string{"tar"}, `mkdir -p a/b; echo 1 > a/b/f; ln -s f a/b/l; chmod 600 a/b/f; tar cf - a | (mkdir x; cd x; tar xpf -)`,
			"1\nf\n600\n", `cat x/a/b/f; readlink x/a/b/l; stat -c %a x/a/b/f`},
		{"cp -a of a tree", nil, `mkdir -p a/b; for i in 1 2 3 4 5 6 7 8 9; do echo $i > a/b/$i; done; touch -d 2001-02-03 a/b/1; cp -a a c; diff -r a c`,
			"1 981158400\n", `echo $(cat c/b/1) $(TZ=UTC stat -c %Y c/b/1)`},
		{"tail -f", nil, `echo one > f; (timeout 20 tail -n +1 -f f > out.$$ & echo $! > pid); sleep 0.3; echo two >> f
			for i in $(seq 100); do grep -q two out.$$ && break; sleep 0.1; done; kill $(cat pid); grep -c . out.$$`, "one\ntwo\n", `cat f`},
		{"dd, sparse and in place", nil, `dd if=/dev/zero of=f bs=1 count=1 seek=99999 status=none; printf x | dd of=f bs=1 seek=5 conv=notrunc status=none`,
			"100000\nx\n", `stat -c %s f; dd if=f bs=1 skip=5 count=1 status=none; echo`},
		{"private and shared mappings", []string{"python3"}, `python3 - <<'E'
import mmap
open("f", "wb").write(b"a" * 5000)
with open("f", "r+b") as f:
    m = mmap.mmap(f.fileno(), 0)
    m[10:13] = b"xyz"
    m.flush()
    m.close()
E`, "xyz\n", `dd if=f bs=1 skip=10 count=3 status=none; echo`},
		{"mkfifo between processes of one machine", nil, `mkfifo p; (echo hello > p &); cat p`, "fifo\n", `stat -c %F p`},
		{"an open file that is removed", []string{"python3"}, `python3 - <<'E'
import os
f = open("f", "w+"); f.write("one"); f.flush(); os.unlink("f"); f.write("two"); f.flush(); f.seek(0)
assert f.read() == "onetwo"
assert os.fstat(f.fileno()).st_nlink == 0
E
echo done > g`, "g\n", `ls`},
		{"a file at its largest", nil, `head -c 8388608 /dev/zero > f; if printf x >> f 2>/dev/null; then exit 1; fi; if truncate -s 9M f 2>/dev/null; then exit 1; fi`,
			"8388608\n", `stat -c %s f`},
		{"directories with many names", nil, `mkdir d; for i in $(seq 300); do : > d/$i; done; ls d | wc -l`, "300\n", `ls d | wc -l`},
	}
	for i, p := range programs {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) {
			need(t, p.needs...)
			sub := fmt.Sprint("p", i)
			here := filepath.Join(c.Nodes[0].Mount, sub)
			shell(t, c.Nodes[0].Mount, "mkdir "+sub)
			shell(t, here, p.script)
			for _, n := range c.Nodes {
				there := filepath.Join(n.Mount, sub)
				cluster.Until(t, "the outcome on "+n.Name, func() (bool, string) {
					if _, err := os.Stat(there); err != nil {
						return false, err.Error()
					}
					out, err := try(there, p.show)
					return err == nil && out == p.want, fmt.Sprintf("%q, %v; wanted %q", out, err, p.want)
				})
			}
			same(t, here, filepath.Join(c.Nodes[2].Mount, sub))
		})
	}
}

// Who has a file open for writing reads through the kernel's pages, which are thrown out when they meet another mtime. The answer
// to a chmod carries one too, and the kernel takes that without a look at its pages: it must not be the one that they are judged by.
func TestAWriterReadsWhatOthersWrote(t *testing.T) {
	c := three(t)
	a, b := c.Nodes[0], c.Nodes[1]
	shell(t, a.Mount, "printf 1 > f")
	same(t, a.Mount, b.Mount)
	f, err := os.OpenFile(a.Mount+"/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pid := helper(a) // it would be in time to look at the file first
	syscall.Kill(pid, syscall.SIGSTOP)
	defer syscall.Kill(pid, syscall.SIGCONT)
	read := func() string {
		buf := make([]byte, 4)
		n, _ := f.ReadAt(buf, 0)
		return string(buf[:n])
	}
	for _, change := range []struct {
		name string
		do   func() error
	}{{"chmod", func() error { return f.Chmod(0o600) }}, {"utimes", func() error { return syscall.Futimes(int(f.Fd()), make([]syscall.Timeval, 2)) }}, {"nothing", func() error { return nil }}} {
		old := read()
		want := map[string]string{"1": "2", "2": "3", "3": "4"}[old]
		shell(t, b.Mount, "printf "+want+" > f")
		cluster.Until(t, "the first mount has it", func() (bool, string) {
			content, err := os.ReadFile(a.Mount + "/.quorumfs/revision") // everything that was acknowledged
			return err == nil, string(content)
		})
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != want {
			t.Errorf("after %s: %q, wanted %q", change.name, got, want)
		}
	}
}

// Programs that map files to read them: shared and private, whole pages and not, and again after another node has changed the file.
func TestFilesAreMappedForReading(t *testing.T) {
	need(t, "python3")
	c := three(t)
	program := filepath.Join(c.Dir, "map.py")
	os.WriteFile(program, []byte(`
import mmap, os, sqlite3, subprocess, sys
here, there = sys.argv[1:]
flags = {"shared": mmap.MAP_SHARED, "private": mmap.MAP_PRIVATE}
def mapped(path, how):
    fd = os.open(path, os.O_RDONLY)
    m = mmap.mmap(fd, 0, flags=flags[how], prot=mmap.PROT_READ)
    os.close(fd) # the mapping keeps the file
    return m
for size in 1, 4095, 4096, 4097, 300000:
    for how in flags:
        old, new = b"o" * size, b"n" * (size + 7)
        open(here + "/f", "wb").write(old)
        m = mapped(there + "/f", how)
        assert m[:] == old, (size, how, "old")
        open(here + "/f", "wb").write(new)
        n = mapped(there + "/f", how)
        assert n[:] == new, (size, how, "new")
        assert set(m[:size]) <= set(b"on"), (size, how, "what was mapped before") # page by page
        own = mapped(here + "/f", how)
        assert own[:] == new, (size, how, "where it was written")
        open(there + "/f", "ab").write(b"more")
        assert mapped(here + "/f", how)[:] == new + b"more", (size, how, "appended there")
db = sqlite3.connect(here + "/db", isolation_level=None)
db.execute("pragma mmap_size=1000000")
db.execute("create table t (n)")
db.executemany("insert into t values (?)", [(n,) for n in range(50)])
other = sqlite3.connect(there + "/db", timeout=20)
other.execute("pragma mmap_size=1000000")
assert other.execute("select sum(n) from t").fetchone() == (1225,)
db.execute("insert into t values (1000)")
assert other.execute("select sum(n) from t").fetchone() == (2225,)
subprocess.check_call(["cp", "/bin/true", here + "/program"])
subprocess.check_call([there + "/program"])
print("ok")
`), 0o644)
	if out := shell(t, c.Dir, "python3 map.py "+c.Nodes[0].Mount+" "+c.Nodes[1].Mount); out != "ok\n" {
		t.Error(out)
	}
}

// Errors are those of a local disk.
func TestErrorsAreThoseOfALocalDisk(t *testing.T) {
	c := three(t)
	local := tmpfs(t)
	script := `exec 2>&1; export LC_ALL=C
	say() { "$@" && echo ok || true; }
	mkdir d; echo 1 > f; echo 2 > d/g; ln -s nowhere l
	say mkdir d; say rmdir d; say rm d; say cat nothing; say cat d; say mv f d/g/h; say mv d d/e; say rmdir f; say cat l
	say mkdir nothing/x; say mv -T f d; say mv -T d f; say ln -s x f; say cat f/x; say touch nothing/y; say mkdir -p d/e/f; say rmdir d/e
	say mv -n f d/g; cat f d/g; say chmod 0 f; say rmdir .; say mv nothing x
	`
	want := shell(t, local, script)
	got := shell(t, c.Nodes[0].Mount, script)
	if got != want {
		t.Errorf("on the mount\n%s\non tmpfs\n%s", got, want)
	}
}

// Keys that are no plain paths, made by the API and read and changed through the mount; and back.
func TestOddKeysAreFiles(t *testing.T) {
	c := three(t)
	at, n := c.Nodes[1], c.Nodes[0]
	long := strings.Repeat("k", 300)
	piece := strings.Repeat("k", 250) + "%+"
	keys := map[string]string{ // key to path
		"foo":            "%:bare/foo",
		"bar":            "%:bare/bar/%:value",
		"bar/foo/baz":    "%:bare/bar/foo/baz",
		"/a":             "a/%:value",
		"/a/b":           "a/b",
		"/s//b":          "s/%:/b",
		"/t/":            "t/%:slash",
		"/t/x":           "t/x",
		"/u/.":           "u/%:.",
		"/u/..":          "u/%:..",
		"/u/%:odd%":      "u/%:%25:odd%25",
		"/u/100%":        "u/100%",
		"/.quorumfs":     "%:.quorumfs",
		"/u/" + long:     "u/" + piece + "/" + strings.Repeat("k", 50),
		"/u/\xff\x01bin": "u/\xff\x01bin",
	}
	for key := range keys {
		if _, err := at.Put(key, "of "+key); err != nil {
			t.Fatal(err)
		}
	}
	for key, path := range keys {
		file := filepath.Join(n.Mount, path)
		cluster.Until(t, path+" can be read", func() (bool, string) {
			content, err := os.ReadFile(file)
			return err == nil && string(content) == "of "+key, fmt.Sprintf("%q %v", content, err)
		})
		if err := os.WriteFile(file, []byte("changed "+key), 0o644); err != nil {
			t.Errorf("write of %s: %v", path, err)
		}
		if kv, err := at.GetKV(key); err != nil || kv == nil || string(kv.Value) != "changed "+key {
			t.Errorf("%q is %+v, %v after a write of %s", key, kv, err, path)
		}
		parent := filepath.Dir(file)
		found := false
		entries, err := os.ReadDir(parent)
		for _, e := range entries {
			found = found || e.Name() == filepath.Base(file)
		}
		if !found {
			t.Errorf("%s is not listed: %v %v", path, entries, err)
		}
	}
	for key, path := range keys {
		if err := os.Remove(filepath.Join(n.Mount, path)); err != nil {
			t.Errorf("rm of %s: %v", path, err)
		}
		if kv, err := at.GetKV(key); err != nil || kv != nil {
			t.Errorf("%q is still there: %+v %v", key, kv, err)
		}
	}
	for _, bad := range []string{"%:a", "%:%41", "%:value", ".quorumfs", "x/%:bare"} {
		if err := os.WriteFile(filepath.Join(n.Mount, bad), nil, 0o644); err == nil {
			t.Errorf("%s was made", bad)
		}
	}
	shell(t, n.Mount, "mkdir dd")
	plain := filepath.Join(n.Mount, "plain")
	os.WriteFile(plain, nil, 0o644)
	for bad, want := range map[string]syscall.Errno{"dd/%:": syscall.EINVAL, "%:a": syscall.EINVAL, piece: syscall.EINVAL, long: syscall.ENAMETOOLONG} {
		bad = filepath.Join(n.Mount, bad)
		for how, err := range map[string]error{"mkdir": syscall.Mkdir(bad, 0o755), "symlink": syscall.Symlink("x", bad), "rename": syscall.Rename(plain, bad),
			"mkfifo": syscall.Mkfifo(bad, 0o644), "open": os.WriteFile(bad, nil, 0o644)} {
			if !errors.Is(err, want) {
				t.Errorf("%s of %s: %v, wanted %v", how, bad, err, want)
			}
		}
	}
	nul := filepath.Join(n.Mount, "%:a%00b")
	if err := os.WriteFile(nul, []byte("nul"), 0o644); err != nil {
		t.Fatal(err)
	}
	made := at.Watch("/a", 1) // a command line cannot name the key itself
	cluster.Until(t, "the key with a NUL", func() (bool, string) {
		for _, e := range made.Events() {
			if string(e.Key) == "/a\x00b" && string(e.Value) == "nul" {
				return true, ""
			}
		}
		return false, fmt.Sprint(len(made.Events()), " events")
	})
	same(t, n.Mount, c.Nodes[2].Mount)
}
