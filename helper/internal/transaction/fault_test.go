package transaction

import (
	"fmt"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// scenario is something that a host does and that is interrupted at each step.
type scenario struct {
	name string
	// prepare brings the host to where it begins and returns what act is about.
	prepare func(*world) (next *store.Change)
	act     func(*world, *store.Change) error
	// end is what the host may be in the end, by the names of states. Without a
	// confirmation that is what it was before.
	end string
}

func begun(w *world) *store.Change {
	w.apply(first(w))
	return first(w)
}

func kept(w *world) *store.Change {
	w.apply(first(w))
	w.confirm(first(w))
	return second(w)
}

func changed(w *world) *store.Change {
	c := kept(w)
	w.apply(c)
	return c
}

func left(w *world) *store.Change {
	kept(w)
	w.apply(down)
	return down
}

var down = &store.Change{Down: true}

func first(w *world) *store.Change { return w.document(1, nil, 2, 3) }

func second(w *world) *store.Change {
	return w.document(2, func(h *network.Host) { h.ManualAccess = true }, 2, 4)
}

func doApply(w *world, c *store.Change) error {
	_, err := w.host.Apply(ctx, c, options)
	return err
}

func doConfirm(w *world, c *store.Change) error {
	_, err := w.host.Confirm(ctx, c.Generation())
	return err
}

func doRollback(w *world, _ *store.Change) error { return w.host.Rollback(ctx) }

func doBoot(w *world, _ *store.Change) error { return w.boot() }

func doRebuild(w *world, c *store.Change) error {
	o := options
	o.Rebuild = true
	_, err := w.host.Apply(ctx, c, o)
	return err
}

var scenarios = []scenario{
	{"first apply", first, doApply, "none unit"},
	{"first confirm", begun, doConfirm, "none unit first"},
	{"first rollback", begun, doRollback, "none unit"},
	{"first boot", begun, doBoot, "none unit"},
	{"apply", kept, doApply, "first"},
	{"confirm", changed, doConfirm, "first second"},
	{"rollback", changed, doRollback, "first"},
	{"boot", kept, doBoot, "first"},
	{"boot with a change", changed, doBoot, "first"},
	{"rebuild", kept, doRebuild, "first"},
	{"down", func(w *world) *store.Change { kept(w); return down }, doApply, "first"},
	{"confirm down", left, doConfirm, "none unit first"},
	{"rollback down", left, doRollback, "first"},
	{"boot with down", left, doBoot, "first"},

	{"a new program", older, doApply, "older"},
	{"confirm a new program", upgraded(older), doConfirm, "older first"},
	{"rollback to the old program", upgraded(older), doRollback, "older"},
	{"boot with a new program", upgraded(older), doBoot, "older"},
	{"the first program with an ID", ancient, doApply, "ancient"},
	{"rollback to the one without", upgraded(ancient), doRollback, "ancient"},
	{"boot with the one without", upgraded(ancient), doBoot, "ancient"},

	{"announce a key", reach("", announce), doApply, "first"},
	{"confirm an announced key", change("", announce), doConfirm, "first announce"},
	{"switch to it", reach(announce, switchKey), doApply, "announce"},
	{"confirm the switch", change(announce, switchKey), doConfirm, "announce switch booted-switch"},
	{"rollback of the switch", change(announce, switchKey), doRollback, "announce"},
	{"boot with the switch", change(announce, switchKey), doBoot, "announce"},
	{"forget the old key", reach(switchKey, forget), doApply, "switch booted-switch"},
	{"confirm that it is forgotten", change(switchKey, forget), doConfirm, "switch booted-switch forget"},
	{"abandon the rotation", reach(announce, abandon), doApply, "announce"},
}

// states are what a host can be, by name. "unit" is none with the file of the
// boot unit left over, which nothing starts: it and what starts it cannot come
// or go at once. The next change takes it away.
func states(t *testing.T, fresh maker, m spec.Manager, own func(*world)) map[string]string {
	w := fresh(t, m)
	own(w)
	all := map[string]string{"none": w.String()}
	w.apply(first(w))
	all["first"] = w.String()
	w.confirm(first(w))
	w.apply(second(w))
	all["second"] = w.String()
	w.confirm(second(w))
	rotated := fresh(t, m)
	own(rotated)
	rotated.rotationStates(all)
	for name, prepare := range map[string]func(*world) *store.Change{"older": older, "ancient": ancient} {
		w := fresh(t, m)
		own(w)
		prepare(w)
		all[name] = w.String()
	}
	unit := w.system.Content(spec.UnitDir + spec.UnitBoot)
	w.apply(down)
	w.confirm(down)
	if err := w.system.Put(spec.UnitDir+spec.UnitBoot, unit, 0o644); err != nil {
		t.Fatal(err)
	}
	all["unit"] = w.String()
	return all
}

// maker makes a host.
type maker func(t *testing.T, managers ...spec.Manager) *world

// TestEveryStepInterrupted interrupts everything that changes a host at each of
// its steps in each way. In the end the host is in exactly the old or the new
// state, reachable, with its key, and takes the next change.
func TestEveryStepInterrupted(t *testing.T) {
	for i, s := range scenarios {
		s, m := s, managers[i%len(managers)]
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			interrupt(t, newWorld, m, s, nil)
		})
	}
}

// TestEveryStepInterruptedWhereTheNICStays is the same on hosts that keep their NIC, which
// programs without an ID could not.
func TestEveryStepInterruptedWhereTheNICStays(t *testing.T) {
	for i, s := range scenarios {
		if s.end == "ancient" {
			continue
		}
		s, m := s, managers[i%len(managers)]
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			interrupt(t, newStaying, m, s, nil)
		})
	}
}

// interrupt knows more states by more, if there are others.
func interrupt(t *testing.T, fresh maker, m spec.Manager, s scenario, more func(own func(*world)) map[string]string) {
	tried := 0
	w := fresh(t, m)
	own := w.takeKey()
	ends := states(t, fresh, m, own)
	if more != nil {
		for name, state := range more(own) {
			ends[name] = state
		}
	}
	next := s.prepare(w)
	w.with(fault{})
	if err := s.act(w, next); err != nil {
		t.Fatal(err)
	}
	steps := append([]string{}, w.steps...)
	for n := range steps {
		if testing.Short() && n%200 != 0 {
			continue
		}
		for _, f := range faultsAt(n + 1) {
			tried++
			w := fresh(t, m)
			own(w)
			next := s.prepare(w)
			if problem := w.survive(s, next, f, ends); problem != "" {
				t.Fatalf("%s, %q: %s\nthe steps were\n%s", f, steps[n], problem, strings.Join(steps, "\n"))
			}
		}
	}
	t.Logf("%d steps, %d faults", len(steps), tried)
}

func faultsAt(step int) []fault {
	var all []fault
	for _, kind := range []faultKind{failure, killed, powerCut} {
		all = append(all, fault{step, false, kind}, fault{step, true, kind})
	}
	return append(all, fault{step, false, failures})
}

// takeKey returns what gives other hosts this one's key.
func (w *world) takeKey() func(*world) {
	private, err := w.host.Store.Keys().PrivateKey(w.own)
	if err != nil {
		w.Fatal(err)
	}
	return func(other *world) {
		other.giveKey(private, w.own)
		other.fresh, other.freshPrivate = w.fresh, w.freshPrivate
	}
}

// survive returns what is wrong after the fault.
func (w *world) survive(s scenario, next *store.Change, f fault, ends map[string]string) string {
	w.Helper()
	w.with(f)
	err, dead := w.run(func() error { return s.act(w, next) })
	hit := w.fault.step > 0 && len(w.steps) >= w.fault.step
	w.with(fault{})
	if dead == powerCut || s.boots() && (dead != "" || err != nil && f.kind != failure) {
		if err := w.boot(); err != nil {
			return fmt.Sprint("the boot after it failed: ", err)
		}
	}
	if s.boots() && f.kind == failure && err != nil && hit {
		if problem := w.kernel.Reachable(w.facts); problem != "" {
			return problem
		}
		if err := w.boot(); err != nil {
			return err.Error()
		}
	}
	w.ring()
	if problem := w.kernel.Reachable(w.facts); problem != "" {
		return problem
	}
	if problem := w.isOneOf(s.end, ends); problem != "" {
		return problem
	}
	confirmed, err := w.host.Store.Confirmed()
	if err != nil {
		return err.Error()
	}
	if kept := w.kept(); confirmed == nil && dead != powerCut && !s.boots() && strings.Contains(kept, " ") {
		return "left in the store: " + kept
	}
	if confirmed != nil { // its keys are what the host would report to the deployer
		self, _ := confirmed.Self()
		w.own = self.PublicKey
	}
	if _, err := w.host.Store.Keys().PrivateKey(w.own); err != nil {
		return err.Error()
	}
	return w.goesOn(ends)
}

func (s scenario) boots() bool { return strings.Contains(s.name, "boot") }

func (w *world) isOneOf(names string, ends map[string]string) string {
	now := w.String()
	var closest string
	for _, name := range strings.Fields(names) {
		if now == ends[name] {
			return ""
		}
		if d := difference(now, ends[name]); closest == "" || len(d) < len(closest) {
			closest = "differs from " + name + ":\n" + d
		}
	}
	return closest
}

func difference(got, want string) string {
	count := map[string]int{}
	for _, line := range strings.Split(want, "\n") {
		count[line]--
	}
	for _, line := range strings.Split(got, "\n") {
		count[line]++
	}
	var text []string
	for line, n := range count {
		if n != 0 {
			text = append(text, fmt.Sprintf("%+d %s", n, line))
		}
	}
	return strings.Join(text, "\n")
}

// goesOn tells why the host does not take another change.
func (w *world) goesOn(ends map[string]string) string {
	c := w.document(9, func(h *network.Host) { h.ManualAccess = true }, 2, 4) // second with another serial
	if err := doApply(w, c); err != nil {
		return fmt.Sprintf("the next change failed: %v (the store has %s)", err, w.kept())
	}
	if err := doConfirm(w, c); err != nil {
		return fmt.Sprintf("the next change was not confirmed: %v", err)
	}
	want := ends["second"]
	if w.own == w.fresh {
		want = ends["second under the new key"]
	}
	if now := w.String(); now != want {
		return "the next change: " + difference(now, want)
	}
	if names := strings.Fields(w.kept()); len(names) != 3 {
		return fmt.Sprintf("the store has %s", names)
	}
	return ""
}
