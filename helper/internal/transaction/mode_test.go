package transaction

import (
	"net/netip"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// newEither is a host whose NIC may stay or move.
func newEither(t *testing.T, managers ...spec.Manager) *world {
	w := newStaying(t, managers...)
	w.staying = false
	return w
}

// as is a change to the network with two others, with the NIC there.
func as(shared bool, serial int64) toMode {
	return func(w *world) *store.Change {
		return w.document(serial, func(h *network.Host) { h.SharedUplink = shared }, 2, 3)
	}
}

type toMode func(*world) *store.Change

func (m toMode) kept(w *world) {
	w.apply(m(w))
	w.confirm(m(w))
}

// modeScenarios are those of a host that changes from one way outside to the other.
func modeScenarios(shared bool) []scenario {
	from, to := as(!shared, 1), as(shared, 2)
	before := func(w *world) *store.Change { from.kept(w); return to(w) }
	begun := func(w *world) *store.Change { c := before(w); w.apply(c); return c }
	name := map[bool]string{true: "stays", false: "moves"}[shared]
	return []scenario{
		{name, before, doApply, "from"},
		{"confirm that it " + name, begun, doConfirm, "from to"},
		{"rollback after it " + name, begun, doRollback, "from"},
		{"boot after it " + name, begun, doBoot, "from"},
	}
}

// TestEveryStepInterruptedWhereTheModeChanges is TestEveryStepInterrupted of a host whose
// NIC comes back to stay, or begins to move.
func TestEveryStepInterruptedWhereTheModeChanges(t *testing.T) {
	i := 0
	for _, shared := range []bool{true, false} {
		for _, s := range modeScenarios(shared) {
			s, m, shared := s, managers[i%len(managers)], shared
			i++
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				interrupt(t, newEither, m, s, func(own func(*world)) map[string]string { return modes(t, m, own, shared) })
			})
		}
	}
}

// modes are the states of such a host.
func modes(t *testing.T, m spec.Manager, own func(*world), shared bool) map[string]string {
	all := map[string]string{}
	for name, change := range map[string]toMode{"from": as(!shared, 1), "to": as(shared, 2)} {
		w := newEither(t, m)
		own(w)
		change.kept(w)
		all[name] = w.String()
	}
	return all
}

// TestAModeChangesThereAndBack: nothing is left of either way outside, whichever came
// first.
func TestAModeChangesThereAndBack(t *testing.T) {
	for _, shared := range []bool{true, false} {
		for _, m := range managers {
			w := newEither(t, m)
			none := w.String()
			as(shared, 1).kept(w)
			first := w.String()
			for serial := int64(2); serial < 6; serial++ {
				as(shared == (serial%2 == 1), serial).kept(w)
				if done, err := w.host.Repair(ctx); err != nil || len(done) > 0 {
					t.Fatalf("%s: repairing what is fine: did %q, %v", m, done, err)
				}
			}
			if now := w.String(); now != first {
				t.Errorf("%s: there and back: %s", m, difference(now, first))
			}
			if facts, err := w.host.Store.Facts(); err != nil || facts.Other != nil {
				t.Errorf("%s: the other way outside is still noted: %v", m, err)
			}
			w.apply(down)
			w.confirm(down)
			if now := w.String(); now != none {
				t.Errorf("%s: after an uninstall: %s", m, difference(now, none))
			}
		}
	}
}

// TestNoEndpointUnderOneProgram: the way back is that of the program which made what is confirmed,
// and that may not be able to read such a document.
func TestNoEndpointUnderOneProgram(t *testing.T) {
	w := newEither(t, spec.Networkd)
	older(w)
	before := w.String()
	without := func(serial int64) *store.Change {
		c := w.document(serial, func(*network.Host) {}, 2, 3)
		for i := range c.Document.Hosts {
			if h := &c.Document.Hosts[i]; h.ID == 3 {
				h.Endpoint, h.WireGuardPort = netip.AddrPort{}, 51820
			}
		}
		return c
	}
	if _, err := w.host.Apply(ctx, without(9), options); err == nil || !strings.Contains(err.Error(), "and then as it is") {
		t.Errorf("found %v, wanted a refusal", err)
	}
	if now := w.String(); now != before {
		t.Errorf("refused and changed: %s", difference(now, before))
	}
	c := w.document(9, func(*network.Host) {}, 2, 3)
	w.apply(c)
	w.confirm(c)
	w.apply(without(10))
	w.confirm(without(10))
}

// TestAModeChangesUnderOneProgram: the way back belongs to the program that made what is
// confirmed, and that may not know what to take away.
func TestAModeChangesUnderOneProgram(t *testing.T) {
	w := newEither(t, spec.Networkd)
	older(w)
	before := w.String()
	c := as(true, 9)(w)
	_, err := w.host.Apply(ctx, c, options)
	if err == nil || !strings.Contains(err.Error(), "deploy once with uplink_mode: moved") {
		t.Errorf("found %v, wanted a refusal", err)
	}
	if now := w.String(); now != before {
		t.Errorf("refused and changed: %s", difference(now, before))
	}
}
