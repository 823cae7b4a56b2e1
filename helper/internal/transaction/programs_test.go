package transaction

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// The versions of the program in this world. They read the same documents and make
// different plans of them. The legacy one is of before programs had IDs.
const (
	programNow    = "0123456789abcdef"
	programOther  = "fedcba9876543210"
	programLegacy = "00000000000000aa"
)

// planOf is what a version makes of a plan.
func planOf(program string, h *spec.Host) *spec.Host {
	if h == nil || program == programNow || len(h.Files) == 0 {
		return h
	}
	other := *h
	other.Settings = append([]spec.Setting{}, h.Settings...)
	for i := range other.Settings {
		if other.Settings[i].NS != "" { // those of the NIC are the host's
			other.Settings[i].Value += " of " + program
		}
	}
	if program != programLegacy {
		return &other
	}
	other.Routes, other.Former, other.Neighbors = h.OfVersionBefore().Routes, nil, nil
	other.Files, other.Services = nil, append([]spec.Service{}, h.Services...)
	for _, f := range h.Files {
		if f.Path == spec.Helper {
			continue // it knows nothing of the link
		}
		f.Content = programPath.ReplaceAllString(f.Content, spec.Helper)
		other.Files = append(other.Files, f)
	}
	for i := range other.Services {
		other.Services[i].Program = ""
	}
	return &other
}

var (
	programPath = regexp.MustCompile(spec.ProgramDir + `/[0-9a-f]+/mobula`)
	startsWith  = regexp.MustCompile(`(?m)^ExecStart=(\S+) `)
)

// versioned has a subject reached by the plan of a version.
type versioned struct {
	reconcile.Subject
	program string
}

func (v versioned) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	ops, err := v.Subject.Diff(ctx, planOf(v.program, want), planOf(v.program, previous))
	if v.program != programLegacy {
		return ops, err
	}
	var known []reconcile.Operation
	for _, op := range ops {
		if !strings.HasPrefix(op.Object, "neighbors ") {
			known = append(known, op)
		}
	}
	return known, err
}

// programs is one version's sight of all.
type programs struct {
	w    *world
	self string
}

func (p programs) Self() string { return p.self }

func (p programs) Settle(context.Context) (inForce string, err error) {
	if p.self == programLegacy {
		return "", nil
	}
	err = p.w.step("settle", func() error {
		p.w.installed[p.self] = true
		if inForce = p.w.named(spec.UnitBoot); inForce != "" {
			p.w.installed[inForce] = true
		}
		return nil
	})
	return inForce, err
}

func (p programs) Runs(_ context.Context, id string) error {
	if !p.w.installed[id] {
		return fmt.Errorf("program %s: no such file", id)
	}
	return nil
}

func (p programs) Yield(_ context.Context, id, command string) error {
	p.w.lead(id)
	p.w.yielded = append(p.w.yielded, id+" "+command)
	return p.w.do(id, command)
}

func (p programs) Prune(ids ...string) error {
	keep := map[string]bool{p.self: true}
	for _, id := range ids {
		keep[id] = true
	}
	for id := range p.w.installed {
		if !keep[id] {
			delete(p.w.installed, id)
		}
	}
	return nil
}

// do has a version carry out a command, as systemd does.
func (w *world) do(program, command string) error {
	h := w.hostOf(program)
	switch command {
	case "rollback":
		err := h.Rollback(ctx)
		if program == programLegacy && err == nil { // it writes the fields that it knows
			if a := h.applied(); a != nil {
				a.Helper = ""
				err = h.Run.SetApplied(a)
			}
		}
		return err
	case "boot":
		return h.Boot(ctx, false, w.findNIC)
	case "repair":
		_, err := h.Repair(ctx)
		return err
	}
	return errors.New("no command " + command)
}

// lead makes the link lead to a program.
func (w *world) lead(id string) {
	w.remove(spec.Helper)
	path := w.system.At(spec.Helper)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(spec.ProgramPath(id), path)); err != nil {
		w.Fatal(err)
	}
}

// leads holds that the link leads to a program.
func (w *world) leads(id string) {
	w.Helper()
	if target, _ := os.Readlink(w.system.At(spec.Helper)); target != spec.ProgramPath(id) {
		w.Fatalf("%s leads to %q, wanted %q", spec.Helper, target, spec.ProgramPath(id))
	}
}

// named returns the version that a unit starts; "" if there is no such unit.
func (w *world) named(unit string) string {
	found := startsWith.FindStringSubmatch(w.system.Content(spec.UnitDir + unit))
	if found == nil {
		return ""
	}
	if id := spec.ProgramID(found[1]); id != "" {
		return id
	}
	if target, err := os.Readlink(w.system.At(spec.Helper)); err == nil {
		return spec.ProgramID(target)
	}
	return programLegacy // a plain file
}

// become makes w.host another version.
func (w *world) become(program string) {
	w.program = program
	w.installed[program] = true
	w.restart()
}

// older is a host that has confirmed what another version made. What it returns is
// the same document by this one.
func older(w *world) *store.Change {
	w.become(programOther)
	w.apply(first(w))
	w.confirm(first(w))
	w.become(programNow)
	return first(w)
}

// ancient is one of before programs had IDs.
func ancient(w *world) *store.Change {
	w.remove(spec.Helper)
	if err := w.system.Put(spec.Helper, "program "+programLegacy, 0o755); err != nil {
		w.Fatal(err)
	}
	w.become(programLegacy)
	c := first(w)
	w.apply(c)
	w.confirm(c)
	c.Helper = "" // it writes the fields that it knows
	if err := errors.Join(w.host.Store.SetConfirmed(c), w.host.setApplied(c, true)); err != nil {
		w.Fatal(err)
	}
	w.installed = map[string]bool{} // it is in no folder
	w.become(programNow)
	return first(w)
}

// upgraded has the new program applied.
func upgraded(prepare func(*world) *store.Change) func(*world) *store.Change {
	return func(w *world) *store.Change {
		next := prepare(w)
		w.apply(next)
		return next
	}
}

// TestANewProgramIsAChange goes from one version to another with the same document:
// a change like any other, with the rollback armed.
func TestANewProgramIsAChange(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*world) *store.Change
		old     string
	}{
		{"from another version", older, programOther},
		{"from before programs had IDs", ancient, programLegacy},
	} {
		ends := map[string]func(*world) error{
			"rollback": func(w *world) error { w.ring(); return nil },
			"boot":     func(w *world) error { return w.boot() },
		}
		for name, end := range ends {
			t.Run(c.name+", "+name, func(t *testing.T) {
				w := newWorld(t, spec.Ifupdown)
				change := c.prepare(w)
				before := w.String()
				if _, err := w.host.Repair(ctx); err != nil {
					t.Fatal(err)
				}
				w.same("repaired by the new program", w.String(), before)
				w.apply(change)
				if !w.armed || w.String() == before || w.agent() != programNow {
					t.Fatalf("the new program is no change, or without a way back: %v", w.steps)
				}
				if err := end(w); err != nil {
					t.Fatal(err)
				}
				w.same("the way back", w.String(), before)
				w.leads(c.old)
				if !reflect.DeepEqual(w.yielded, []string{c.old + " " + name}) {
					t.Errorf("the old program did %v", w.yielded)
				}
				if err := w.boot(); err != nil {
					t.Fatal(err)
				}
				w.same("booted", w.String(), before)
				if w.agent() != c.old {
					t.Errorf("the agent is that of %s", w.agent())
				}
			})
		}
		t.Run(c.name+", confirmed", func(t *testing.T) {
			w := newWorld(t, spec.Ifupdown)
			change := c.prepare(w)
			const formerWay = "route 0.0.0.0/0 via 10.31."
			if strings.Contains(w.String(), formerWay) != (c.old == programLegacy) {
				t.Errorf("before:\n%s", w)
			}
			w.apply(change)
			if strings.Contains(w.String(), formerWay) {
				t.Errorf("the version before's way outside is left:\n%s", w)
			}
			if !w.installed[c.old] {
				t.Error("the old program is gone before the new one is confirmed")
			}
			w.confirm(change)
			if w.installed[c.old] {
				t.Error("the old program is still there")
			}
			w.leads(programNow)
			after := w.String()
			if err := w.boot(); err != nil {
				t.Fatal(err)
			}
			w.same("booted", w.String(), after)
			if len(w.yielded) > 0 {
				t.Errorf("another program did %v", w.yielded)
			}
		})
	}
}

// TestTheOldProgramCannotRun holds that the host is not left without a network when
// the program that made what is confirmed is gone: the new one stands in for it.
func TestTheOldProgramCannotRun(t *testing.T) {
	for name, end := range map[string]func(*world) error{
		"rollback": func(w *world) error { return w.host.Rollback(ctx) },
		"boot":     func(w *world) error { return w.boot() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, spec.Networkd)
			next := older(w)
			w.apply(next)
			stands := w.String()
			delete(w.installed, programOther)
			if err := end(w); err != nil {
				t.Fatal(err)
			}
			w.same("what stands", w.String(), stands)
			w.reachable()
			if pending, err := w.host.Store.Pending(); pending != nil || err != nil {
				t.Errorf("%v waits, %v", pending, err)
			}
		})
	}
}

// alarm is the clock as a version starts it, for itself.
type alarm struct {
	*world
	program string
}

func (a alarm) Arm(ctx context.Context, after time.Duration) error {
	err := a.world.Arm(ctx, after)
	if a.armed {
		a.armedBy = a.program
	}
	return err
}
