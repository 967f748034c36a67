package mount

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumfs.test/e2e/cluster"
)

// long runs a command that may take longer than a shell of the other tests, and ends it at the bound.
func long(t *testing.T, bound time.Duration, dir, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-u", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in %s: %s: %v\n%s", dir, script, err, out)
	}
	return string(out)
}

// Random I/O on two nodes at once, each on a file of its own that the others look at after every commit.
func TestRandomIOIsWhatAModelSays(t *testing.T) {
	cluster.Need(t, "e2e/fsx")
	c := threeWith(t, "--no-sidecar")
	d := 8 * time.Second
	if soak() {
		d = 10 * time.Minute
	}
	if text := os.Getenv("SECONDS_LONG"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		d = time.Duration(n) * time.Second
	}
	s := seed(t)
	done := make(chan string, 2)
	for i, n := range c.Nodes[:2] {
		args := []string{n.Mount + fmt.Sprint("/f", i), "--seed", fmt.Sprint(s + uint64(i)), "--seconds", fmt.Sprint(d.Seconds())}
		for _, o := range c.Others(n) {
			args = append(args, "--other", o.Mount+fmt.Sprint("/f", i))
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), d+cluster.Bound)
			defer cancel()
			out, err := exec.CommandContext(ctx, cluster.Program("e2e/fsx"), args...).CombinedOutput()
			if err != nil {
				done <- fmt.Sprintf("%v: %v\n%s", args, err, out)
				return
			}
			t.Log(strings.TrimSpace(string(out)))
			done <- ""
		}()
	}
	// Some hundred commits a second of a hundred kilobytes: the history would fill the quota in a minute and a half.
	compact := time.NewTicker(time.Second)
	defer compact.Stop()
	for running := 2; running > 0; {
		select {
		case text := <-done:
			running--
			if text != "" {
				t.Error(text)
			}
		case <-compact.C:
			if st, err := c.Nodes[2].Status(); err == nil && st.Revision > 2000 {
				c.Nodes[2].Ctl("compact", fmt.Sprint(st.Revision-1000)) // again in a second, if it fails
			}
		}
	}
	same(t, c.Nodes[0].Mount, c.Nodes[2].Mount)
}

// Programs that do much, on one node; the others have the same after, and can go on with it.
func TestProgramsThatDoMuch(t *testing.T) {
	c := three(t)
	a, b, third := c.Nodes[0].Mount, c.Nodes[1].Mount, c.Nodes[2].Mount
	commits, files := 10, 6
	if soak() {
		commits, files = 200, 60
	}
	t.Run("git", func(t *testing.T) {
		need(t, "git")
		long(t, 10*time.Minute, a, fmt.Sprintf(`export HOME=$PWD; git -c init.defaultBranch=main init -q r; cd r; git config user.email a@b; git config user.name n
			for i in $(seq %d); do echo $i >> f; mkdir -p d$i; echo $i > d$i/g; git add -A; git commit -qm "commit $i"; done
			git gc -q; git fsck --strict --no-progress`, commits))
		same(t, a+"/r", b+"/r")
		out := long(t, 10*time.Minute, b, `export HOME=$PWD; git config --global --add safe.directory '*'; cd r; git fsck --strict --no-progress; git status --short; git log --oneline | wc -l
			echo more >> f; git commit -qam more; git log --oneline | wc -l`)
		if want := fmt.Sprintf("%d\n%d\n", commits, commits+1); out != want {
			t.Errorf("on another node git says %q, wanted %q", out, want)
		}
		same(t, b+"/r", third+"/r")
	})
	t.Run("make", func(t *testing.T) {
		long(t, 10*time.Minute, a, fmt.Sprintf(`mkdir p; cd p
			for i in $(seq %d); do printf 'int f%%d(void) { return %%d; }\n' $i $i > f$i.c; done
			{ for i in $(seq %d); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int n = 0;'
			  for i in $(seq %d); do echo "n += f$i();"; done; echo 'printf("%%d\n", n); return 0; }'; } > main.c
			printf 'O := $(patsubst %%%%.c,%%%%.o,$(wildcard *.c))\nsum: $O\n\tcc -o $@ $^\n%%%%.o: %%%%.c\n\tcc -c -o $@ $<\n' > Makefile
			make -s -j2; ./sum`, files, files, files))
		same(t, a+"/p", b+"/p")
		out := long(t, 10*time.Minute, b, `cd p; make -q && echo nothing to do; ./sum; touch f1.c; make -s; ./sum`)
		n := files * (files + 1) / 2
		if want := fmt.Sprintf("nothing to do\n%d\n%d\n", n, n); out != want {
			t.Errorf("on another node make says %q, wanted %q", out, want)
		}
		same(t, b+"/p", third+"/p")
	})
	t.Run("dbench", func(t *testing.T) {
		need(t, "dbench")
		long(t, 10*time.Minute, a, fmt.Sprintf(`mkdir db; dbench -D db -t %d 2`, map[bool]int{false: 2, true: 60}[soak()]))
		same(t, a, b)
		same(t, a, third)
	})
	t.Run("stress-ng", func(t *testing.T) {
		need(t, "stress-ng")
		os.Mkdir(a+"/s", 0o755)
		stressors := []string{"dentry", "filename", "getdent", "rename", "utime", "hdd"}
		ops, limit := 60, 2
		if soak() {
			stressors = []string{"access", "chmod", "chown", "dentry", "dir", "dirdeep", "dirmany", "dup", "fallocate", "fcntl", "file-ioctl", "filename",
				"flock", "fstat", "getdent", "hdd", "io", "iomix", "locka", "lockf", "lockofd", "mknod", "open", "readahead", "rename", "revio", "seek",
				"symlink", "sync-file", "touch", "utime"}
			ops, limit = 5000, 20
		}
		for _, s := range stressors {
			more := ""
			switch s {
			case "hdd", "iomix", "fallocate", "readahead", "revio", "sync-file":
				more = "--" + s + "-bytes 4M"
			case "seek":
				more = "--seek-size 4M"
			}
			long(t, 5*time.Minute, a+"/s", fmt.Sprintf("stress-ng --temp-path . --%s 2 --%s-ops %d -t %d --verify %s", s, s, ops, limit, more))
		}
		same(t, a, b)
		same(t, a, third)
	})
}

// tail -F on one node follows a log that another node appends to and rotates.
func TestTailFollowsALogThatAnotherNodeRotates(t *testing.T) {
	c := three(t)
	a, b := c.Nodes[0].Mount, c.Nodes[1].Mount
	shell(t, a, "echo 1 > log")
	same(t, a, b)
	out := filepath.Join(c.Dir, "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tail := exec.Command("tail", "-n", "+1", "-F", b+"/log")
	tail.Stdout = f
	tail.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { tail.Process.Kill(); tail.Wait() }()
	want := "1\n"
	saw := func(what string) {
		t.Helper()
		cluster.Until(t, what, func() (bool, string) {
			got, _ := os.ReadFile(out)
			return string(got) == want, fmt.Sprintf("%q, wanted %q", got, want)
		})
	}
	saw("what was there")
	for i := 2; i < 5; i++ {
		if i%3 == 0 {
			shell(t, a, fmt.Sprintf("mv log log.%d; echo %d > log", i, i))
		} else {
			shell(t, a, fmt.Sprintf("echo %d >> log", i))
		}
		want += fmt.Sprintln(i)
		saw(fmt.Sprint("line ", i))
	}
}

// What people run everywhere: inotifywait, and nginx -s reload when something comes. The configuration is edited on another node.
func TestNginxFollowsItsConfiguration(t *testing.T) {
	need(t, "nginx", "inotifywait")
	c := three(t)
	a, b := c.Nodes[0].Mount, c.Nodes[1].Mount
	port := cluster.FreePort(t)
	shell(t, a, fmt.Sprintf(`mkdir nginx nginx/conf.d; cat > nginx/nginx.conf <<'E'
daemon off; error_log stderr; pid %s/nginx.pid; worker_processes 1;
events { worker_connections 64; }
http { access_log off; client_body_temp_path %s; proxy_temp_path %s; fastcgi_temp_path %s; uwsgi_temp_path %s; scgi_temp_path %s; include %s/nginx/conf.d/*.conf; }
E
	echo 'server { listen 127.0.0.1:%d; return 200 "one"; }' > nginx/conf.d/site.conf`, c.Dir, c.Dir, c.Dir, c.Dir, c.Dir, c.Dir, b, port))
	same(t, a, b)
	log := filepath.Join(c.Dir, "nginx.log")
	cmd := exec.Command("bash", "-c", fmt.Sprintf(`exec > %s 2>&1
		nginx -c %s/nginx/nginx.conf -p %s &
		while :; do
			inotifywait -q -m -e close_write,moved_to,delete %s/nginx/conf.d | while read -r event; do echo "$event"; nginx -c %s/nginx/nginx.conf -p %s -s reload; done
		done`, log, b, c.Dir, b, b, c.Dir))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() }()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answers := func(want string) {
		t.Helper()
		cluster.Until(t, "nginx answers "+want, func() (bool, string) {
			r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
			if err != nil {
				said, _ := os.ReadFile(log)
				return false, fmt.Sprint(err, "\n", string(said))
			}
			defer r.Body.Close()
			body, _ := io.ReadAll(r.Body)
			return string(body) == want, string(body)
		})
	}
	answers("one")
	cluster.Until(t, "inotifywait watches", func() (bool, string) {
		out, _ := exec.Command("bash", "-c", fmt.Sprintf("for p in $(pgrep -g %d -x inotifywait); do cat /proc/$p/fdinfo/*; done | grep -c ^inotify", cmd.Process.Pid)).Output()
		return strings.TrimSpace(string(out)) != "0", string(out)
	})
	for i, script := range []string{`sed -i s/one/two/ site.conf`, `sed 's/two/three/' site.conf > .new; mv .new site.conf`,
		fmt.Sprintf(`printf 'server { listen 127.0.0.1:%d; return 200 "four"; }' > site.conf`, port)} {
		shell(t, a+"/nginx/conf.d", script)
		answers([]string{"two", "three", "four"}[i])
	}
}

// One database on two nodes, two writers on each: every row that was acknowledged is there once, and the file is whole.
func TestOneSqliteDatabaseOnTwoNodes(t *testing.T) {
	need(t, "python3", "flock")
	c := three(t)
	a, b := c.Nodes[0].Mount, c.Nodes[1].Mount
	shell(t, a, ": > lock")
	same(t, a, b)
	if _, err := try(c.Dir, fmt.Sprintf(`exec 9<%s/lock; flock -n 9; ! flock -n %s/lock true`, a, b)); err != nil {
		t.Skip("locks hold on one machine only")
	}
	rows := 15
	if soak() {
		rows = 500
	}
	script := `
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("pragma journal_mode=delete")
db.execute("create table if not exists t (writer text, n integer, unique (writer, n))")
for n in range(int(sys.argv[3])):
    try:
        db.execute("begin immediate")
        db.execute("insert into t values (?, ?)", (sys.argv[2], n))
        db.execute("commit")
    except sqlite3.Error as e:
        sys.exit("row %d: %s %s" % (n, e, getattr(e, "sqlite_errorname", "")))
print("ok")
`
	program := filepath.Join(c.Dir, "writer.py")
	os.WriteFile(program, []byte(script), 0o644)
	done := make(chan error, 4)
	for i := range 4 {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute+time.Duration(rows)*2*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, "python3", program, []string{a, b}[i%2]+"/db", fmt.Sprint("w", i), fmt.Sprint(rows)).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("writer %d: %v\n%s", i, err, out)
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, n := range c.Nodes {
		out := shell(t, n.Mount, `python3 -c "
import sqlite3
db = sqlite3.connect('db', timeout=20)
print(db.execute('pragma integrity_check').fetchone()[0], db.execute('select count(*), count(distinct writer) from t').fetchone())"`)
		if want := fmt.Sprintf("ok (%d, 4)\n", 4*rows); out != want {
			t.Errorf("%s: %q, wanted %q", n.Name, out, want)
		}
	}
}
