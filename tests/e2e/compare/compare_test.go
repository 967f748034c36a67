package compare

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

const (
	recordedSeed  = 20251125
	recordedSteps = 3000
	record        = "testdata/etcd-3.6.4"
	differences   = 20 // that are told
)

func short(text string) string {
	if len(text) > 3000 {
		return text[:3000] + "..."
	}
	return text
}

// Answers are kept as the first bytes of their hash: which one it was, an etcd can be asked (QUORUMFS_SOAK, COMPARE_SEED).
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%x", sum[:5])
}

// run puts the odd requests and then steps random ones; each is handed to `expect` with its answer.
func run(s *server, seed uint64, steps int, expect func(step int, request any, got string) bool) {
	src := newSource(seed)
	requests := odd()
	for i := range len(requests) + steps {
		var request any
		if i < len(requests) {
			request = requests[i]
		} else {
			request = src.next()
		}
		got, revision := s.ask(request)
		src.revision = max(src.revision, revision)
		if !expect(i, request, got) {
			return
		}
	}
}

func ours(t *testing.T) *server {
	one := cluster.Start(t, cluster.Options{})
	s, err := dial(one.Nodes[0].Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// etcd builds and starts etcd's own server (tests/bench/etcd-peer); COMPARE_ETCD is one that is built.
func etcd(t *testing.T) *server {
	program := os.Getenv("COMPARE_ETCD")
	dir := cluster.TempDir(t)
	if program == "" {
		program = filepath.Join(dir, "etcd-peer")
		compiler := os.Getenv("GO") // as ./check has it
		if compiler == "" {
			compiler = "/usr/lib/go-1.23/bin/go"
		}
		build := exec.Command(compiler, "build", "-o", program, ".")
		build.Dir = filepath.Join(cluster.Top(), "tests/bench/etcd-peer")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building etcd: %v\n%s", err, out)
		}
	}
	client, peer := cluster.FreePort(t), cluster.FreePort(t)
	cmd := exec.Command(program, "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", fmt.Sprint("http://127.0.0.1:", client),
		"--listen-peer-urls", fmt.Sprint("http://127.0.0.1:", peer))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "ready") {
		t.Fatalf("etcd says %q, %v", line, err)
	}
	s, err := dial(fmt.Sprint("127.0.0.1:", client))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAsRecorded compares with the answers that etcd gave to the same requests (COMPARE_RECORD=1 asks one and writes them down).
func TestAsRecorded(t *testing.T) {
	if os.Getenv("COMPARE_RECORD") != "" {
		var out strings.Builder
		run(etcd(t), recordedSeed, recordedSteps, func(step int, _ any, got string) bool {
			fmt.Fprintln(&out, digest(got))
			return true
		})
		if err := os.WriteFile(record, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	expected := strings.Fields(string(text))
	different := 0
	run(ours(t), recordedSeed, recordedSteps, func(step int, request any, got string) bool {
		if digest(got) != expected[step] {
			different++
			t.Errorf("request %d is not answered as etcd does (TestBesideEtcd with COMPARE_SEED=%d shows how):\n%T %s\nanswer: %s", step, recordedSeed, request, short(fmt.Sprint(request)), short(got))
		}
		return different < differences
	})
	fmt.Fprintf(os.Stderr, "seed %d: %d requests, %d differences\n", recordedSeed, len(expected), different)
}

// TestBesideEtcd asks both, with seeds of its own.
func TestBesideEtcd(t *testing.T) {
	if os.Getenv("QUORUMFS_SOAK") == "" && os.Getenv("COMPARE_SEED") == "" {
		t.Skip("skipped: an etcd beside it is for QUORUMFS_SOAK, or COMPARE_SEED")
	}
	seeds, steps := []uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}, 20000
	if text := os.Getenv("COMPARE_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	if text := os.Getenv("COMPARE_STEPS"); text != "" {
		steps, _ = strconv.Atoi(text)
	}
	for _, seed := range seeds {
		fmt.Fprintf(os.Stderr, "seed %d\n", seed)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			theirs, mine := etcd(t), ours(t)
			different, n := 0, 0
			run(theirs, seed, steps, func(step int, request any, expected string) bool {
				n++
				if got, _ := mine.ask(request); got != expected {
					different++
					t.Errorf("request %d: %T %s\netcd:     %s\nquorumfs: %s", step, request, short(fmt.Sprint(request)), short(expected), short(got))
				}
				return different < differences
			})
			fmt.Fprintf(os.Stderr, "seed %d: %d requests, %d differences\n", seed, n, different)
		})
	}
}
