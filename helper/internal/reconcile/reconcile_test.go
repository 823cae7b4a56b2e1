package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"mobula/helper/internal/spec"
)

// script is a subject whose operations are done once they have succeeded.
type script struct {
	name  string
	lines []Operation
	done  map[string]bool
	// fails says how often each operation fails.
	fails map[string]int
	// blind says how often looking fails.
	blind int
	log   *[]string
}

func (s *script) Name() string { return s.name }

func (s *script) Diff(context.Context, *spec.Host, *spec.Host) ([]Operation, error) {
	if s.blind > 0 {
		s.blind--
		return nil, errors.New("cannot see")
	}
	var ops []Operation
	for _, op := range s.lines {
		if s.done[op.Object] {
			continue
		}
		op.Do = func(context.Context) error {
			*s.log = append(*s.log, op.Object)
			if s.fails[op.Object] > 0 {
				s.fails[op.Object]--
				return errors.New("failed")
			}
			s.done[op.Object] = true
			return nil
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func newScript(log *[]string, name string, ops ...Operation) *script {
	return &script{name: name, lines: ops, done: map[string]bool{}, fails: map[string]int{}, log: log}
}

func hands(subjects ...Subject) *Reconciler {
	return &Reconciler{Subjects: subjects, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func TestOrder(t *testing.T) {
	var log []string
	a := newScript(&log, "a", Operation{Step: StepRoutes, Verb: Add, Object: "route"}, Operation{Step: StepLinks, Verb: Add, Object: "link"},
		Operation{Step: StepLinks, Verb: Remove, Object: "old link"}, Operation{Step: StepNamespaces, Verb: Remove, Object: "old namespace"})
	b := newScript(&log, "b", Operation{Step: StepLinks, Verb: Change, Object: "other link"}, Operation{Step: StepRoutes, Verb: Remove, Object: "old route"},
		Operation{Step: StepUplink, Verb: Change, Object: "NIC"})
	r := hands(a, b)
	ops, err := r.Plan(context.Background(), &spec.Host{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Execute(context.Background(), ops); err != nil {
		t.Fatal(err)
	}
	const want = "link, other link, route, NIC, old route, old link, old namespace"
	if got := strings.Join(log, ", "); got != want {
		t.Errorf("did %s, wanted %s", got, want)
	}
}

func TestExecuteStops(t *testing.T) {
	var log []string
	s := newScript(&log, "s", Operation{Verb: Add, Object: "one"}, Operation{Verb: Add, Object: "two", Detail: "x"}, Operation{Verb: Add, Object: "three"})
	s.fails["two"] = 1
	r := hands(s)
	ops, _ := r.Plan(context.Background(), nil, nil)
	if err := r.Execute(context.Background(), ops); err == nil || err.Error() != "+ two: x: failed" || len(log) != 2 {
		t.Errorf("error %v after %v", err, log)
	}
}

func TestPlanNeedsEverySubject(t *testing.T) {
	var log []string
	s := newScript(&log, "firewall", Operation{Verb: Add, Object: "one"})
	s.blind = 1
	if ops, err := hands(s).Plan(context.Background(), nil, nil); ops != nil || err == nil || err.Error() != "looking at firewall: cannot see" {
		t.Errorf("%v, %v", ops, err)
	}
}

func TestInsist(t *testing.T) {
	cases := []struct {
		name  string
		setup func(good, bad *script)
		did   string
		err   string // "": none
	}{
		{"all well", func(*script, *script) {}, "add, NIC, old", ""},
		{"one fails once: nothing is removed before it stands", func(_, bad *script) { bad.fails["NIC"] = 1 }, "add, NIC, NIC, old", ""},
		{"one fails twice: the rest is done", func(_, bad *script) { bad.fails["NIC"] = 2 }, "add, NIC, NIC, old, NIC", ""},
		{"one always fails", func(_, bad *script) { bad.fails["NIC"] = 99 }, "add, NIC, NIC, old, NIC", "still to do: ~ NIC\n~ NIC: failed"},
		{"one cannot be looked at at first", func(_, bad *script) { bad.blind = 1 }, "add, old, NIC", ""},
		{"one can never be looked at", func(_, bad *script) { bad.blind = 99 }, "add, old", "looking at bad: cannot see"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var log []string
			good := newScript(&log, "good", Operation{Verb: Add, Object: "add"}, Operation{Verb: Remove, Object: "old"})
			bad := newScript(&log, "bad", Operation{Step: StepUplink, Verb: Change, Object: "NIC"})
			c.setup(good, bad)
			err := hands(good, bad).Insist(context.Background(), &spec.Host{}, nil)
			if text := fmt.Sprint(err); (err != nil || c.err != "") && text != c.err {
				t.Errorf("error %q, wanted %q", text, c.err)
			}
			if got := strings.Join(log, ", "); got != c.did {
				t.Errorf("did %s, wanted %s", got, c.did)
			}
		})
	}
}

// remembers notes what it was told to be there before.
type remembers struct {
	*script
	previous []*spec.Host
}

func (r *remembers) Diff(ctx context.Context, want, previous *spec.Host) ([]Operation, error) {
	r.previous = append(r.previous, previous)
	return r.script.Diff(ctx, want, previous)
}

// TestInsistForgets holds that once everything was done what moves is taken for
// moved on purpose.
func TestInsistForgets(t *testing.T) {
	var log []string
	s := &remembers{script: newScript(&log, "s", Operation{Verb: Add, Object: "one"})}
	s.fails["one"] = 1
	want, before := &spec.Host{}, &spec.Host{Keep: []string{"x"}}
	if err := hands(s).Insist(context.Background(), want, before); err != nil {
		t.Fatal(err)
	}
	if len(s.previous) != 3 || s.previous[0] != before || s.previous[1] != before || s.previous[2] != want {
		t.Errorf("was told %v", s.previous)
	}
}

func TestInterrupted(t *testing.T) {
	if n := Interrupted([]Operation{{Interrupts: 2}, {}, {Interrupts: 3}}); n != 5 {
		t.Errorf("found %d", n)
	}
}
