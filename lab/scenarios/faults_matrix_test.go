//go:build lab

package scenarios

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// cells returns everything that can be interrupted, in every way. In each round
// every step comes once, and the faults take turns.
func cells(operations []*operation) []cell {
	var all []cell
	for _, o := range operations {
		var steps []cell
		add := func(phase string, names ...string) {
			for i, name := range names {
				steps = append(steps, cell{operation: o.name, takes: o.took, position: len(steps) + 1, phase: phase, number: i + 1, step: name,
					unarmed: phase == "apply" && i <= slices.Index(o.steps.Apply, "start the rollback timer")})
			}
		}
		add("apply", o.steps.Apply...)
		add("wait", "wait for confirmation")
		add("confirm", o.steps.Confirm...)
		for _, s := range steps {
			nth := len(all) / len(faultKinds)
			for i, fault := range faultKinds {
				s.fault, s.round = fault, 1+(i+(len(faultKinds)-1)*nth)%len(faultKinds)
				all = append(all, s)
			}
		}
	}
	return all
}

// patterns are those of MOBULA_FAULTS, see TestFaults. An empty one names all cells.
func patterns() []string {
	if all := strings.Fields(os.Getenv("MOBULA_FAULTS")); len(all) > 0 {
		return all
	}
	return []string{""}
}

// chosen tells whether the patterns name any of an operation's steps.
func chosen(operation string) bool {
	for _, pattern := range patterns() {
		if name, _, _ := strings.Cut(pattern, "/"); name == "" || name == operation {
			return true
		}
	}
	return false
}

// selected returns the cells that the patterns name.
func selected(t *testing.T, all []cell) []cell {
	var some []cell
	for _, c := range all {
		for _, pattern := range patterns() {
			if c.matches(t, pattern) {
				some = append(some, c)
				break
			}
		}
	}
	if len(some) == 0 {
		t.Fatalf("found MOBULA_FAULTS=%q, which names nothing, wanted OPERATION/FROM-TO/FAULT,FAULT/FROM-TO: steps, faults and rounds", os.Getenv("MOBULA_FAULTS"))
	}
	return some
}

func (c cell) matches(t *testing.T, pattern string) bool {
	t.Helper()
	parts := append(strings.Split(pattern, "/"), "", "", "")
	first, last := span(t, parts[1])
	from, to := span(t, parts[3])
	return (parts[0] == "" || parts[0] == c.operation) && c.position >= first && c.position <= last &&
		(parts[2] == "" || strings.Contains(","+parts[2]+",", ","+c.fault+",")) && c.round >= from && c.round <= to
}

// span reads FROM-TO, or one number; nothing is everything.
func span(t *testing.T, text string) (from, to int) {
	t.Helper()
	if text == "" {
		return 1, 1 << 30
	}
	switch n, err := fmt.Sscanf(text, "%d-%d", &from, &to); n {
	case 0:
		t.Fatalf("found %q: %v, wanted a number or FROM-TO", text, err)
	case 1:
		to = from
	}
	return from, to
}

// sample returns n cells, spread evenly over the steps. The faults take turns.
func sample(all []cell, n int) (some []cell) {
	steps := len(all) / len(faultKinds)
	for i := 0; i < n; i++ {
		step := (2*i + 1) * steps / (2 * n)
		some = append(some, all[step*len(faultKinds)+i%len(faultKinds)])
	}
	return some
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
	queue   []cell // as they are tried, by rounds: a run that ends early has tried every step
	results map[cell]result
}

func newMatrix(cells []cell) *matrix {
	queue := append([]cell{}, cells...)
	sort.SliceStable(queue, func(i, j int) bool { return queue[i].round < queue[j].round })
	return &matrix{cells: cells, queue: queue, results: map[cell]result{}}
}

// longestCell is more than a cell takes.
const longestCell = 5 * time.Minute

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
