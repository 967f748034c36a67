package mountfeatures

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func getxattr(path, name string) (string, error) {
	buf := make([]byte, 70000)
	n, err := syscall.Getxattr(path, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func listxattr(path string) (string, error) {
	buf := make([]byte, 70000)
	n, err := syscall.Listxattr(path, buf)
	return strings.ReplaceAll(string(buf[:max(n, 0)]), "\x00", " "), err
}

const (
	xattrCreate  = 1
	xattrReplace = 2
)

// user.* are kept in the cluster with the file, on every node, as a local file system has them.
func TestExtendedAttributes(t *testing.T) {
	c := nodes(t, 3)
	n, other := c.Nodes[0], c.Nodes[1]
	shell(t, n.Mount, `echo one > f; mkdir d`)
	f := in(n, "f")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fails := func(err error, want syscall.Errno) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, wanted %v", err, want)
		}
	}
	must(syscall.Setxattr(f, "user.a", []byte("hello"), 0))
	must(syscall.Setxattr(f, "user.empty", nil, 0))
	must(syscall.Setxattr(f, "user.bytes", []byte("\x00\xff\n"), xattrCreate))
	must(syscall.Setxattr(in(n, "d"), "user.of", []byte("a directory"), 0))
	expectXattr := func(node *cluster.Node, path, name, want string) {
		t.Helper()
		cluster.Until(t, fmt.Sprint(name, " of ", path, " on ", node.Name), func() (bool, string) {
			got, err := getxattr(in(node, path), name)
			return err == nil && got == want, fmt.Sprintf("%q %v", got, err)
		})
	}
	expectXattr(other, "f", "user.a", "hello")
	expectXattr(other, "f", "user.empty", "")
	expectXattr(other, "f", "user.bytes", "\x00\xff\n")
	expectXattr(other, "d", "user.of", "a directory")
	if names, err := listxattr(f); names != "user.a user.bytes user.empty " || err != nil {
		t.Errorf("%q %v", names, err)
	}

	t.Run("errors are a local file system's", func(t *testing.T) {
		fails(syscall.Setxattr(f, "user.a", []byte("x"), xattrCreate), syscall.EEXIST)
		fails(syscall.Setxattr(f, "user.none", []byte("x"), xattrReplace), syscall.ENODATA)
		fails(syscall.Removexattr(f, "user.none"), syscall.ENODATA)
		fails(syscall.Setxattr(f, "user.big", make([]byte, 65537), 0), syscall.E2BIG)
		fails(syscall.Setxattr(f, "trusted.a", []byte("x"), 0), syscall.EOPNOTSUPP)
		fails(syscall.Setxattr(f, "security.a", []byte("x"), 0), syscall.EOPNOTSUPP)
		_, err := syscall.Getxattr(f, "user.a", make([]byte, 3))
		fails(err, syscall.ERANGE)
		_, err = syscall.Listxattr(f, make([]byte, 3))
		fails(err, syscall.ERANGE)
		_, err = getxattr(f, "user.none")
		fails(err, syscall.ENODATA)
		size, err := syscall.Getxattr(f, "user.a", nil)
		if size != 5 || err != nil {
			t.Errorf("size %d, %v", size, err)
		}
		fails(syscall.Setxattr(f, "user.quorumfs.revision", []byte("5"), 0), syscall.EPERM)
	})

	t.Run("large ones", func(t *testing.T) {
		large := bytes.Repeat([]byte("x"), 65536)
		must(syscall.Setxattr(f, "user.large", large, 0))
		expectXattr(other, "f", "user.large", string(large))
		fails(syscall.Setxattr(f, "user.large2", large, 0), syscall.ENOSPC)
		must(syscall.Removexattr(f, "user.large"))
	})

	t.Run("they go along", func(t *testing.T) {
		must(os.Rename(f, in(n, "d/g")))
		expectXattr(other, "d/g", "user.a", "hello")
		must(os.Rename(in(n, "d"), in(n, "e")))
		expectXattr(other, "e/g", "user.a", "hello")
		expectXattr(other, "e", "user.of", "a directory")
		shell(t, n.Mount, `echo changed > e/g; cp -a e copied`)
		expectXattr(other, "copied/g", "user.a", "hello")
		expectXattr(other, "copied", "user.of", "a directory")
		if _, err := n.Put("/e/g", "by clientv3"); err != nil {
			t.Fatal(err)
		}
		expectXattr(other, "e/g", "user.a", "hello")
		must(syscall.Removexattr(in(n, "e/g"), "user.a"))
		cluster.Until(t, "the removal is everywhere", func() (bool, string) {
			names, err := listxattr(in(other, "e/g"))
			return err == nil && names == "user.bytes user.empty ", fmt.Sprint(names, err)
		})
		// A new file has none of an old one's.
		shell(t, n.Mount, `rm copied/g; echo > copied/g`)
		if names, err := listxattr(in(n, "copied/g")); names != "" || err != nil {
			t.Errorf("%q %v", names, err)
		}
	})

	t.Run("of a file that is being made", func(t *testing.T) {
		made, err := os.Create(in(n, "made"))
		must(err)
		fmt.Fprint(made, "content")
		must(syscall.Setxattr(in(n, "made"), "user.a", []byte("1"), 0))
		must(made.Close())
		expectXattr(other, "made", "user.a", "1")
		expect(t, other.Mount, `cat made`, "content")
	})
}

func revision(t *testing.T, path string) int64 {
	t.Helper()
	text, err := getxattr(path, "user.quorumfs.revision")
	if err != nil {
		t.Fatal(err)
	}
	r, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// user.quorumfs.* are the numbers that etcd's API shows; expect_revision makes the next commit a compare-and-swap.
func TestAttributesOfTheClusterAndConditionalWrites(t *testing.T) {
	c := nodes(t, 2)
	n, other := c.Nodes[0], c.Nodes[1]
	created, err := n.Put("/f", "1")
	if err != nil {
		t.Fatal(err)
	}
	modified, err := n.Put("/f", "2")
	if err != nil {
		t.Fatal(err)
	}
	f := in(n, "f")
	cluster.Until(t, "f is as it was put", func() (bool, string) {
		content, err := os.ReadFile(f)
		return err == nil && string(content) == "2", fmt.Sprint(string(content), err)
	})
	for name, want := range map[string]int64{"revision": modified, "create_revision": created, "version": 2} {
		if got, err := getxattr(f, "user.quorumfs."+name); got != fmt.Sprint(want) || err != nil {
			t.Errorf("%s is %q, %v, not %d", name, got, err, want)
		}
	}
	for _, name := range []string{"lease", "lock_token", "expect_revision", "nothing"} {
		if got, err := getxattr(f, "user.quorumfs."+name); err != syscall.ENODATA {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	expecting := func(path string, revision int64) error {
		return syscall.Setxattr(path, "user.quorumfs.expect_revision", []byte(fmt.Sprint(revision)), 0)
	}
	write := func(path, content string) error { // Go's WriteFile tells of the error of close
		return os.WriteFile(path, []byte(content), 0o644)
	}
	if err := errors.Join(expecting(f, modified), write(f, "mine")); err != nil {
		t.Fatalf("the expectation holds, and: %v", err)
	}
	now := revision(t, f)
	if err := expecting(f, now); err != nil {
		t.Fatal(err)
	}
	if err := write(in(other, "f"), "theirs"); err != nil {
		t.Fatal(err)
	}
	if err := write(f, "too late"); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("it had moved on, and: %v", err)
	}
	expect(t, n.Mount, `cat f`, "theirs")
	if err := write(f, "unconditional again"); err != nil {
		t.Error(err)
	}
	// Also through one handle with fsync, which can go on afterwards; and for appends.
	h, err := os.OpenFile(f, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := expecting(f, 1); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(h, "never")
	if err := h.Sync(); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("fsync: %v", err)
	}
	fmt.Fprint(h, "!")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	expect(t, other.Mount, `cat f`, "unconditional again!")
	if err := errors.Join(expecting(f, 1), syscall.Removexattr(f, "user.quorumfs.expect_revision"), write(f, "given up")); err != nil {
		t.Error(err)
	}
	if err := expecting(in(n), 5); err == nil {
		t.Error("a directory has commits")
	}

	t.Run("counting up from two nodes loses nothing", func(t *testing.T) {
		if err := write(in(n, "counter"), "0"); err != nil {
			t.Fatal(err)
		}
		const each = 50
		done := make(chan error, 2)
		for _, node := range c.Nodes {
			go func() {
				path := in(node, "counter")
				for i := 0; i < each; {
					text, err := os.ReadFile(path) // an open comes after all that was acknowledged
					if err != nil {
						done <- err
						return
					}
					at, err := getxattr(path, "user.quorumfs.revision")
					if err != nil {
						done <- err
						return
					}
					// The revision may be a later one than the content's: then the content is read again.
					again, err := os.ReadFile(path)
					if err != nil || string(again) != string(text) {
						continue
					}
					count, _ := strconv.Atoi(string(text))
					r, _ := strconv.ParseInt(at, 10, 64)
					if err := expecting(path, r); err != nil {
						done <- err
						return
					}
					err = write(path, fmt.Sprint(count+1))
					if err == nil {
						i++
					} else if !errors.Is(err, syscall.ESTALE) {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range c.Nodes {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		expect(t, n.Mount, `cat counter`, fmt.Sprint(2*each))
	})
}
