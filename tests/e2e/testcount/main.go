// Command testcount reads the output of "go test -json" and says what ./check needs: a line per test as it
// ends, the whole output of each that failed, and the sums. Only leaves are counted: a test with subtests is
// their sum, unless it fails by itself. A package that fails without a failed test (it does not build, it
// panicked, its time ran out) is one failure.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type node struct {
	output   strings.Builder
	action   string
	elapsed  float64
	children int
	fails    int // failed children
}

func main() {
	tests := map[string]*node{}
	var order []string
	packageFails := map[string]int{}
	get := func(name string) *node {
		n := tests[name]
		if n == nil {
			n = &node{}
			tests[name] = n
			order = append(order, name)
		}
		return n
	}
	passed, failed, skipped := 0, 0, 0
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil || e.Action == "" {
			fmt.Println(in.Text()) // a compiler's complaint
			continue
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "run":
			get(name)
			if slash := strings.LastIndexByte(e.Test, '/'); slash > 0 {
				get(e.Package+" "+e.Test[:slash]).children++
			}
		case "output", "build-output":
			get(name).output.WriteString(e.Output)
		case "pass", "fail", "skip":
			n := get(name)
			n.action, n.elapsed = e.Action, e.Elapsed
			if e.Test == "" {
				if e.Action == "fail" && packageFails[e.Package] == 0 {
					failed++
					fmt.Printf("FAIL %s\n%s", e.Package, n.output.String())
					for _, other := range order { // whoever had not ended when it died
						if o := tests[other]; o.action == "" && strings.HasPrefix(other, e.Package+" ") {
							fmt.Print(o.output.String())
						}
					}
				}
				continue
			}
			if e.Action == "fail" {
				packageFails[e.Package]++
				if slash := strings.LastIndexByte(e.Test, '/'); slash > 0 {
					get(e.Package+" "+e.Test[:slash]).fails++
				}
			}
			if n.children > 0 && (e.Action != "fail" || n.fails > 0) {
				continue
			}
			fmt.Printf("%-4s %s (%.1f s)\n", e.Action, name, e.Elapsed)
			switch e.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				fmt.Print(n.output.String())
			case "skip":
				skipped++
				fmt.Print(n.output.String())
			}
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
}
