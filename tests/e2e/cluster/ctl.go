package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// SocketName is the local socket's name in the data directory.
const SocketName = "quorumfs.sock"

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
	cmd := exec.CommandContext(ctx, Program("quorumctl"), append([]string{"--socket", n.Socket()}, args...)...)
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
