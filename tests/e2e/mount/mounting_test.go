package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func one(t *testing.T, flags ...string) *cluster.Cluster {
	t.Helper()
	cluster.Need(t, "quorumfsd", "quorumfs")
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	return cluster.Start(t, cluster.Options{Flags: func(*cluster.Node) []string { return append([]string{"--no-sidecar"}, flags...) }})
}

// inNamespace runs a script with a name space of mounts of its own, in which quorumfs is where `make install` puts it:
// mount(8) asks for programs in the system's directories only.
func inNamespace(t *testing.T, script string) string {
	t.Helper()
	need(t, "unshare", "mount.fuse3", "findmnt", "inotifywait")
	return shell(t, "/", fmt.Sprintf(`unshare -m bash -e -u -o pipefail <<'SCRIPT'
		mount -t tmpfs tmpfs /usr/local/sbin
		ln -s %s /usr/local/sbin/quorumfs
		ended() { for i in $(seq 100); do ! pgrep -f "^quorumfs .*$1" >/dev/null && return; sleep 0.05; done; pgrep -af "$1"; return 1; }
		%s
SCRIPT`, cluster.Program("quorumfs"), script))
}

// mount(8) mounts with the socket or the data directory as the source, returns when the mount can be used, and knows what is
// mounted already; umount(8) ends all its processes.
func TestMountAndFstab(t *testing.T) {
	c := one(t)
	n := c.Nodes[0]
	dir := cluster.TempDir(t)
	out := inNamespace(t, fmt.Sprintf(`cd %s; mkdir m
		mount -t fuse.quorumfs %s m -o noexec,prefix=/conf
		echo hello > m/f
		echo "$(findmnt -no SOURCE,FSTYPE m)" "$(findmnt -no OPTIONS m | tr , '\n' | grep -cE '^(noexec|nosuid|nodev)$')"
		umount m; ended $PWD/m
		printf '%%s %%s fuse.quorumfs prefix=/conf,allow_other,_netdev,nofail,x-systemd.automount 0 0\n' %s $PWD/m > fstab
		mount -a -T fstab; mount -a -T fstab
		echo "$(findmnt -n m | wc -l) $(cat m/f)"
		umount m; ended $PWD/m
		mount -t fuse %s#%s m -o ro,prefix=/conf; cat m/f; ! touch m/g 2>/dev/null; umount m; ended $PWD/m
		! mount -t fuse.quorumfs %s nothing 2>error; grep -c 'No such file' error
		! mount -t fuse.quorumfs %s m -o nonsense 2>error; grep -o 'unknown option -o nonsense' error`,
		dir, n.Socket(), n.DataDir, cluster.Program("quorumfs"), n.DataDir, n.Socket(), n.Socket()))
	want := n.Socket() + " fuse.quorumfs 3\n1 hello\nhello\n1\nunknown option -o nonsense\n"
	if out != want {
		t.Errorf("mount says\n%s\nwanted\n%s", out, want)
	}
}

// A mount in name spaces of its own for processes and mounts, as a container has them: events and all, and nothing of it outside.
func TestAMountInAContainer(t *testing.T) {
	c := one(t)
	n := c.Nodes[0]
	dir := cluster.TempDir(t)
	out := inNamespace(t, fmt.Sprintf(`cd %s; mkdir m
		unshare -p -f --mount-proc bash -e -u <<'INNER'
		mount -t fuse.quorumfs %s m
		echo one > m/f; cat m/f
		(timeout 20 inotifywait -q -t 15 -e create,close_write --format '%%e %%f' -m m > events & )
		for i in $(seq 100); do grep -qs inotify /proc/*/fdinfo/* && break; sleep 0.05; done
		%s --socket %s put /from/outside x >/dev/null
		for i in $(seq 200); do grep -q 'CREATE,ISDIR from' events && break; sleep 0.05; done
		cat events; umount m
INNER`, dir, n.Socket(), cluster.Program("quorumctl"), n.Socket()))
	if want := "one\nCREATE,ISDIR from"; strings.TrimSpace(out) != want {
		t.Errorf("in the container\n%q\nwanted\n%q", out, want)
	}
	if points, _ := cluster.Mounts(dir); len(points) != 0 {
		t.Errorf("outside there is %v", points)
	}
}

// A cluster and its mounts that one user runs for himself, without root: through fusermount3.
func TestAnOrdinaryUserRunsItAll(t *testing.T) {
	cluster.Need(t, "quorumfsd", "quorumfs")
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	need(t, "setpriv", "fusermount3", "inotifywait")
	if st, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	} else if st.Mode().Perm()&0o006 != 0o006 { // as udev leaves it on a machine with one
		if err := os.Chmod("/dev/fuse", 0o666); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod("/dev/fuse", st.Mode().Perm()) })
	}
	const user = "65534"
	as := []string{"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "--"}
	programs := cluster.TempDir(t) // the user may not be able to reach where they were built
	os.Chmod(programs, 0o755)
	for _, name := range []string{"quorumfsd", "quorumfs"} {
		content, err := os.ReadFile(cluster.Program(name))
		if err == nil {
			err = os.WriteFile(filepath.Join(programs, name), content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := cluster.New(t, cluster.Options{Nodes: 3, Mount: true,
		Flags: func(*cluster.Node) []string { return []string{"--no-sidecar"} },
		Command: func(_ *cluster.Node, words []string) []string {
			return append(append(append([]string{}, as...), filepath.Join(programs, filepath.Base(words[0]))), words[1:]...)
		}})
	os.Chown(c.Dir, 65534, 65534)
	for _, n := range c.Nodes {
		os.Chown(n.Mount, 65534, 65534)
	}
	c.StartAll()
	run := func(script string) string {
		t.Helper()
		return shell(t, c.Dir, strings.Join(as, " ")+" bash -e -u <<'SCRIPT'\n"+script+"\nSCRIPT")
	}
	out := run(fmt.Sprintf(`a=%s b=%s
		mkdir $a/d; for i in $(seq 100); do [ -d $b/d ] && break; sleep 0.05; done
		(timeout 20 inotifywait -q -m -t 15 -e create,close_write,moved_to,attrib,delete --format '%%e %%f' $b/d > events & echo $! > pid)
		for i in $(seq 100); do grep -qs inotify /proc/$(pgrep -P $(cat pid))/fdinfo/* && break; sleep 0.05; done
		echo hello > $a/d/f; chmod 400 $a/d/f; mv $a/d/f $a/d/g; rm -f $a/d/g; mkdir -m 0 $a/d/closed; rmdir $a/d/closed
		for i in $(seq 200); do grep -q DELETE,ISDIR events && break; sleep 0.05; done
		kill $(cat pid); cat events; stat -c '%%u %%g' $b/d`, c.Nodes[0].Mount, c.Nodes[1].Mount))
	want := "CREATE f\nCLOSE_WRITE,CLOSE f\nATTRIB f\nMOVED_TO g\nDELETE g\nCREATE,ISDIR closed\nDELETE,ISDIR closed\n" + user + " " + user + "\n"
	if out != want {
		t.Errorf("the user saw\n%s\nwanted\n%s", out, want)
	}
	if _, err := os.Stat(c.Nodes[0].Mount + "/d"); err == nil {
		t.Error("somebody else, even root, could look into the user's mount")
	}
	syscall.Kill(frontEnd(c.Nodes[1]), syscall.SIGKILL)
	run(fmt.Sprintf(`for i in $(seq 400); do [ -d %s/d ] && exit 0; sleep 0.05; done; exit 1`, c.Nodes[1].Mount))
}

// Keys that clientv3 made have no owner or mode: the options say what is shown, and a chmod makes it their own.
func TestOwnersOfKeysThatHaveNone(t *testing.T) {
	cluster.Need(t, "quorumfsd", "quorumfs")
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := cluster.TempDir(t)
	for _, kind := range []string{"plain", "own"} {
		os.Mkdir(filepath.Join(dir, kind), 0o755)
	}
	c := one(t, "--mount", dir+"/plain", "--mount", dir+"/own,uid=12,gid=34,umask=027")
	if _, err := c.Nodes[0].Put("/d/f", "x"); err != nil {
		t.Fatal(err)
	}
	show := func(kind string) string {
		return strings.TrimSpace(shell(t, filepath.Join(dir, kind), `for i in $(seq 100); do [ -e d/f ] && break; sleep 0.05; done
			echo $(stat -c '%u:%g %a' . d d/f)`))
	}
	for kind, want := range map[string]string{"plain": "0:0 755 0:0 755 0:0 644", "own": "12:34 750 12:34 750 12:34 640"} {
		if got := show(kind); got != want {
			t.Errorf("%s: %s, wanted %s", kind, got, want)
		}
	}
	shell(t, dir+"/plain", "chmod 600 d/f; chown 5:6 d/f")
	cluster.Until(t, "both show what was set", func() (bool, string) {
		a, b := show("plain"), show("own")
		return strings.HasSuffix(a, "5:6 600") && strings.HasSuffix(b, "5:6 600"), a + ", " + b
	})
}

// Handles that were open when the front end died say so, and cannot reach the new one; names work again.
func TestHandlesAcrossARestart(t *testing.T) {
	c := three(t)
	n := c.Nodes[0]
	shell(t, n.Mount, "mkdir d; echo one > d/f")
	reader, err := os.Open(n.Mount + "/d/f")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	writer, err := os.OpenFile(n.Mount+"/d/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := writer.WriteAt([]byte("lost"), 0); err != nil {
		t.Fatal(err)
	}
	pid := frontEnd(n)
	syscall.Kill(pid, syscall.SIGKILL)
	cluster.Until(t, "the mount is back", func() (bool, string) {
		content, err := os.ReadFile(n.Mount + "/d/f")
		return err == nil && string(content) == "one\n" && frontEnd(n) != pid, fmt.Sprint(string(content), err)
	})
	gone := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("%s of an old handle: %v", what, err)
		}
	}
	_, err = reader.ReadAt(make([]byte, 4), 0)
	gone("read", err)
	_, err = writer.WriteAt([]byte("x"), 0)
	gone("write", err)
	gone("fsync", writer.Sync())
	shell(t, n.Mount, "echo two > d/f; cat d/f")
}

// Wrong use ends at once, with a line that says what is wrong and the exit status of the man page.
func TestWrongUseIsExplained(t *testing.T) {
	cluster.Need(t, "quorumfs")
	dir := cluster.TempDir(t)
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o644)
	for _, one := range []struct {
		args   []string
		status int
		text   string
	}{
		{nil, 2, "a mount point is expected"},
		{[]string{dir}, 2, "-o node=SOCKET is missing"},
		{[]string{dir, "-o", "node=/s,timeout=never"}, 2, "timeout=never: a number of seconds"},
		{[]string{"/s", dir, "third"}, 2, "third is one too many"},
		{[]string{file, "-o", "node=/s"}, 3, "Not a directory"},
		{[]string{"/s", dir + "/none", "-f"}, 3, "No such file or directory"},
	} {
		out, err := exec.Command(cluster.Program("quorumfs"), one.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != one.status || !strings.Contains(string(out), one.text) {
			t.Errorf("%v: %v, %q; wanted status %d and %q", one.args, err, out, one.status, one.text)
		}
	}
}

// systemd understands the units, and starts the mount after the node without a cycle.
func TestUnitsOfSystemdAreRight(t *testing.T) {
	need(t, "systemd-analyze")
	dir := cluster.TempDir(t)
	out := shell(t, dir, fmt.Sprintf(`cp %s/packaging/systemd/* .
		sed -i s,/usr/local/bin/quorumfsd,%s, quorumfsd.service
		SYSTEMD_UNIT_PATH=$PWD: systemd-analyze verify --man=no ./*.service ./*.mount ./*.automount 2>&1`, cluster.Top(), cluster.Program("quorumfsd")))
	if out != "" {
		t.Error(out)
	}
	fstab := shell(t, cluster.Top(), `sed -n 's,^#   \(/var/lib/quorumfs/.*\),\1,p' packaging/systemd/srv-conf.mount`)
	for _, page := range []string{"docs/operations.md", "docs/man/quorumfs.1"} {
		text, err := os.ReadFile(filepath.Join(cluster.Top(), page))
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), "\\-", "-"), strings.TrimSpace(fstab)) {
			t.Errorf("%s has not the line of fstab as the unit has it: %s", page, fstab)
		}
	}
}
