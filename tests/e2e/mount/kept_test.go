package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const openPath = 0x200000 // O_PATH: the front end is not asked

// The kernel keeps attributes for a second. Whoever looked at something, and then at what another node acknowledged later, must
// not be shown the older state any more: not of a file, a directory, the root, what was below a moved directory.
func TestKeptAttributesAreGivenUpWhenTheyChange(t *testing.T) {
	c := three(t)
	a, b := c.Nodes[0].Mount, c.Nodes[1].Mount
	shell(t, a, "mkdir -p d/e; echo 0 > d/e/f; echo 0 > sync")
	same(t, a, b)
	for i := 0; i < 30; i++ {
		look := func(name string) (int, syscall.Stat_t) {
			t.Helper()
			fd, err := syscall.Open(filepath.Join(b, name), openPath|syscall.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			return fd, fstat(t, fd)
		}
		changed := func(what, name, script string, is func(before, after syscall.Stat_t) bool) {
			t.Helper()
			fd, before := look(name)
			defer syscall.Close(fd)
			shell(t, a, script)
			if _, err := os.ReadFile(filepath.Join(b, "sync")); err != nil { // from here on b knows it
				t.Fatal(err)
			}
			if after := fstat(t, fd); !is(before, after) {
				t.Fatalf("round %d: %s: %+v, before %+v", i, what, after, before)
			}
		}
		changed("content", "d/e/f", fmt.Sprintf("printf %%%ds x > d/e/f", 10+i),
			func(_, after syscall.Stat_t) bool { return after.Size == int64(10+i) })
		changed("mode", "d/e/f", fmt.Sprintf("chmod %o d/e/f", 0o600+i%8),
			func(_, after syscall.Stat_t) bool { return after.Mode&0o777 == uint32(0o600+i%8) })
		changed("mode of a directory", "d/e", fmt.Sprintf("chmod %o d/e", 0o700+i%8),
			func(_, after syscall.Stat_t) bool { return after.Mode&0o777 == uint32(0o700+i%8) })
		changed("mode of the root", ".", fmt.Sprintf("chmod %o .", 0o750+i%4),
			func(_, after syscall.Stat_t) bool { return after.Mode&0o777 == uint32(0o750+i%4) })
		shell(t, a, "touch -d @1000 t; mv t d/e/f")
		if _, err := os.ReadFile(filepath.Join(b, "d/e/f")); err != nil {
			t.Fatal(err)
		}
		fd, _ := look("d/e/f")
		shell(t, a, "mv d m")
		if _, err := os.ReadFile(filepath.Join(b, "sync")); err != nil {
			t.Fatal(err)
		}
		below, err := os.Stat(filepath.Join(b, "m/e/f"))
		if err != nil {
			t.Fatal(err)
		}
		if moved := fstat(t, fd); moved.Mtim.Sec != 1000 || below.ModTime().Unix() != 1000 {
			t.Fatalf("round %d: below a moved directory: %+v, %v", i, moved, below.ModTime())
		}
		syscall.Close(fd)
		shell(t, a, "mv m d")
	}
}

func fstat(t *testing.T, fd int) (st syscall.Stat_t) {
	t.Helper()
	if err := syscall.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st
}
