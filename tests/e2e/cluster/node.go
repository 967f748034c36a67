package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ReadyLine is what a node says once there is a leader and everything configured serves.
const ReadyLine = "ready to serve client requests"

// Node is one quorumfsd: its command line and, while it runs, its process.
type Node struct {
	Cluster   *Cluster
	Index     int
	Name      string
	DataDir   string
	ClientURL string
	PeerURL   string
	Mount     string // empty without one

	// Joins: it was added to a running cluster; the value of --initial-cluster then.
	Joins string

	// Programs is the directory of another build that this node and its quorumctl are of; empty: the one that is tested.
	Programs string

	// ListenPeerURL is where the node listens if that is not what its peers know.
	ListenPeerURL string

	mu     sync.Mutex
	proc   *process
	former []string // logs of earlier runs
}

type process struct {
	cmd  *exec.Cmd
	log  *lineBuffer
	done chan struct{}
	err  error
}

// Socket is the path of the node's local socket.
func (n *Node) Socket() string { return filepath.Join(n.DataDir, SocketName) }

// Endpoint is host:port of the client URL.
func (n *Node) Endpoint() string { return n.ClientURL[strings.Index(n.ClientURL, "://")+3:] }

// Program is the path of a program of the node's build.
func (n *Node) Program(name string) string {
	if n.Programs != "" {
		return filepath.Join(n.Programs, name)
	}
	return Program(name)
}

// Args is the node's command line without the program.
func (n *Node) Args() []string {
	o := n.Cluster.opts
	listen := n.PeerURL
	if n.ListenPeerURL != "" {
		listen = n.ListenPeerURL
	}
	initial, state := n.Cluster.InitialCluster(), "new"
	if n.Joins != "" {
		initial, state = n.Joins, "existing"
	}
	args := []string{
		"--name", n.Name,
		"--data-dir", n.DataDir,
		"--listen-client-urls", n.ClientURL,
		"--advertise-client-urls", n.ClientURL,
		"--listen-peer-urls", listen,
		"--initial-advertise-peer-urls", n.PeerURL,
		"--initial-cluster", initial,
		"--initial-cluster-state", state,
		"--initial-cluster-token", n.Cluster.Token,
	}
	args = append(args, n.secureFlags()...)
	if loops := os.Getenv("QUORUMFS_LOOPS"); loops != "" {
		args = append(args, "--grpc-loops", loops)
	}
	if o.ElectionMS != 0 {
		args = append(args, "--election-timeout", strconv.Itoa(o.ElectionMS))
	}
	if o.HeartbeatMS != 0 {
		args = append(args, "--heartbeat-interval", strconv.Itoa(o.HeartbeatMS))
	}
	if n.Mount != "" {
		args = append(args, "--mount", n.Mount)
	}
	if o.Flags != nil {
		args = append(args, o.Flags(n)...)
	}
	return args
}

// Spawn starts the process and returns at once.
func (n *Node) Spawn() {
	n.Cluster.T.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil && n.proc.alive() {
		n.Cluster.T.Fatalf("%s runs already", n.Name)
	}
	words := append([]string{n.Program("quorumfsd")}, n.Args()...)
	if n.Cluster.opts.Command != nil {
		words = n.Cluster.opts.Command(n, words)
	}
	p, err := spawn(words[0], words[1:], n.Cluster.opts.Env, n.Cluster.Dir)
	if err != nil {
		n.Cluster.T.Fatalf("start of %s: %v", n.Name, err)
	}
	if n.proc != nil {
		n.former = append(n.former, n.proc.log.String())
	}
	n.proc = p
}

// Start starts the process and waits until it is ready.
func (n *Node) Start() {
	n.Cluster.T.Helper()
	n.Spawn()
	n.WaitReady()
}

// WaitReady waits for the ready line of the present run.
func (n *Node) WaitReady() {
	n.Cluster.T.Helper()
	p := n.process()
	Until(n.Cluster.T, n.Name+" is ready", func() (bool, string) {
		if strings.Contains(p.log.String(), ReadyLine) {
			return true, ""
		}
		if !p.alive() {
			n.Cluster.T.Fatalf("%s ended before it was ready: %v\n%s", n.Name, p.err, tail(p.log.String(), 30))
		}
		return false, "no line with: " + ReadyLine
	})
}

func (n *Node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// Running says whether the supervisor's process is there.
func (n *Node) Running() bool {
	p := n.process()
	return p != nil && p.alive()
}

// PID is the supervisor's, 0 if it does not run.
func (n *Node) PID() int {
	if p := n.process(); p != nil && p.alive() {
		return p.cmd.Process.Pid
	}
	return 0
}

// Kill ends supervisor and all its descendants with SIGKILL, as a power cut would, and reaps.
func (n *Node) Kill() {
	if p := n.process(); p != nil {
		p.kill()
	}
}

// Signal sends a signal to the supervisor and all its descendants.
func (n *Node) Signal(s syscall.Signal) {
	if pid := n.PID(); pid != 0 {
		for _, p := range append([]int{pid}, descendants(pid)...) {
			syscall.Kill(p, s)
		}
	}
}

// Stop sends SIGTERM to the supervisor and waits; an error unless it exits with status 0 within the bound.
func (n *Node) Stop() error {
	p := n.process()
	if p == nil || !p.alive() {
		return errors.New("it does not run")
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.wait(Bound); err != nil {
		p.kill()
		return err
	}
	return p.err
}

// Wait waits for the process to end by itself and returns its exit status.
func (n *Node) Wait() int {
	n.Cluster.T.Helper()
	p := n.process()
	if err := p.wait(Bound); err != nil {
		n.Cluster.T.Fatalf("%s: %v\n%s", n.Name, err, tail(p.log.String(), 30))
	}
	return p.cmd.ProcessState.ExitCode()
}

// Log is everything that the node has said, of all its runs.
func (n *Node) Log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	parts := append([]string{}, n.former...)
	if n.proc != nil {
		parts = append(parts, n.proc.log.String())
	}
	return strings.Join(parts, "---- started again ----\n")
}

// LastLog is what the present or last run has said.
func (n *Node) LastLog() string {
	if p := n.process(); p != nil {
		return p.log.String()
	}
	return ""
}

// Child is the process id of the descendant of the supervisor whose command name (/proc/PID/comm) or first
// argument contains name; 0 if there is none.
func (n *Node) Child(name string) int {
	for _, pid := range descendants(n.PID()) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		argv := strings.ReplaceAll(string(line), "\x00", " ")
		if strings.TrimSpace(string(comm)) == name || strings.Contains(argv, name) {
			return pid
		}
	}
	return 0
}

// NodePID is the process of the node below its supervisor, 0 if there is none.
func (n *Node) NodePID() int { return n.Child("quorumfsd") }

// ---- processes ----

func spawn(program string, args, env []string, dir string) (*process, error) {
	p := &process{log: &lineBuffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout = p.log
	p.cmd.Stderr = p.log
	p.cmd.WaitDelay = 5 * time.Second // a descendant may hold the pipe
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) wait(bound time.Duration) error {
	select {
	case <-p.done:
		return nil
	case <-time.After(bound):
		return fmt.Errorf("process %d still runs after %v", p.cmd.Process.Pid, bound)
	}
}

// kill ends the process, its descendants and its group, and returns when they are gone.
func (p *process) kill() {
	pid := p.cmd.Process.Pid
	var family []int
	if p.alive() {
		family = append([]int{pid}, descendants(pid)...)
	}
	syscall.Kill(-pid, syscall.SIGKILL)
	for _, f := range family {
		syscall.Kill(f, syscall.SIGKILL)
	}
	<-p.done
	deadline := time.Now().Add(Bound)
	for _, f := range family {
		for Alive(f) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
}

// Alive says whether a process runs; one that has ended and was not reaped does not.
func Alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(after, []byte(" Z")) && !bytes.HasPrefix(after, []byte(" X"))
}

// descendants lists the children of pid, and theirs.
func descendants(pid int) []int {
	if pid == 0 {
		return nil
	}
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], id)
	}
	var all []int
	todo := []int{pid}
	for len(todo) > 0 {
		next := children[todo[0]]
		todo = append(todo[1:], next...)
		all = append(all, next...)
	}
	return all
}

// lineBuffer keeps what a process said; safe to read while it is written.
type lineBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lineBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
