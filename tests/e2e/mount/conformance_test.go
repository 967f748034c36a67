package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func init() { cases = append(cases, calls...) }

// Single system calls, by tests/e2e/fileop.c. $F is that program.
var calls = []eventCase{
	{"open creat", ``, `$F open f w,creat close`, nil},
	{"open creat, written", ``, `$F open f w,creat write one close`, nil},
	{"open creat excl", ``, `$F open f w,creat,excl close`, nil},
	{"open creat excl, written", ``, `$F open f w,creat,excl write one close`, nil},
	{"open creat trunc of an old file", `echo old > f`, `$F open f w,creat,trunc write new close`, nil},
	{"open creat for reading", ``, `$F open f r,creat close`, nil},
	{"open rdwr creat", ``, `$F open f rw,creat write one close`, nil},
	{"open append creat", ``, `$F open f w,creat,append write one close`, nil},
	{"open trunc, nothing written", `echo old > f`, `$F open f w,trunc close`, nil},
	{"open for writing, nothing written", `echo old > f`, `$F open f w close; echo x > g`, nil},
	{"open for reading", `echo old > f`, `$F open f r close; echo x > g`, nil},
	{"mknod of a regular file", ``, `$F mknod f`, nil},
	{"several writes", `echo old > f`, `$F open f w write a write b pwrite 10 c close`, nil},
	{"write, fsync, write", `echo old > f`, `$F open f w write a fsync write b close`, nil},
	{"append", `echo old > f`, `$F open f w,append write a close`, nil},
	{"ftruncate to less", `echo old > f`, `$F open f w ftruncate 1 close`, nil},
	{"ftruncate to more", `echo old > f`, `$F open f w ftruncate 100 close`, nil},
	{"truncate to less", `echo old > f`, `$F truncate f 1`, nil},
	{"truncate to more", `echo old > f`, `$F truncate f 5000`, nil},
	{"truncate to nothing", `echo old > f`, `$F truncate f 0`, nil},
	{"write to a mapping", `echo old > f`, `$F open f rw mmap 1 x close`, nil},
	{"copy_file_range", `echo old > f; : > g`, `$F open g w copy f close`, nil},
	{"rename over a file", `echo 1 > f; echo 2 > g`, `$F rename f g plain`, nil},
	{"rename over an open file", `echo 1 > f; echo 2 > g`, `$F open g r rename f g plain close`, nil},
	{"rename over an empty directory", `mkdir d e; echo 1 > d/f`, `$F rename d e plain`, []string{"e"}},
	{"rename to itself", `echo 1 > f`, `$F rename f f plain; echo x > g`, nil},
	{"rename noreplace", `echo 1 > f`, `$F rename f g noreplace`, nil},
	{"rename noreplace that fails", `echo 1 > f; echo 2 > g`, `$F fails rename f g noreplace; echo x > h`, nil},
	{"exchange of files", `echo 1 > f; echo 2 > g`, `$F rename f g exchange`, nil},
	{"exchange of directories", `mkdir d e; echo 1 > d/f`, `$F rename d e exchange`, []string{"d", "e"}},
	{"exchange of a file and a directory", `echo 1 > f; mkdir d; echo 2 > d/g`, `$F rename f d exchange`, []string{"d"}},
	{"exchange across directories", `mkdir a b; echo 1 > a/f; echo 2 > b/g`, `$F rename a/f b/g exchange`, []string{"a", "b"}},
	{"rename of a symlink", `ln -s x l`, `$F rename l k plain`, nil},
	{"rename of a directory across directories", `mkdir -p a/d/e b; echo 1 > a/d/e/f`, `$F rename a/d b/d plain`, []string{"a", "b", "a/d", "a/d/e"}},
	{"unlink", `echo 1 > f`, `$F unlink f`, nil},
	{"unlink of a file opened here", `echo 1 > f`, `$F open f r unlink f close`, nil},
	{"unlink of a file that is written here", `echo 1 > f`, `$F open f w unlink f close`, nil},
	{"unlink and make again", `echo 1 > f`, `$F unlink f; $F open f w,creat write 2 close`, nil},
	{"unlink of a directory fails", `mkdir d`, `$F fails unlink d; echo x > g`, nil},
	{"rmdir of a full directory fails", `mkdir d; echo 1 > d/f`, `$F fails rmdir d; echo x > g`, nil},
	{"mkdir", ``, `$F mkdir d`, nil},
	{"mkdir of what is there fails", `mkdir d`, `$F fails mkdir d; echo x > g`, nil},
	{"rmdir", `mkdir d`, `$F rmdir d`, nil},
	{"a file becomes a directory", `echo 1 > n`, `$F unlink n mkdir n`, nil},
	{"symlink", ``, `$F symlink target l`, nil},
	{"symlink of what is there fails", `ln -s x l`, `$F fails symlink y l; echo x > g`, nil},
	{"chmod", `echo 1 > f`, `$F chmod f 600`, nil},
	{"chmod to the same mode", `echo 1 > f; chmod 644 f`, `$F chmod f 644; echo x > g`, nil},
	{"chmod of a directory", `mkdir d`, `$F chmod d 700`, []string{"d"}},
	{"chmod of a directory to the same mode", `mkdir d; chmod 755 d`, `$F chmod d 755; echo x > g`, nil},
	{"chown", `echo 1 > f`, `$F chown f 1 2`, nil},
	{"chown of a symlink", `ln -s x l`, `$F chown l 1 2`, nil},
	{"utimes", `echo 1 > f`, `$F utimes f 1000`, nil},
	{"utimes of a directory", `mkdir d`, `$F utimes d 1000`, nil},
	{"utimes of a symlink", `ln -s x l`, `$F utimes l 1000`, nil},
	{"fchmod and futimens of an open file", `echo 1 > f`, `$F open f r fchmod 600 futimens close`, nil},
	{"fchmod of a file that is written", `echo 1 > f`, `$F open f w write x fchmod 600 close`, nil},
	{"setxattr", `echo 1 > f`, `$F setxattr f user.a b`, nil},
	{"setxattr to what it is", `echo 1 > f; $F setxattr f user.a b`, `$F setxattr f user.a b; echo x > g`, nil},
	{"setxattr of a directory", `mkdir d`, `$F setxattr d user.a b`, []string{"d"}},
	{"removexattr", `echo 1 > f; $F setxattr f user.a b`, `$F removexattr f user.a`, nil},
	{"mkfifo", ``, `$F mkfifo p`, nil},
	{"unlink of a FIFO", `mkfifo p`, `$F unlink p`, nil},
	{"bind", ``, `$F bind s`, nil},
}

// What other nodes tell besides, by a rule of differences that the events alone do not show.
var besides = map[string]string{
	"open creat for reading":  "CLOSE_WRITE f",
	"mknod of a regular file": "CLOSE_WRITE f",
	"write, fsync, write":     "MODIFY f\nCLOSE_WRITE f",
	"write to a mapping":      "MODIFY f\nCLOSE_WRITE f",
}

// And what they do not tell; the mount itself does, but for what it refuses.
var without = map[string]string{
	"chmod to the same mode":                "ATTRIB f",
	"chmod of a directory to the same mode": "ATTRIB d dir",
	"patch":                                 "ATTRIB RANDOM",
}

// A file made with O_EXCL is there before it is written, so it is told of as closed, and what is set on it then is a change.
var exclusive = map[string][2]string{
	"sed -i":                            {"CREATE RANDOM\nMODIFY", "CREATE RANDOM\nCLOSE_WRITE RANDOM\nATTRIB RANDOM\nMODIFY"},
	"vim":                               vimSwap,
	"vim with a swap file and a backup": vimSwap,
}

var vimSwap = [2]string{"CREATE .f.swp\nCREATE .f.swpx\nCLOSE_WRITE .f.swpx\nDELETE .f.swpx\nCLOSE_WRITE .f.swp\n",
	"CREATE .f.swp\nCLOSE_WRITE .f.swp\nCREATE .f.swpx\nCLOSE_WRITE .f.swpx\nDELETE .f.swpx\n"}

// Lines that the mount itself has not either: vim and patch copy the access list.
var refused = map[string]*regexp.Regexp{
	"vim":                               regexp.MustCompile(`(?m)^ATTRIB f\n`),
	"vim with a swap file and a backup": regexp.MustCompile(`(?m)^ATTRIB \S+\n`),
	"rsync of a changed file":           regexp.MustCompile(`(?m)\nATTRIB dst dir$|^ATTRIB dst dir\n`),
	"rsync --delete":                    regexp.MustCompile(`(?m)\nATTRIB dst dir$|^ATTRIB dst dir\n`),
}

// Programs. What they name at random is one name here; directories that they make are not watched, as with inotifywait.
var programs = []eventCase{
	{"rsync of a new tree", `mkdir -p src/a; echo 1 > src/a/f; echo 2 > src/g; touch -d 2001-01-01 src src/a`, `mkdir dst; rsync -a src/ dst/`, []string{"src"}},
	{"rsync of a changed file", `mkdir -p src dst; echo 1 > src/f; touch -d 2001-01-01 src/f; rsync -a src/ dst/; echo 22 > src/f`, `rsync -a src/ dst/`, []string{"dst"}},
	{"rsync --inplace", `mkdir -p src dst; echo 1 > src/f; touch -d 2001-01-01 src/f; rsync -a src/ dst/; echo 22 > src/f`, `rsync -a --inplace src/ dst/`, []string{"dst"}},
	{"rsync --delete", `mkdir -p src dst; echo 1 > src/f; rsync -a src/ dst/; rm src/f`, `rsync -a --delete src/ dst/`, []string{"dst"}},
	{"cp", `echo 1 > f`, `cp f g`, nil},
	{"cp over a file", `echo 1 > f; echo 2 > g`, `cp f g`, nil},
	{"cp -a", `mkdir -p a/b; echo 1 > a/b/f; ln -s f a/l`, `cp -a a c`, nil},
	{"sed -i", `echo one > f`, `sed -i s/one/two/ f`, nil},
	{"vim", `echo one > f`, `vim -u NONE -N -es -c 's/one/two/' -c wq f`, nil},
	{"vim with a swap file and a backup", `echo one > f`, `export TERM=xterm; script -qec "vim -u NONE -N -c 'set backup swapfile' -c 'normal Atwo' -c 'wq' f" /dev/null >/dev/null </dev/null`, nil},
	{"nano", `echo one > f`, `export TERM=xterm; (sleep 0.7; printf 'new \017'; sleep 0.4; printf '\r'; sleep 0.4; printf '\030'; sleep 0.5) | timeout 20 script -qec 'nano -I f' /dev/null >/dev/null`, nil},
	{"tar x", `mkdir t; echo 1 > t/f; ln -s f t/l; tar cf t.tar t; rm -r t`, `tar xf t.tar`, nil},
	{"tar x over what is there", `mkdir t; echo 1 > t/f; tar cf t.tar t`, `tar xf t.tar`, []string{"t"}},
	{"install", `echo 1 > f`, `install -m 755 f g; install -m 644 f g`, nil},
	{"mv -T of a directory over an empty one", `mkdir d e; echo 1 > d/f`, `mv -T d e`, nil},
	{"ln -sf", `ln -s a l`, `ln -sfn b l`, nil},
	{"ln -sf of nothing yet", ``, `ln -sfn b l`, nil},
	{"tee", `echo 1 > f`, `echo 2 | tee f >/dev/null; echo 3 | tee -a f >/dev/null`, nil},
	{"dd conv=notrunc", `echo 12345 > f`, `printf x | dd of=f bs=1 seek=2 conv=notrunc status=none`, nil},
	{"git commit", `export HOME=$PWD; git -c init.defaultBranch=main init -q .; git config user.email a@b; git config user.name n; git config gc.auto 0; echo 1 > f; git add f`,
		`export HOME=$PWD GIT_AUTHOR_DATE=2001-01-01T00:00:00Z GIT_COMMITTER_DATE=2001-01-01T00:00:00Z; git commit -qm one`, []string{".git", ".git/refs/heads"}},
	{"git clone", `export HOME=$PWD GIT_AUTHOR_DATE=2001-01-01T00:00:00Z GIT_COMMITTER_DATE=2001-01-01T00:00:00Z; git -c init.defaultBranch=main init -q r; cd r
		git config user.email a@b; git config user.name n; echo 1 > f; git add f; git commit -qm one`, `export HOME=$PWD; git clone -q r s`, nil},
	{"patch", `printf 'one\n' > f; printf -- '--- f\n+++ f\n@@ -1 +1 @@\n-one\n+two\n' > p`, `patch -s f p`, nil},
	{"a pid file and its removal", ``, `echo $$ > pid; rm pid`, nil},
	{"mktemp and mv", ``, `t=$(mktemp ./tmp.XXXXXX); echo 1 > $t; mv $t conf`, nil},
}

// Changes of one name that follow each other at once. $F does several in one process.
var rapid = []eventCase{
	{"made and removed", ``, `$F open f w,creat close unlink f`, nil},
	{"made, written and removed", ``, `$F open f w,creat write 1 close unlink f`, nil},
	{"a lock file", ``, `$F open f w,creat,excl close unlink f; $F open f w,creat,excl close unlink f`, nil},
	{"written again and again", ``, `for i in 1 2 3 4 5; do $F open f w,creat,trunc write $i close; done`, nil},
	{"written, appended, renamed", `echo 1 > f`, `$F open f w write 2 close open f w,append write 3 close rename f g plain open g w write 4 close`, nil},
	{"a chain of moves", `echo 1 > a`, `$F rename a b plain rename b c plain rename c d plain`, nil},
	{"a chain of moves from nothing", ``, `$F open a w,creat write 1 close rename a b plain rename b c plain open c w write 2 close`, nil},
	{"moved and moved back", `echo 1 > a`, `$F rename a b plain rename b a plain`, nil},
	{"made, moved and removed", ``, `$F open t w,creat write 1 close rename t f plain unlink f`, nil},
	{"mkdir and rmdir", ``, `$F mkdir d rmdir d; $F mkdir d rmdir d`, nil},
	{"mkdir, moved, rmdir", ``, `$F mkdir d rename d e plain rename e g plain rmdir g`, nil},
	{"a lock directory", ``, `mkdir l; echo 1 > l/pid; rm l/pid; rmdir l; mkdir l`, nil},
	{"exchanged twice", `echo 1 > a; echo 2 > b`, `$F rename a b exchange rename a b exchange`, nil},
	{"exchanged and removed", `echo 1 > a; mkdir d`, `$F rename a d exchange unlink d rmdir a`, nil},
	{"replaced twice", `echo 1 > f`, `$F open t w,creat write 2 close rename t f plain open u w,creat write 3 close rename u f plain`, nil},
	{"removed and made again", `echo 1 > f`, `for i in 2 3 4; do $F unlink f open f w,creat write $i close; done`, nil},
	{"moved away and made again", `echo 1 > f`, `for i in 2 3 4; do $F rename f f.old plain open f w,creat write $i close; done`, nil},
	{"another kind each time", `echo 1 > n`, `$F unlink n mkdir n rmdir n symlink x n unlink n mkfifo n unlink n open n w,creat write 1 close`, nil},
	{"links replaced", `ln -s a l`, `$F symlink b t rename t l plain symlink c t rename t l plain`, nil},
	{"modes and content in turns", `echo 1 > f`, `$F chmod f 600 open f w write 2 close chmod f 644 open f w write 3 close chmod f 600`, nil},
	{"attributes in turns", `echo 1 > f; mkdir d`, `$F chmod f 600 chmod d 700 chmod f 640 chmod d 750`, nil},
	{"a watched directory moved twice, with changes in it", `mkdir d; echo 1 > d/f`, `$F open d/g w,creat write 2 close rename d e plain unlink e/f open e/g w write 3 close rename e c plain unlink c/g rmdir c`, []string{"d"}},
	{"moved between watched directories and back", `mkdir a b; echo 1 > a/f`, `$F rename a/f b/f plain rename b/f a/g plain unlink a/g`, []string{"a", "b"}},
	{"xattrs set and removed", `echo 1 > f`, `$F setxattr f user.a b open f w write 2 close removexattr f user.a`, nil},
	{"many lock files", ``, `for i in 1 2 3 4 5 6 7 8; do $F open l$i w,creat,excl write $i close unlink l$i open l w,creat,excl close unlink l; done`, nil},
}

// Names that programs make up. One name for all keeps their order.
var random = regexp.MustCompile(`\.f\.[A-Za-z0-9]{6}|\.g\.[A-Za-z0-9]{6}|sed[A-Za-z0-9]{6}|tmp\.[A-Za-z0-9]{6}|tmp_obj_[A-Za-z0-9]{6}|(\./)?Cu[A-Za-z0-9]{6}|f\.o[A-Za-z0-9]{6}|4913`)

func sameNames(lines string) string { return random.ReplaceAllString(lines, "RANDOM") }

// withAttributes is a directory whose disk keeps user.* attributes, as not every tmpfs does: local, or one made for the case.
func withAttributes(t *testing.T, local string) string {
	t.Helper()
	for _, dir := range []string{local, "/var/tmp", filepath.Join(cluster.Top(), "build")} {
		made, err := os.MkdirTemp(dir, "attributes-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(made) })
		if _, err := try(made, "F="+cluster.Program("e2e/fileop")+"; $F mknod probe setxattr probe user.a b"); err == nil {
			return made
		}
	}
	t.Skip("no local disk here has extended attributes")
	return ""
}

// runCase runs one case on a local disk and in a mount and compares what watchers were told. around, if not nil,
// does it while something is so.
func runCase(t *testing.T, local, here string, there []string, settle func(), one eventCase, around func(run func())) {
	t.Helper()
	sub := strings.ReplaceAll(strings.ReplaceAll(t.Name(), "/", "-"), "'", "")
	fileop := "F=" + cluster.Program("e2e/fileop") + "\n"
	script := fileop + one.script
	if strings.Contains(script, "xattr") {
		local = withAttributes(t, local)
	}
	reference := filepath.Join(local, sub)
	for _, dir := range []string{here, local} {
		shell(t, dir, "mkdir "+sub)
		shell(t, filepath.Join(dir, sub), fileop+one.setup)
	}
	dirs := append([]string{"."}, one.dirs...)
	watchers := map[string]*Watcher{}
	for _, dir := range there {
		same(t, filepath.Join(here, sub), filepath.Join(dir, sub))
		settle()
		watchers[dir] = Watch(t, filepath.Join(dir, sub), dirs...)
	}
	own := Watch(t, filepath.Join(here, sub), dirs...)
	recorded := Watch(t, reference, dirs...)
	shell(t, reference, script)
	if around == nil {
		around = func(run func()) { run() }
	}
	around(func() { shell(t, filepath.Join(here, sub), script) })
	want := sameNames(text(recorded.Events()))
	if gone := refused[one.name]; gone != nil {
		want = gone.ReplaceAllString(want, "")
	}
	onItself := want
	if less := without[one.name]; less != "" {
		want = strings.Replace(want, less+"\n", "", 1)
	}
	if there, ok := exclusive[one.name]; ok {
		if !strings.Contains(want, there[0]) {
			t.Errorf("on a local disk\n%s\nwithout\n%s", want, there[0])
		}
		want = strings.Replace(want, there[0], there[1], 1)
	}
	if more := besides[one.name]; more != "" {
		want = strings.TrimSpace(want + "\n" + more)
	}
	if want == "" {
		t.Fatal("the local disk said nothing")
	}
	for _, dir := range there {
		same(t, filepath.Join(here, sub), filepath.Join(dir, sub))
	}
	settle()
	for name, w := range watchers {
		cluster.Until(t, name+" has the events", func() (bool, string) {
			got := sameNames(text(w.Events()))
			return got == want, fmt.Sprintf("got\n%s\nwanted\n%s", got, want)
		})
	}
	if got := sameNames(text(own.Events())); got != onItself {
		t.Errorf("on the mount itself\n%s\nwanted\n%s", got, onItself)
	}
	settle()
	for name, w := range watchers { // and nothing more comes
		if got := sameNames(text(w.Events())); got != want {
			t.Errorf("%s: then\n%s\nwanted\n%s", name, got, want)
		}
		w.Close()
	}
	own.Close()
	recorded.Close()
}

// watchedFrom says from which mounts a case is watched: both other nodes in the soak, else one after the other.
func watchedFrom(t *testing.T, c *cluster.Cluster, i int) (there []string, settle func()) {
	nodes := c.Nodes[1:]
	if !soak() {
		nodes = nodes[i%2 : i%2+1]
	}
	for _, n := range nodes {
		there = append(there, n.Mount)
	}
	return there, func() {
		for _, n := range nodes {
			quiet(t, n)
		}
	}
}

// What programs do on one node is told on the others as it is on a local disk.
func TestEventsOfProgramsAreThoseOfALocalDisk(t *testing.T) {
	c := three(t)
	local := cluster.TempDir(t)
	for i, one := range programs {
		t.Run(strings.ReplaceAll(one.name, " ", "_"), func(t *testing.T) {
			if program := strings.Fields(one.name)[0]; slices.Contains([]string{"rsync", "vim", "nano", "git", "patch", "tar"}, program) {
				need(t, program)
			}
			there, settle := watchedFrom(t, c, i)
			runCase(t, local, c.Nodes[0].Mount, there, settle, one, nil)
		})
	}
}

// Each change is told by itself, also if it is over by the time that a mount reads of it: the mount is stopped meanwhile.
func TestChangesInARowAreToldOneByOne(t *testing.T) {
	c := three(t)
	local := cluster.TempDir(t)
	for i, one := range rapid {
		there := c.Nodes[1+i%2]
		stopped := func(run func()) {
			pid := frontEnd(there)
			syscall.Kill(pid, syscall.SIGSTOP)
			defer syscall.Kill(pid, syscall.SIGCONT)
			run()
		}
		for name, around := range map[string]func(func()){"": nil, ", all at once": stopped} {
			t.Run(strings.ReplaceAll(one.name+name, " ", "_"), func(t *testing.T) {
				runCase(t, local, c.Nodes[0].Mount, []string{there.Mount}, func() { quiet(t, there) }, one, around)
			})
		}
	}
}

// The same on one node with one mount more, which shares its store but nothing else.
func TestEventsBetweenMountsOfOneNode(t *testing.T) {
	dir := cluster.TempDir(t)
	for _, name := range []string{"a", "b"} {
		os.Mkdir(filepath.Join(dir, name), 0o755)
	}
	c := one(t, "--mount", dir+"/a", "--mount", dir+"/b")
	local := cluster.TempDir(t)
	for i, one := range cases {
		if i%6 != 0 && !soak() {
			continue
		}
		t.Run(strings.ReplaceAll(one.name, " ", "_"), func(t *testing.T) {
			runCase(t, local, dir+"/a", []string{dir + "/b"}, func() { quietAt(t, c.Nodes[0], dir+"/b") }, one, nil)
		})
	}
}

// What docs/mount.md says of differences is what normalise() allows, word for word.
func TestTheDifferencesAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(cluster.Top(), "docs/mount.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "| a change | on a local disk | on other nodes |\n| --- | --- | --- |\n")
	table, _, _ := strings.Cut(rest, "\n\n")
	var want []string
	for _, d := range differences {
		want = append(want, fmt.Sprintf("| %s | %s | %s |", d.change, d.local, d.other))
	}
	if table != strings.Join(want, "\n") {
		t.Errorf("docs/mount.md has\n%s\nnormalise() allows\n%s", table, strings.Join(want, "\n"))
	}
}
