//go:build lab

package scenarios

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// cells returns everything that can be interrupted, in every way.
func cells(operations []*operation) []cell {
	var all []cell
	for _, o := range operations {
		var steps []cell
		add := func(phase string, names ...string) {
			for i, name := range names {
				steps = append(steps, cell{operation: o.name, position: len(steps) + 1, phase: phase, number: i + 1, step: name})
			}
		}
		add("apply", o.steps.Apply...)
		add("wait", "wait for confirmation")
		add("confirm", o.steps.Confirm...)
		for _, s := range steps {
			for _, s.fault = range faultKinds {
				all = append(all, s)
			}
		}
	}
	return all
}

// selected returns the cells that MOBULA_FAULTS names, see TestFaults.
func selected(t *testing.T, all []cell) []cell {
	filter := os.Getenv("MOBULA_FAULTS")
	parts := append(strings.Split(filter, "/"), "", "")
	from, to := 1, 1<<30
	if parts[1] != "" {
		if n, err := fmt.Sscanf(parts[1], "%d-%d", &from, &to); n == 0 {
			t.Fatalf("MOBULA_FAULTS: found %q: %v, wanted OPERATION/FROM-TO/FAULT,FAULT", filter, err)
		}
	}
	var some []cell
	for _, c := range all {
		if (parts[0] == "" || parts[0] == c.operation) && c.position >= from && c.position <= to &&
			(parts[2] == "" || strings.Contains(","+parts[2]+",", ","+c.fault+",")) {
			some = append(some, c)
		}
	}
	if len(some) == 0 {
		t.Fatalf("MOBULA_FAULTS: found %q, which names no step and fault, wanted OPERATION/FROM-TO/FAULT,FAULT", filter)
	}
	return some
}

// sample returns n cells, or as many as MOBULA_FAULTS_SAMPLE says, 0: all. They
// are spread evenly over the steps, and the faults take turns.
func sample(all []cell, n int) []cell {
	if wanted, err := strconv.Atoi(os.Getenv("MOBULA_FAULTS_SAMPLE")); err == nil {
		n = wanted
	}
	if n <= 0 || n >= len(all) {
		return all
	}
	steps := bySteps(all)
	var some []cell
	for i := 0; i < n; i++ {
		step := steps[(2*i+1)*len(steps)/(2*n)]
		some = append(some, step[i%len(step)])
	}
	return some
}

// bySteps returns the cells of each step together.
func bySteps(all []cell) (steps [][]cell) {
	for i, c := range all {
		if i == 0 || c.position != all[i-1].position || c.operation != all[i-1].operation {
			steps = append(steps, nil)
		}
		last := len(steps) - 1
		steps[last] = append(steps[last], c)
	}
	return steps
}

// rounds returns all cells so that every step comes once before any comes twice:
// a run that ends early has tried them all.
func rounds(all []cell) (ordered []cell) {
	steps := bySteps(all)
	for round := 0; len(ordered) < len(all); round++ {
		for i, step := range steps {
			if round < len(step) {
				ordered = append(ordered, step[(i+round)%len(step)])
			}
		}
	}
	return ordered
}

// choosePlaybook has each fault followed by a run of the real playbook once,
// where the document is the playbook's own.
func choosePlaybook(some []cell) {
	chosen := map[string]bool{}
	for i, c := range some {
		if c.operation == "first-apply" && !chosen[c.fault] {
			chosen[c.fault], some[i].playbook = true, true
		}
	}
}

// matrix hands out cells and keeps what came out of them.
type matrix struct {
	sync.Mutex
	cells   []cell // as the table lists them
	queue   []cell // as they are tried
	results map[cell]result
}

func newMatrix(cells []cell) *matrix {
	return &matrix{cells: cells, queue: rounds(cells), results: map[cell]result{}}
}

// longestCell is more than a cell takes.
const longestCell = 4 * time.Minute

// work tries cells on one host until there are no more, or until the time that
// the test has (-timeout) is too short for another one.
func (m *matrix) work(t *testing.T, b *bed) {
	for {
		if end, limited := t.Deadline(); limited && time.Until(end) < longestCell {
			return
		}
		m.Lock()
		if len(m.queue) == 0 {
			m.Unlock()
			return
		}
		c := m.queue[0]
		m.queue = m.queue[1:]
		m.Unlock()
		t.Run(c.String(), func(t *testing.T) {
			r := result{end: "FAILED"}
			defer func() {
				if t.Failed() {
					r.end = "FAILED"
				}
				m.Lock()
				defer m.Unlock()
				m.results[c] = r
			}()
			r = b.try(t, b.operation(c.operation), c)
			t.Logf("%s before %q: %s", c.fault, c.step, r)
		})
	}
}

// String is the table, step × fault × result, and the totals.
func (m *matrix) String() string {
	m.Lock()
	defer m.Unlock()
	var b strings.Builder
	survived, longest := 0, map[string]time.Duration{}
	for i, c := range m.cells {
		if i == 0 || c.position != m.cells[i-1].position || c.operation != m.cells[i-1].operation {
			fmt.Fprintf(&b, "\n%s %d, before %q\n", c.operation, c.position, c.step)
		}
		r, tried := m.results[c]
		if !tried {
			r.end = "not tried"
		}
		fmt.Fprintf(&b, "    %-6s %s\n", c.fault, r)
		if tried && r.end != "FAILED" {
			survived++
		}
		if r.unreachable > longest[c.fault] {
			longest[c.fault] = r.unreachable
		}
	}
	fmt.Fprintf(&b, "\n%d steps × faults tried, %d survived; longest unreachable:", len(m.results), survived)
	for _, fault := range faultKinds {
		fmt.Fprintf(&b, " %s %.1f s", fault, longest[fault].Seconds())
	}
	return b.String()
}
