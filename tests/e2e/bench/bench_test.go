// Package bench sees that the benchmark runs: its figures say nothing about a machine that runs tests.
package bench

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorumfs.test/e2e/cluster"
)

func TestTheBenchmarkRuns(t *testing.T) {
	program, err := filepath.Abs("../../bench/run")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--quick", "--no-etcd", "--dir", cluster.TempDir(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	rows := 0
	for _, line := range strings.Split(string(out), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 12 || strings.TrimSpace(cells[3]) != "quorumfs" {
			continue
		}
		rows++
		if strings.TrimSpace(cells[11]) != "0" || strings.TrimSpace(cells[4]) == "0" {
			t.Errorf("no clean run: %s", line)
		}
	}
	if rows != 12 {
		t.Errorf("%d cases, not 12:\n%s", rows, out)
	}
}
