// Package ctl tests quorumctl as an operator meets it: a real node, real pipes, exit statuses.
package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

type call struct {
	dir   string
	env   []string
	stdin string
}

// run runs quorumctl and returns what it printed and its exit status.
func (c call) run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command(cluster.Program("quorumctl"), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

type node struct {
	t *testing.T
	n *cluster.Node
}

func start(t *testing.T) node {
	return node{t, cluster.Start(t, cluster.Options{}).Nodes[0]}
}

// wants runs a command that has to succeed and print exactly this.
func (n node) wants(want, stdin string, args ...string) {
	n.t.Helper()
	out, errs, status := call{stdin: stdin}.run(n.t, append([]string{"--socket", n.n.Socket()}, args...)...)
	if status != 0 || errs != "" || out != want {
		n.t.Errorf("quorumctl %q: status %d\nprinted %q\nwant    %q\n%s", args, status, out, want, errs)
	}
}

// fails runs a command that has to end with status 1 and one line on standard error that holds the words.
func (n node) fails(words, stdin string, args ...string) {
	n.t.Helper()
	out, errs, status := call{stdin: stdin}.run(n.t, append([]string{"--socket", n.n.Socket()}, args...)...)
	if status != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, words) {
		n.t.Errorf("quorumctl %q: status %d, printed %q, said %q, not %q", args, status, out, errs, words)
	}
}

func TestGetHasTheOptionsOfEtcdctl(t *testing.T) {
	n := start(t)
	for i, key := range []string{"b", "a", "x/2", "x/1", "z"} {
		n.wants("OK\n", "", "put", key, fmt.Sprint("v", i)) // revisions 2 to 6
	}
	n.wants("OK\na\nv1\n", "", "put", "a", "again", "--prev-kv")
	n.wants("a\nagain\n", "", "get", "a")
	n.wants("", "", "get", "nothing")
	n.wants("a\nv1\n", "", "get", "a", "--rev", "6")
	n.wants("x/1\nv3\nx/2\nv2\n", "", "get", "--prefix", "x/")
	n.wants("x/1\nx/2\nz\n", "", "get", "--from-key", "x", "--keys-only")
	n.wants("a\nb\n", "", "get", "a", "c", "--keys-only")
	n.wants("5\n", "", "get", "", "--prefix", "--count-only")
	n.wants("v3\nv2\n", "", "get", "x/", "--prefix", "--print-value-only")
	n.wants("a\nb\n", "", "get", "", "--prefix", "--keys-only", "--limit", "2")
	n.wants("z\nx/2\nx/1\nb\na\n", "", "get", "", "--prefix", "--keys-only", "--order", "descend")
	n.wants("b\nx/2\nx/1\nz\na\n", "", "get", "", "--prefix", "--keys-only", "--sort-by", "modify")
	n.wants("x/2\nx/1\n", "", "get", "x", "z", "--keys-only", "--sort-by", "value", "--consistency", "local")
}

func TestValuesAreBytes(t *testing.T) {
	n := start(t)
	value := "line\n\x00\xff\"\\ end"
	n.wants("OK\n", value, "put", "k")
	n.wants(value+"\n", "", "get", "k", "--print-value-only")
	n.wants("\\x6b\n\\x6c\\x69\\x6e\\x65\\x0a\\x00\\xff\\x22\\x5c\\x20\\x65\\x6e\\x64\n", "", "get", "k", "--hex")
	n.wants(`{"revision":2,"kvs":[{"key":"aw==","create_revision":2,"mod_revision":2,"version":1,`+
		`"value":"bGluZQoA/yJcIGVuZA=="}],"count":1,"more":false}`+"\n", "", "get", "k", "-o", "json")
	n.wants("2.0 put \"k\" \"line\\n\\x00\\xff\\\"\\\\ end\"\n", "", "log", "dump", "--hex")
	n.wants("OK\n", "", "put", "--", "-k", "-v")
	n.wants("-k\n-v\n", "", "get", "--", "-k")
}

func TestTransactions(t *testing.T) {
	n := start(t)
	n.wants("OK\n", "", "put", "k", "old")
	n.wants("SUCCESS\n\nOK\nk\nold\n\nk\nnew one\n", "value(\"k\") = \"old\"\nver(\"none\") = 0\n\n"+
		"put k 'new one' --prev-kv\nget k\n\ndel k\n", "txn")
	n.wants("FAILURE\n\n1\n", "value(\"k\") = \"old\"\n\nput k v\n\ndel k\n", "txn")
	n.wants("", "", "get", "k")
	n.wants(`{"revision":5,"succeeded":true,"responses":[{"put":{}},{"delete":{"deleted":0}}]}`+"\n",
		`{"success":[{"requestPut":{"key":"AAE=","value":"eA=="}},{"requestDeleteRange":{"key":"eg=="}}]}`, "txn", "-o", "json")
	n.fails("duplicate key", "\nput a 1\nput a 2\n", "txn")
	n.fails("line 1", "nonsense\n", "txn")
}

func TestDelete(t *testing.T) {
	n := start(t)
	for _, key := range []string{"a/1", "a/2", "b"} {
		n.wants("OK\n", "", "put", key, "v"+key)
	}
	n.wants("0\n", "", "del", "a")
	n.wants("2\na/1\nva/1\na/2\nva/2\n", "", "del", "a/", "--prefix", "--prev-kv")
	n.wants(`{"revision":6,"deleted":1}`+"\n", "", "del", "b", "-o", "json")
}

func TestErrorsAreOneLine(t *testing.T) {
	n := start(t)
	n.fails("key is not provided", "", "put", "", "v")
	n.fails("required revision is a future revision", "", "get", "k", "--rev", "99")
	n.fails("request is too large", strings.Repeat("x", 1536*1024), "put", "k")
	n.fails("not an option of put", "", "put", "k", "v", "--prefix")
	n.fails("not a command", "", "frobnicate")
	n.fails("key not found", "", "put", "k", "--ignore-value")
	n.n.Kill()
	n.fails("", "", "--timeout", "0.3", "get", "k")
}

func TestTheSocketIsFound(t *testing.T) {
	n := start(t)
	n.wants("OK\n", "", "put", "k", "v")
	for name, c := range map[string]call{
		"the variable":          {dir: "/", env: []string{"QUORUMFS_SOCKET=" + n.n.Socket()}},
		"the working directory": {dir: n.n.Cluster.Dir, env: []string{"QUORUMFS_SOCKET="}},
	} {
		if out, errs, status := c.run(t, "get", "k"); status != 0 || out != "k\nv\n" {
			t.Errorf("by %s: status %d, %q %q", name, status, out, errs)
		}
	}
	other := filepath.Join(n.n.Cluster.Dir, "other.quorumfs")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "node.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, status := call{dir: n.n.Cluster.Dir, env: []string{"QUORUMFS_SOCKET="}}.run(t, "get", "k")
	if status != 1 || !strings.Contains(errs, "--socket") {
		t.Errorf("with two nodes here: status %d, %q", status, errs)
	}
	_, errs, status = call{}.run(t, "--socket", filepath.Join(other, "nothing"), "status")
	if status != 1 || !strings.Contains(errs, "no node") {
		t.Errorf("without a node: status %d, %q", status, errs)
	}
}

func TestStatusSaysWhoLeads(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Nodes: 3})
	var st struct {
		Leader   string `json:"leader"`
		MemberID string `json:"member_id"`
		Members  []struct {
			ID     string `json:"id"`
			Name   string `json:"name"`
			Leader bool   `json:"leader"`
		} `json:"members"`
	}
	cluster.Until(t, "every node knows one leader", func() (bool, string) {
		leaders := map[string]bool{}
		for _, n := range c.Nodes {
			if err := n.CtlJSON(&st, "status"); err != nil {
				return false, err.Error()
			}
			leaders[st.Leader] = true
		}
		return len(leaders) == 1 && !leaders["0"], fmt.Sprint(leaders)
	})
	if len(st.Members) != 3 {
		t.Errorf("%d members", len(st.Members))
	}
	for _, m := range st.Members {
		if m.Leader != (m.ID == st.Leader) {
			t.Errorf("member %s: leader %v, but the leader is %s", m.Name, m.Leader, st.Leader)
		}
	}
	text, _, status := call{}.run(t, "--socket", c.Nodes[0].Socket(), "status")
	if status != 0 || !strings.Contains(text, "name=n3") || !strings.Contains(text, "leader") {
		t.Errorf("status %d: %s", status, text)
	}
}

// The reader of a watch goes away: so does the watch, although nothing more happens.
func TestAWatchEndsWithItsReader(t *testing.T) {
	n := start(t)
	n.wants("OK\n", "", "put", "k", "v")
	cmd := exec.Command(cluster.Program("quorumctl"), "--socket", n.n.Socket(), "watch", "k", "--rev", "1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	first := make([]byte, 8)
	got, err := out.Read(first)
	if err != nil || string(first[:got]) != "PUT\nk\nv\n" {
		t.Fatalf("read %q, %v", first[:got], err)
	}
	out.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("status %d", cmd.ProcessState.ExitCode())
		}
	case <-time.After(cluster.Bound):
		t.Error("it still runs")
	}
}

// Output that cannot be written is an error; a closed standard output never ends up in another file.
func TestOutputThatCannotBeWritten(t *testing.T) {
	n := start(t)
	n.wants("OK\n", "", "put", "k", "v")
	for name, redirect := range map[string]string{"full": ">/dev/full", "closed": ">&-", "all closed": "<&- >&- 2>&-"} {
		cmd := exec.Command("sh", "-c", "exec \"$0\" --socket \"$1\" get k "+redirect, cluster.Program("quorumctl"), n.n.Socket())
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v, %s", name, err, out)
		}
		if name != "all closed" && !strings.Contains(string(out), "cannot write the output") {
			t.Errorf("%s: said %q", name, out)
		}
	}
	n.wants("k\nv\n", "", "get", "k")
}

// Each change of the range once, in order, with what was there before.
func TestAWatchShowsItsRange(t *testing.T) {
	n := start(t)
	var want []string
	for i, key := range []string{"a/1", "b", "a/2", "a/1"} {
		n.wants("OK\n", "", "put", key, fmt.Sprint(i))
	}
	n.wants("1\n", "", "del", "a/2")
	w := n.n.Watch("a/", 1)
	for _, e := range w.WaitFor(4) {
		want = append(want, fmt.Sprintf("%s %s %s %d", e.Kind, e.Key, e.Value, e.Revision))
	}
	if got := strings.Join(want, ", "); got != "put a/1 0 2, put a/2 2 4, put a/1 3 5, delete a/2  6" {
		t.Error(got)
	}
	out, errs, status := call{}.run(t, "--socket", n.n.Socket(), "watch", "a/", "--prefix", "--rev", "0x1")
	if status != 1 || out != "" || !strings.Contains(errs, "--rev") {
		t.Errorf("status %d, %q %q", status, out, errs)
	}
}

func TestTheLogIsDumpedWhole(t *testing.T) {
	n := start(t)
	for i := 0; i < 50; i++ {
		n.wants("OK\n", "", "put", fmt.Sprint("k", i%7), fmt.Sprint(i))
	}
	out, _, status := call{}.run(t, "--socket", n.n.Socket(), "log", "dump", "-o", "json", "--from", "11")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != 41 {
		t.Fatalf("status %d, %d lines", status, len(lines))
	}
	for i, line := range lines {
		var row struct {
			Revision int64
			Kind     string
			Key      []byte
			Value    []byte
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if row.Revision != int64(11+i) || row.Kind != "put" || string(row.Value) != fmt.Sprint(9+i) ||
			string(row.Key) != fmt.Sprint("k", (9+i)%7) {
			t.Errorf("row %d: %s", i, line)
		}
	}
}
