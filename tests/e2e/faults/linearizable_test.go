// Package faults runs clientv3 through whatever can go wrong with processes, networks, disks and clocks, and has the
// recorded history checked for linearizability.
package faults

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

type kind int

const (
	read kind = iota
	write
	swap // from one value to another, if it is the one
)

type input struct {
	kind     kind
	key      string
	from, to string
}

type output struct {
	value   string // of a read
	swapped bool
	unknown bool // it may have taken effect, now or later or never
}

// A register per key. A call of unknown outcome is recorded as one that has not returned: it may take effect at
// any moment up to the end, and the end is as good as never.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(input).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, ops := range byKey {
			parts = append(parts, ops)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		value, i, o := state.(string), in.(input), out.(output)
		switch i.kind {
		case read:
			return o.value == value, value
		case write:
			return true, i.to
		default:
			if o.unknown {
				if value == i.from {
					return true, i.to
				}
				return true, value
			}
			if o.swapped {
				return value == i.from, i.to
			}
			return value != i.from, value
		}
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// bounded is the same history with less to try. Every value is written once; so a call of unknown outcome whose value somebody has
// seen had taken effect when he had, at the latest. The others, which nobody saw, are given apart.
func bounded(history []porcupine.Operation) (seen, unseen []porcupine.Operation) {
	first := map[string]int64{} // a value, and when it was seen first
	note := func(value string, at int64) {
		if former, there := first[value]; !there || at < former {
			first[value] = at
		}
	}
	for _, op := range history {
		in, out := op.Input.(input), op.Output.(output)
		if in.kind == read {
			note(out.value, op.Return)
		} else if out.swapped {
			note(in.from, op.Return)
		}
	}
	for _, op := range history {
		if op.Output.(output).unknown {
			at, there := first[op.Input.(input).to]
			if !there {
				unseen = append(unseen, op)
				continue
			}
			op.Return = at
		}
		seen = append(seen, op)
	}
	return seen, unseen
}

// check looks at the history of one key. What nobody saw may never have taken effect: if there is an order without it, there is one. If there
// is none, that may be because of a swap that found another value than it should, so it is tried with it as well.
func check(t *testing.T, history []porcupine.Operation) bool {
	t.Helper()
	const limit = 2 * time.Minute
	seen, unseen := bounded(history)
	result := porcupine.CheckOperationsTimeout(registers, seen, limit)
	if result == porcupine.Ok {
		return true
	}
	all := append(seen, unseen...)
	result, info := porcupine.CheckOperationsVerbose(registers, all, limit)
	if result != porcupine.Ok {
		t.Errorf("the history of %s is not linearizable: %s (%d calls, and %d of unknown outcome that nobody saw)",
			history[0].Input.(input).key, result, len(seen), len(unseen))
		if path := os.Getenv("HISTORY"); path != "" {
			t.Logf("it is drawn in %s: %v", path, porcupine.VisualizePath(registers, info, path))
		}
	}
	return result == porcupine.Ok
}

// The checker itself: what it must find, and what it must let pass.
func TestTheCheckerKnowsBadHistories(t *testing.T) {
	call := func(k kind, from, to string, begin, end int64, out output) porcupine.Operation {
		return porcupine.Operation{Input: input{kind: k, key: "k", from: from, to: to}, Call: begin, Return: end, Output: out}
	}
	never := int64(math.MaxInt64)
	fine := func(history ...porcupine.Operation) bool {
		seen, unseen := bounded(history)
		return porcupine.CheckOperations(registers, seen) || porcupine.CheckOperations(registers, append(seen, unseen...))
	}
	unknown := call(write, "", "u", 2, never, output{unknown: true})
	one := call(write, "", "a", 0, 1, output{})
	for name, history := range map[string][]porcupine.Operation{
		"it took effect late":      {one, unknown, call(read, "", "", 5, 6, output{value: "a"}), call(read, "", "", 7, 8, output{value: "u"})},
		"it never did":             {one, unknown, call(read, "", "", 5, 6, output{value: "a"})},
		"a swap met what it wrote": {one, unknown, call(swap, "a", "b", 5, 6, output{}), call(write, "", "a2", 7, 8, output{}), call(read, "", "", 9, 10, output{value: "a2"})},
	} {
		if !fine(history...) {
			t.Errorf("refused: %s", name)
		}
	}
	for name, history := range map[string][]porcupine.Operation{
		"lost":                     {one, call(write, "", "b", 2, 3, output{}), call(read, "", "", 5, 6, output{value: "a"})},
		"from before it was asked": {call(read, "", "", 0, 1, output{value: "u"}), unknown},
		"seen, and gone again":     {one, unknown, call(read, "", "", 5, 6, output{value: "u"}), call(read, "", "", 7, 8, output{value: "a"})},
		"a swap of nothing":        {one, call(swap, "x", "b", 5, 6, output{swapped: true})},
	} {
		if fine(history...) {
			t.Errorf("let pass: %s", name)
		}
	}
}

func connect(t *testing.T, n *cluster.Node) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{n.ClientURL}, Logger: zap.NewNop(),
		DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// onceEach looks for changes that took effect twice: every value is written by one call.
func onceEach(t *testing.T, c *cluster.Cluster, history []porcupine.Operation) {
	t.Helper()
	former := map[string]int64{}
	for _, r := range c.Nodes[0].Dump() {
		if revision, there := former[r.Key+"="+r.Value]; there {
			t.Errorf("%s: %s was written at revision %d, and again at %d", r.Key, r.Value, revision, r.Revision)
			for _, op := range history {
				if in := op.Input.(input); in.key == r.Key && in.to == r.Value {
					t.Logf("by client %d, from %v to %v: %+v -> %+v", op.ClientId, time.Duration(op.Call), time.Duration(op.Return), in,
						op.Output.(output))
				}
			}
		}
		former[r.Key+"="+r.Value] = r.Revision
	}
}

// call makes one operation; done is false for a read without an answer.
func call(client *clientv3.Client, in input) (out output, done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	switch in.kind {
	case read:
		r, err := client.Get(ctx, in.key)
		if err != nil {
			return output{}, false
		}
		if len(r.Kvs) == 1 {
			out.value = string(r.Kvs[0].Value)
		}
		return out, true
	case write:
		_, err := client.Put(ctx, in.key, in.to)
		return output{unknown: err != nil}, true
	default:
		compare := clientv3.Compare(clientv3.Value(in.key), "=", in.from)
		if in.from == "" {
			compare = clientv3.Compare(clientv3.Version(in.key), "=", 0)
		}
		r, err := client.Txn(ctx).If(compare).Then(clientv3.OpPut(in.key, in.to)).Commit()
		if err != nil {
			return output{unknown: true}, true
		}
		return output{swapped: r.Succeeded}, true
	}
}

func TestHistoriesAreLinearizableThroughFaults(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("SEED=%d", seed)
	duration := 20 * time.Second
	if os.Getenv("QUORUMFS_SOAK") != "" {
		duration = 10 * time.Minute
	}
	if text := os.Getenv("SECONDS_LONG"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		duration = time.Duration(n) * time.Second
	}
	const clients, keys = 6, 8

	w := startWorld(t)
	c := w.c
	var history []porcupine.Operation
	var mu sync.Mutex
	var wg sync.WaitGroup
	var unknown, unread atomic.Int64
	begin := time.Now()
	end := begin.Add(duration)
	for id := 0; id < clients; id++ {
		client := connect(t, c.Nodes[id%3])
		random := rand.New(rand.NewPCG(seed, uint64(id)))
		wg.Add(1)
		go func() {
			defer wg.Done()
			last := map[string]string{} // what this client saw last, to swap from
			for n := 0; time.Now().Before(end); n++ {
				// New keys every so often: the checker's cost grows fast with the history of a key.
				key := fmt.Sprintf("lin/%d/%d", time.Since(begin)/(20*time.Second), random.IntN(keys))
				in := input{kind: kind(random.IntN(3)), key: key, to: fmt.Sprintf("%d-%d", id, n)}
				if in.kind == swap {
					in.from = last[key]
				}
				call0 := time.Since(begin).Nanoseconds()
				out, done := call(client, in)
				op := porcupine.Operation{ClientId: id, Input: in, Call: call0, Output: out,
					Return: time.Since(begin).Nanoseconds()}
				if !done {
					unread.Add(1)
					continue
				}
				if out.unknown {
					op.Return = math.MaxInt64
					unknown.Add(1)
				} else if in.kind == read {
					last[key] = out.value
				} else if in.kind == write || out.swapped {
					last[key] = in.to
				}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
				time.Sleep(2 * time.Millisecond) // the pace, not a condition: the checker's cost grows with the history
			}
		}()
	}

	random := rand.New(rand.NewPCG(seed, 1<<32))
	faults := map[string]int{}
	for time.Now().Before(end.Add(-3 * time.Second)) {
		fault := w.faults[random.IntN(len(w.faults))]
		faults[fault.name]++
		fault.run(random, time.Until(end.Add(-2*time.Second)))
	}
	w.heal()
	wg.Wait()

	t.Logf("%d operations, %d of unknown outcome, %d reads without an answer, faults: %v", len(history),
		unknown.Load(), unread.Load(), faults)
	level(t, c)
	sameHash(t, c)
	onceEach(t, c, history)
	if len(history) < 500 {
		t.Errorf("only %d operations in %v", len(history), duration)
	}
	for _, ops := range registers.Partition(history) {
		if !check(t, ops) {
			key := ops[0].Input.(input).key
			for _, r := range c.Nodes[0].Dump() { // what the log says of it
				if r.Key == key {
					t.Logf("%s: revision %d, version %d: %s", key, r.Revision, r.Version, r.Value)
				}
			}
		}
	}
}
