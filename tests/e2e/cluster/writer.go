package cluster

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Writer is a running e2e/writer and what it has printed so far. OK and Other may be read when it has stopped.
type Writer struct {
	Prefix string
	OK     map[int64]int64 // number to revision
	Other  []string
	cmd    *exec.Cmd
	stdin  io.Closer
	mu     sync.Mutex
	ended  bool
	errs   strings.Builder
	done   chan struct{}
}

// StartWriter puts through the node's socket, so many at a time, one per interval, each until it is answered.
func StartWriter(t testing.TB, n *Node, prefix string, window, intervalMS int) *Writer {
	t.Helper()
	w := &Writer{Prefix: prefix, OK: map[int64]int64{}, done: make(chan struct{})}
	w.cmd = exec.Command(Program("e2e/writer"), n.Socket(), prefix, strconv.Itoa(window), strconv.Itoa(intervalMS))
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.cmd.Stderr = &w.errs
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.stdin = stdin
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.cmd.Process.Kill() })
	go func() {
		defer close(w.done)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			var number, revision int64
			w.mu.Lock()
			if _, err := fmt.Sscanf(s.Text(), "ok %d %d", &number, &revision); err == nil {
				w.OK[number] = revision
			} else if strings.HasPrefix(s.Text(), "end ") {
				w.ended = true
			} else {
				w.Other = append(w.Other, s.Text())
			}
			w.mu.Unlock()
		}
	}()
	return w
}

// Acknowledged is how many puts were.
func (w *Writer) Acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.OK)
}

// GoesOn waits for another acknowledgement.
func (w *Writer) GoesOn(t testing.TB) {
	t.Helper()
	before := w.Acknowledged()
	Until(t, "the writer "+w.Prefix+" goes on", func() (bool, string) { return w.Acknowledged() > before, "" })
}

// Stop waits for everything under way.
func (w *Writer) Stop(t testing.TB) {
	t.Helper()
	w.stdin.Close()
	select {
	case <-w.done:
	case <-time.After(2 * Bound):
		t.Fatalf("the writer %s does not end", w.Prefix)
	}
	if err := w.cmd.Wait(); err != nil || !w.ended {
		t.Fatalf("the writer %s ended with %v: %s", w.Prefix, err, w.errs.String())
	}
}

// Check looks for all that was acknowledged among a node's rows, each once and where it was said to be.
func (w *Writer) Check(t testing.TB, rows []Row) {
	t.Helper()
	if len(w.Other) > 0 {
		t.Errorf("%s: %d writes were not acknowledged in spite of retries: %v", w.Prefix, len(w.Other), w.Other[0])
	}
	at := map[string]int64{}
	for _, r := range rows {
		if former, twice := at[r.Value]; twice && strings.HasPrefix(r.Value, w.Prefix+":") {
			t.Errorf("%s was applied at %d and at %d", r.Value, former, r.Revision)
		}
		at[r.Value] = r.Revision
	}
	for number, revision := range w.OK {
		if value := fmt.Sprintf("%s:%d", w.Prefix, number); at[value] != revision {
			t.Errorf("%s, acknowledged at revision %d, stands at %d", value, revision, at[value])
		}
	}
}
