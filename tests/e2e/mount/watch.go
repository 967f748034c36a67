// Package mount tests quorumfs: what users and inotify's readers see on three nodes.
package mount

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Event is one of inotify's, with the path of its name below the watched top.
type Event struct {
	Mask   uint32
	Cookie uint32
	Path   string
}

// Watcher reads inotify events of some directories below a top.
type Watcher struct {
	t        testing.TB
	top      string
	file     *os.File
	mu       sync.Mutex
	dirs     map[int32]string
	events   []Event
	closed   map[string]time.Time // when the first CLOSE_WRITE of a path was read
	overflow bool
	ended    bool
}

const allEvents = syscall.IN_CREATE | syscall.IN_DELETE | syscall.IN_MODIFY | syscall.IN_CLOSE_WRITE | syscall.IN_MOVED_FROM |
	syscall.IN_MOVED_TO | syscall.IN_ATTRIB | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF

// Watch watches directories, each relative to top.
func Watch(t testing.TB, top string, dirs ...string) *Watcher {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	w := &Watcher{t: t, top: top, file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}, closed: map[string]time.Time{}}
	for _, d := range dirs {
		w.Add(d)
	}
	go w.read()
	t.Cleanup(w.Close)
	return w
}

// Add watches one more.
func (w *Watcher) Add(dir string) {
	w.t.Helper()
	raw, err := w.file.SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	var wd int
	var addErr error
	raw.Control(func(fd uintptr) {
		w.mu.Lock()
		defer w.mu.Unlock()
		wd, addErr = syscall.InotifyAddWatch(int(fd), filepath.Join(w.top, dir), allEvents|syscall.IN_ONLYDIR)
		w.dirs[int32(wd)] = dir
	})
	if addErr != nil {
		w.t.Fatalf("watch on %s: %v", dir, addErr)
	}
}

// Close ends the reading.
func (w *Watcher) Close() { w.file.Close() }

func (w *Watcher) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			w.mu.Lock()
			w.ended = true
			w.mu.Unlock()
			return
		}
		w.mu.Lock()
		for at := 0; at+syscall.SizeofInotifyEvent <= n; {
			e := (*syscall.InotifyEvent)(unsafe.Pointer(&buf[at]))
			name := string(bytes.TrimRight(buf[at+syscall.SizeofInotifyEvent:at+syscall.SizeofInotifyEvent+int(e.Len)], "\x00"))
			if e.Mask&syscall.IN_Q_OVERFLOW != 0 {
				w.overflow = true
			}
			path := filepath.Join(w.dirs[e.Wd], name)
			w.events = append(w.events, Event{e.Mask, e.Cookie, path})
			if _, ok := w.closed[path]; !ok && e.Mask&syscall.IN_CLOSE_WRITE != 0 {
				w.closed[path] = time.Now()
			}
			at += syscall.SizeofInotifyEvent + int(e.Len)
		}
		w.mu.Unlock()
	}
}

func (w *Watcher) when(path string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.closed[path]
	return at, ok
}

// Events are those that have come so far.
func (w *Watcher) Events() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Event{}, w.events...)
}

var maskNames = []struct {
	mask uint32
	name string
}{
	{syscall.IN_CREATE, "CREATE"}, {syscall.IN_DELETE, "DELETE"}, {syscall.IN_MODIFY, "MODIFY"},
	{syscall.IN_CLOSE_WRITE, "CLOSE_WRITE"}, {syscall.IN_MOVED_FROM, "MOVED_FROM"}, {syscall.IN_MOVED_TO, "MOVED_TO"},
	{syscall.IN_ATTRIB, "ATTRIB"}, {syscall.IN_DELETE_SELF, "DELETE_SELF"}, {syscall.IN_MOVE_SELF, "MOVE_SELF"},
	{syscall.IN_IGNORED, "IGNORED"}, {syscall.IN_UNMOUNT, "UNMOUNT"}, {syscall.IN_Q_OVERFLOW, "OVERFLOW"},
}

func kind(mask uint32) string {
	for _, m := range maskNames {
		if mask&m.mask != 0 {
			return m.name
		}
	}
	return fmt.Sprintf("%#x", mask)
}

// differences are what other nodes tell otherwise than a local disk does, as docs/mount.md has them; normalise() allows these
// and nothing else.
var differences = []struct{ change, local, other string }{
	{"content written by several `write(2)`", "a MODIFY each", "one MODIFY and CLOSE_WRITE: the content changes once, whole"},
	{"content synced before it is closed", "MODIFY, MODIFY, CLOSE_WRITE", "MODIFY and CLOSE_WRITE for each time: it is there from then on"},
	{"content written through a mapping", "nothing", "MODIFY, CLOSE_WRITE"},
	{"attributes set several times in a row", "an ATTRIB each", "one or more"},
	{"`truncate(2)`", "MODIFY", "MODIFY, CLOSE_WRITE"},
	{"attributes set to what they are already", "ATTRIB", "nothing: it is no change"},
	{"the mtime set alone (UTIME_OMIT; tar)", "MODIFY", "ATTRIB"},
	{"names made and removed in a directory", "its times change, and programs that set them back raise ATTRIB", "its times do not change"},
	{"POSIX access lists set", "ATTRIB", "refused (EOPNOTSUPP)"},
	{"attributes set on a file that is being written", "ATTRIB", "nothing: they are committed with its content; ATTRIB, if it was made with O_EXCL and nothing is written yet"},
	{"the watched file or directory itself goes or moves", "DELETE_SELF or MOVE_SELF", "the same, perhaps at another place among the events of other watches"},
	{"opened for writing and closed unchanged", "CLOSE_WRITE", "nothing"},
	{"made with O_EXCL and written", "CREATE, MODIFY, CLOSE_WRITE", "CREATE, CLOSE_WRITE, MODIFY, CLOSE_WRITE: another node must not be able to make it too, so the empty file is a change of its own"},
	{"made without being opened for writing (`mknod`)", "CREATE", "CREATE, CLOSE_WRITE"},
	{"a file that is open is removed", "DELETE_SELF when it is closed", "DELETE_SELF at once, unless it is open there too"},
	{"opened, read and closed", "OPEN, ACCESS, CLOSE_NOWRITE", "nothing; a change of content has OPEN before its MODIFY"},
	{"bytes through a FIFO or a socket", "OPEN, MODIFY, CLOSE", "nothing: they do not leave the machine"},
}

// normalise makes the events of a change made here comparable with those of the same change made on another node, by the rules
// of differences. Several MODIFY of a name in a row are one, and MODIFY is followed by CLOSE_WRITE; several ATTRIB are
// one, and one of a file that is being written is none; DELETE_SELF and MOVE_SELF come last, and IGNORED says nothing more;
// CLOSE_WRITE between CREATE of a file and its MODIFY is none. The cookies of moves are numbered in
// order of appearance.
func normalise(events []Event) []string {
	var out, self []string
	cookies := map[uint32]int{}
	writing := map[string]bool{}  // between MODIFY and CLOSE_WRITE
	creating := map[string]bool{} // between CREATE of a file and CLOSE_WRITE
	closeAll := func(but string) {
		for path := range writing {
			if path != but {
				out = append(out, "CLOSE_WRITE "+path)
				delete(writing, path)
			}
		}
	}
	for _, e := range events {
		k, dir := kind(e.Mask), ""
		if e.Mask&syscall.IN_ISDIR != 0 {
			dir = " dir"
			if k == "MODIFY" { // of its mtime: there is no other
				k = "ATTRIB"
			}
		}
		line := k + " " + e.Path + dir
		if k != "MODIFY" && k != "CLOSE_WRITE" && k != "ATTRIB" {
			closeAll("")
		}
		switch k {
		case "IGNORED":
			continue
		case "DELETE_SELF", "MOVE_SELF":
			self = append(self, line)
			continue
		case "CREATE":
			creating[e.Path] = dir == ""
		case "MODIFY":
			closeAll(e.Path)
			if n := len(out); n >= 2 && out[n-1] == "CLOSE_WRITE "+e.Path && out[n-2] == "CREATE "+e.Path {
				out = out[:n-1]
			}
			if writing[e.Path] {
				continue
			}
			writing[e.Path] = true
		case "CLOSE_WRITE":
			if !writing[e.Path] && !creating[e.Path] {
				continue
			}
			delete(writing, e.Path)
			delete(creating, e.Path)
			if len(out) > 0 && out[len(out)-1] == line {
				continue
			}
		case "ATTRIB":
			if writing[e.Path] || creating[e.Path] || (len(out) > 0 && out[len(out)-1] == line) {
				continue
			}
		case "MOVED_FROM", "MOVED_TO":
			if cookies[e.Cookie] == 0 {
				cookies[e.Cookie] = len(cookies) + 1
			}
			line += fmt.Sprint(" #", cookies[e.Cookie])
		}
		out = append(out, line)
	}
	closeAll("")
	return append(out, self...)
}

func text(events []Event) string { return strings.Join(normalise(events), "\n") }

// model is the set of names of one directory that a reader of its events believes in.
func model(start map[string]bool, events []Event) map[string]bool {
	names := map[string]bool{}
	for n := range start {
		names[n] = true
	}
	for _, e := range events {
		switch {
		case e.Mask&(syscall.IN_CREATE|syscall.IN_MOVED_TO) != 0:
			names[e.Path] = true
		case e.Mask&(syscall.IN_DELETE|syscall.IN_MOVED_FROM) != 0:
			delete(names, e.Path)
		}
	}
	return names
}
