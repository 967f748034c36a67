package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What these tests expect of quorumctl: the global flags --socket PATH and -o json; put KEY VALUE, del KEY,
// get KEY [--consistency local], watch [--prefix] KEY [--rev N], status. Each answer is one JSON object,
// {"revision":N,"kvs":[{"key":base64,"value":base64,"create_revision":..,"mod_revision":..,"version":..}]}; a watch prints
// one object an event and line, {"type":"put"|"delete","kv":{...}}.

// SocketName is the local socket's name in the data directory.
const SocketName = "node.sock"

// Status is what quorumctl status -o json says, as far as tests use it.
type Status struct {
	MemberID string
	Leader   string // empty or "0": none known
	Term     int64
	Revision int64
	Applied  int64
	raw      map[string]any
}

// Ctl runs quorumctl against the node and returns its standard output; an error carries standard error.
func (n *Node) Ctl(args ...string) (string, error) {
	return n.CtlWithin(Bound, args...)
}

// CtlWithin is Ctl with a bound of its own.
func (n *Node) CtlWithin(bound time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.Program("quorumctl"), append([]string{"--socket", n.Socket()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("still running after %v", bound)
	}
	if err != nil {
		return out.String(), fmt.Errorf("quorumctl %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// MustCtl is Ctl for calls that have to succeed.
func (n *Node) MustCtl(args ...string) string {
	n.Cluster.T.Helper()
	out, err := n.Ctl(args...)
	if err != nil {
		n.Cluster.T.Fatalf("%s: %v", n.Name, err)
	}
	return out
}

// CtlJSON runs quorumctl with -o json and decodes what it prints into v.
func (n *Node) CtlJSON(v any, args ...string) error {
	out, err := n.Ctl(append([]string{"-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.UseNumber()
	if err := decoder.Decode(v); err != nil {
		return fmt.Errorf("quorumctl %s printed what is not JSON: %w: %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Status asks the node for its state.
func (n *Node) Status() (Status, error) {
	var st Status
	if err := n.CtlJSON(&st.raw, "status"); err != nil {
		return st, err
	}
	text := func(key string) string {
		if v, ok := st.raw[key]; ok && v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
	number := func(key string) int64 {
		var v int64
		fmt.Sscan(text(key), &v)
		return v
	}
	st.MemberID = text("member_id")
	st.Leader = text("leader")
	st.Term = number("term")
	st.Revision = number("revision")
	st.Applied = number("applied_index")
	return st, nil
}

// KV is a key as quorumctl get -o json prints it: bytes in base64, as etcdctl has them.
type KV struct {
	Key, Value                           []byte
	CreateRevision, ModRevision, Version int64
	Lease                                int64
}

type kvJSON struct {
	Key            []byte      `json:"key"`
	Value          []byte      `json:"value"`
	CreateRevision json.Number `json:"create_revision"`
	ModRevision    json.Number `json:"mod_revision"`
	Version        json.Number `json:"version"`
	Lease          json.Number `json:"lease"`
}

func integer(n json.Number) int64 {
	v, _ := strconv.ParseInt(string(n), 10, 64)
	return v
}

func (k kvJSON) kv() KV {
	return KV{k.Key, k.Value, integer(k.CreateRevision), integer(k.ModRevision), integer(k.Version), integer(k.Lease)}
}

type answerJSON struct {
	Revision json.Number `json:"revision"`
	KVs      []kvJSON    `json:"kvs"`
}

// Put writes through the node and returns the revision of the write.
func (n *Node) Put(key, value string) (revision int64, err error) {
	var a answerJSON
	err = n.CtlJSON(&a, "put", key, value)
	return integer(a.Revision), err
}

// Delete deletes one key.
func (n *Node) Delete(key string) (revision int64, err error) {
	var a answerJSON
	err = n.CtlJSON(&a, "del", key)
	return integer(a.Revision), err
}

// GetKV reads after a barrier; nil if the key is not there.
func (n *Node) GetKV(key string) (*KV, error) { return n.get(key) }

// Get reads a value after a barrier; an error if the key is not there.
func (n *Node) Get(key string) (string, error) { return value(n.get(key)) }

// GetLocal reads what the node has, without asking anyone.
func (n *Node) GetLocal(key string) (string, error) {
	return value(n.get(key, "--consistency", "local"))
}

func (n *Node) get(key string, flags ...string) (*KV, error) {
	var a answerJSON
	if err := n.CtlJSON(&a, append([]string{"get", key}, flags...)...); err != nil {
		return nil, err
	}
	if len(a.KVs) == 0 {
		return nil, nil
	}
	kv := a.KVs[0].kv()
	return &kv, nil
}

func value(kv *KV, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if kv == nil {
		return "", fmt.Errorf("the key is not there")
	}
	return string(kv.Value), nil
}

// Event is a change as quorumctl watch prints it.
type Event struct {
	Kind       string // "put" or "delete"
	Revision   int64
	Key, Value []byte
}

// Watch is a running quorumctl watch.
type Watch struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	mu     sync.Mutex
	events []Event
	errs   *lineBuffer
	done   chan struct{}
}

// Watch starts quorumctl watch on all keys with the prefix, from a revision on; it ends with the test.
func (n *Node) Watch(prefix string, from int64) *Watch {
	t := n.Cluster.T
	t.Helper()
	w := &Watch{t: t, name: "watch at " + n.Name, errs: &lineBuffer{}, done: make(chan struct{})}
	w.cmd = exec.Command(n.Program("quorumctl"), "--socket", n.Socket(), "-o", "json", "watch", "--prefix", prefix,
		"--rev", strconv.FormatInt(from, 10))
	w.cmd.Stderr = w.errs
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.done)
		in := bufio.NewScanner(out)
		in.Buffer(nil, 32<<20)
		for in.Scan() {
			var line struct {
				Type     string      `json:"type"`
				Revision json.Number `json:"revision"`
				KV       kvJSON      `json:"kv"`
			}
			if err := json.Unmarshal(in.Bytes(), &line); err != nil {
				fmt.Fprintf(w.errs, "not JSON: %s\n", in.Text())
				continue
			}
			kv := line.KV.kv()
			w.mu.Lock()
			w.events = append(w.events, Event{strings.ToLower(line.Type), kv.ModRevision, kv.Key, kv.Value})
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		w.cmd.Process.Kill()
		<-w.done
		w.cmd.Wait()
	})
	return w
}

// Events are those printed so far.
func (w *Watch) Events() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Event{}, w.events...)
}

// WaitFor waits until at least n events are there and returns all.
func (w *Watch) WaitFor(n int) []Event {
	w.t.Helper()
	Until(w.t, fmt.Sprintf("%s: %d events", w.name, n), func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.events) >= n, fmt.Sprintf("%d events; %s", len(w.events), w.errs.String())
	})
	return w.Events()
}

// Row is one row of the node's log as the environment has it.
type Row struct {
	Revision, Sub     int64
	Kind              string
	Key, Value        string
	Create, Version   int64
	Session, Sequence uint64
}

// StoreDir is the directory of the node's environments: the one with the file CURRENT.
func (n *Node) StoreDir() string {
	dir := ""
	filepath.WalkDir(n.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "CURRENT" {
			dir = filepath.Dir(path)
		}
		return nil
	})
	return dir
}

// Dump reads the node's log from its environment, past the node.
func (n *Node) Dump() []Row {
	n.Cluster.T.Helper()
	return n.DumpFrom(1)
}

// DumpFrom is Dump from a revision on.
func (n *Node) DumpFrom(revision int64) []Row {
	t := n.Cluster.T
	t.Helper()
	out, err := exec.Command(Program("e2e/dump"), n.StoreDir(), fmt.Sprint(revision)).Output()
	if err != nil {
		t.Fatalf("dump of %s: %v %s", n.Name, err, out)
	}
	var rows []Row
	ended := false
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		var r Row
		var key, value string
		if strings.HasPrefix(line, "end ") {
			ended = true
			continue
		}
		if _, err := fmt.Sscan(line, &r.Revision, &r.Sub, &r.Kind, &key, &value, &r.Create, &r.Version, &r.Session,
			&r.Sequence); err != nil {
			t.Fatalf("dump of %s: %q: %v", n.Name, line, err)
		}
		r.Key, r.Value = unhex(key), unhex(value)
		rows = append(rows, r)
	}
	if !ended {
		t.Fatalf("dump of %s is cut", n.Name)
	}
	return rows
}

func unhex(text string) string {
	b, _ := hex.DecodeString(text)
	return string(b)
}
