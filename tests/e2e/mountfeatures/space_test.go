package mountfeatures

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"quorumfs.test/e2e/cluster"
)

// fallocate, holes and sizes are what a reader on another node sees of them on a local disk.
func TestRoomAndHoles(t *testing.T) {
	c := nodes(t, 2)
	n, other := c.Nodes[0], c.Nodes[1]
	script := func(dir string) string {
		return shell(t, dir, `export LC_ALL=C
			fallocate -l 1000 a; stat -c 'new %s' a
			printf 0123456789 > b; fallocate -l 5 b; fallocate -n -l 1000 b; stat -c 'kept %s' b
			fallocate -p -o 2 -l 3 b; fallocate -z -n -o 8 -l 100 b; od -An -c b
			fallocate -z -o 8 -l 12 b; stat -c 'grown %s' b
			dd if=/dev/zero of=c bs=1 count=1 seek=1999 status=none; printf x | dd of=c bs=1 seek=1000 conv=notrunc status=none
			cmp -n 1000 c /dev/zero && stat -c 'sparse %s' c; truncate -s 500 c; truncate -s 1500 c; cmp -n 1500 c /dev/zero && echo zeros
			cp --sparse=always c d; cmp c d && echo copied`)
	}
	local := t.TempDir()
	if got, want := script(n.Mount), script(local); got != want {
		t.Errorf("on the mount\n%s\non a local disk\n%s", got, want)
	}
	expect(t, other.Mount, `md5sum a b c d`, shell(t, local, `md5sum a b c d`))

	f, err := os.OpenFile(in(n, "b"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at, err := f.Seek(3, unix.SEEK_DATA); at != 3 || err != nil {
		t.Errorf("data at %d, %v", at, err)
	}
	if at, err := f.Seek(3, unix.SEEK_HOLE); at != 20 || err != nil {
		t.Errorf("a hole at %d, %v", at, err)
	}
	for _, mode := range []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE} {
		if err := unix.Fallocate(int(f.Fd()), mode, 0, 4096); err != syscall.EOPNOTSUPP {
			t.Errorf("mode %d: %v", mode, err)
		}
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 9<<20); err != syscall.EFBIG {
		t.Errorf("9 MiB: %v", err)
	}
	// What is allocated through a handle is there for others when it is closed, or synced.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	expect(t, other.Mount, `stat -c %s b`, "4096\n")

	t.Run("figures of the whole", func(t *testing.T) {
		var before, after syscall.Statfs_t
		if err := syscall.Statfs(n.Mount, &before); err != nil {
			t.Fatal(err)
		}
		shell(t, n.Mount, `mkdir many; for i in $(seq 50); do head -c 100000 /dev/zero > many/$i; done`)
		if err := syscall.Statfs(n.Mount, &after); err != nil {
			t.Fatal(err)
		}
		if used := int64(before.Bfree-after.Bfree) * before.Bsize; used < 50*100000 || used > 3*50*100000 {
			t.Errorf("50 files of 100,000 bytes take %d bytes", used)
		}
		if names := (after.Files - after.Ffree) - (before.Files - before.Ffree); names != 51 {
			t.Errorf("51 names count %d", names)
		}
		if after.Namelen != 255 || after.Bavail > after.Blocks {
			t.Errorf("%+v", after)
		}
	})
}

// mount starts another mount of a node, with options, without a supervisor; it ends with the test.
func mount(t *testing.T, n *cluster.Node, options string) string {
	t.Helper()
	dir := filepath.Join(cluster.TempDir(t), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, cluster.Program("quorumfs"), dir, "-o", "node="+n.Socket()+options)
	t.Cleanup(func() {
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
	})
	cluster.Until(t, "the mount is there", func() (bool, string) {
		var st syscall.Statfs_t
		err := syscall.Statfs(dir, &st)
		return err == nil && st.Type == 0x65735546, fmt.Sprint(err)
	})
	return dir
}

func TestOptions(t *testing.T) {
	c := nodes(t, 3)
	n := c.Nodes[0]
	shell(t, n.Mount, `mkdir d; echo one > d/f`)

	t.Run("max_file_bytes", func(t *testing.T) {
		dir := mount(t, n, ",max_file_bytes=10000")
		f, err := os.Create(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for at, want := range []error{nil, nil, syscall.EFBIG} {
			if _, err := f.WriteAt(make([]byte, 5000), int64(at)*5000); !errors.Is(err, want) && err != want {
				t.Errorf("write %d: %v, wanted %v", at, err, want)
			}
		}
		if err := f.Truncate(10001); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("truncate: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		expect(t, c.Nodes[1].Mount, `stat -c %s f`, "10000\n")
	})

	t.Run("a refused write hides nothing", func(t *testing.T) {
		shell(t, n.Mount, `echo before > hidden`)
		fd, err := unix.Open(in(n, "hidden"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if _, err := unix.Pwrite(fd, []byte("x"), 9<<20); err != unix.EFBIG {
			t.Errorf("%v, wanted EFBIG", err)
		}
		shell(t, c.Nodes[1].Mount, `echo after > hidden`)
		cluster.Until(t, "the handle shows what is newest", func() (bool, string) {
			buf := make([]byte, 10)
			count, err := unix.Pread(fd, buf, 0)
			return err == nil && string(buf[:max(count, 0)]) == "after\n", fmt.Sprintf("%q %v", buf[:max(count, 0)], err)
		})
	})

	t.Run("without a quorum", func(t *testing.T) {
		local, stale := mount(t, n, ",consistency=local,timeout=2"), mount(t, n, ",noquorum=stale,timeout=2")
		strict, patient := mount(t, n, ",timeout=2"), mount(t, n, ",timeout=3600")
		for _, other := range c.Nodes[1:] {
			syscall.Kill(other.NodePID(), syscall.SIGSTOP)
			defer syscall.Kill(other.NodePID(), syscall.SIGCONT)
		}
		cluster.Until(t, "the node has lost its quorum", func() (bool, string) {
			out, err := try(local, `cat .quorumfs/health`)
			return err == nil && strings.HasPrefix(out, "unavailable"), out
		})
		for _, dir := range []string{local, stale} {
			if out := shell(t, dir, `cat d/f; ls d; test ! -e d/nothing`); out != "one\nf\n" {
				t.Errorf("%s: %q", dir, out)
			}
		}
		for _, what := range []func() error{
			func() error { _, err := os.ReadFile(filepath.Join(strict, "d/f")); return err },
			func() error { _, err := os.ReadDir(filepath.Join(strict, "d")); return err },
			func() error { _, err := os.Stat(filepath.Join(strict, "d/nothing")); return err },
		} {
			before := time.Now()
			if err := what(); !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("%v, wanted ETIMEDOUT", err)
			} else if waited := time.Since(before); waited > 20*time.Second {
				t.Errorf("after %v", waited) // of 2 s: a bound, not a measurement
			}
		}
		for _, dir := range []string{local, stale, strict} {
			var err error
			cluster.Until(t, "writes are refused", func() (bool, string) {
				err = os.WriteFile(filepath.Join(dir, "d/f"), []byte("x"), 0o644)
				return errors.Is(err, syscall.EROFS), fmt.Sprint(err)
			})
		}
		// A signal ends a wait that has lasted a second.
		p := start(t, "cat", filepath.Join(patient, "d/f"))
		cluster.Until(t, "cat waits", func() (bool, string) {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", p.Process.Pid))
			return err == nil && strings.Contains(string(state), "request_wait_answer"), string(state)
		})
		p.Process.Signal(syscall.SIGTERM)
		ended := make(chan error, 1)
		go func() { ended <- p.Wait() }()
		select {
		case <-ended:
		case <-time.After(cluster.Bound):
			t.Error("cat still waits")
		}
	})
}
