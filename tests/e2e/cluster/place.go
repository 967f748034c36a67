package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bound is the limit of every wait on a condition.
const Bound = 30 * time.Second

// Until polls a condition until it holds; the test fails after Bound, saying what was missing last.
func Until(t testing.TB, what string, condition func() (ok bool, missing string)) {
	t.Helper()
	UntilWithin(t, Bound, what, condition)
}

// UntilWithin is Until with a bound of its own.
func UntilWithin(t testing.TB, bound time.Duration, what string, condition func() (ok bool, missing string)) {
	t.Helper()
	deadline := time.Now().Add(bound)
	pause := time.Millisecond
	for {
		ok, missing := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s (%s)", bound, what, missing)
		}
		time.Sleep(pause)
		if pause < 50*time.Millisecond {
			pause *= 2
		}
	}
}

// Top is the repository's top directory.
func Top() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
}

// Program is the path of a built program (or of a test program, "e2e/writer").
func Program(name string) string {
	dir := os.Getenv("QUORUMFS_BUILD")
	if dir == "" {
		dir = filepath.Join(Top(), "build")
	}
	return filepath.Join(dir, name)
}

// Need fails the test unless the built programs are there.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := os.Stat(Program(p)); err != nil {
			t.Fatalf("%s is not built: %v", p, err)
		}
	}
}

// TempDir is a directory that is removed after the test, with a name short enough for sockets below it. A
// mount that is still there is unmounted first, so that removal never reaches through it.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qfs-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755) // tests as another user reach below it
	t.Cleanup(func() {
		clearBelow(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cleanup of %s: %v", dir, err)
		}
	})
	return dir
}

var (
	portsMu sync.Mutex
	ports   = map[int]bool{}
)

// FreePort is a TCP port of the loopback addresses that nobody listens on. It lies below the range from which
// the kernel numbers outgoing connections, so that it is still free when a killed node comes back.
func FreePort(t testing.TB) int {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for try := 0; try < 1000; try++ {
		port := 12000 + rand.IntN(20000)
		if ports[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		ports[port] = true
		return port
	}
	t.Fatal("no free port")
	return 0
}

// ---- leftovers ----

// Mounts lists the mount points at or below dir, innermost first, with their device numbers.
func Mounts(dir string) (points []string, minors []int) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if point != dir && !strings.HasPrefix(point, dir+"/") {
			continue
		}
		var major, minor int
		fmt.Sscanf(fields[2], "%d:%d", &major, &minor)
		points = append([]string{point}, points...)
		minors = append([]int{minor}, minors...)
	}
	return points, minors
}

// clearBelow aborts and unmounts what is mounted at or below dir, and says what that was.
func clearBelow(dir string) (left []string) {
	points, minors := Mounts(dir)
	for i, point := range points {
		left = append(left, "mount "+point)
		abort := fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minors[i])
		if err := os.WriteFile(abort, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			left = append(left, err.Error())
		}
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			left = append(left, fmt.Sprintf("umount %s: %v", point, err))
		}
	}
	return left
}

// What is alive in this test program, for Main's signal handler.
var (
	liveMu sync.Mutex
	live   = map[*Cluster]bool{}
)

func register(c *Cluster) {
	liveMu.Lock()
	defer liveMu.Unlock()
	live[c] = true
}

func unregister(c *Cluster) {
	liveMu.Lock()
	defer liveMu.Unlock()
	delete(live, c)
}

// Main runs a test program and cleans up also when it is interrupted. Use it as the body of TestMain.
func Main(m *testing.M) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s := <-signals
		liveMu.Lock()
		for c := range live {
			for _, n := range c.Nodes {
				n.Kill()
			}
			clearBelow(c.Dir)
			os.RemoveAll(c.Dir)
		}
		closeSecure()
		fmt.Fprintf(os.Stderr, "ended by %v\n", s)
		os.Exit(1)
	}()
	if Scheme() == "https" {
		openSecure()
	}
	status := m.Run()
	closeSecure()
	os.Exit(status)
}
