package transaction

import (
	"errors"
	"strings"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/wireguard"
)

// underlay reports how the WireGuard device was made, as links.Underlay does.
func (w *world) underlay() bool {
	s, err := w.kernel.Observe([]string{spec.Namespace}, spec.RouteTable, nil)
	return err == nil && s.Links[links.LinkKey{NS: spec.Namespace, Name: spec.WireLink}].Underlay
}

// TestUnderlayChangesInOneRun: when the WireGuard device has to be made anew, it gets its
// key, port and peers in the same run: Apply verifies after one.
func TestUnderlayChangesInOneRun(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	c := w.document(1, nil, 2, 3)
	w.apply(c)
	w.confirm(c)
	build := func(underlay bool) *spec.Host {
		h, err := plan.Build(c.Document, 1, *w.facts)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range h.Links {
			h.Links[i].Underlay = underlay && l.Name == spec.WireLink
		}
		return h
	}
	// Only what a change of the underlay is about: the files are another subject's.
	r := w.host.Reconciler(w.facts, false)
	r.Subjects = []reconcile.Subject{links.New(w.kernel), wireguard.On(w.wg, spec.WireLink, w.host.Store.Keys())}
	peers := w.wg.String()
	for _, underlay := range []bool{true, false} {
		want, previous := build(underlay), build(!underlay)
		ops, err := r.Plan(ctx, want, previous)
		if n := reconcile.Interrupted(ops); err != nil || n != len(want.WireGuard.Peers) {
			t.Fatalf("%v, interrupts %d, wanted %d", err, n, len(want.WireGuard.Peers))
		}
		if err := r.Execute(ctx, ops); err != nil {
			t.Fatal(err)
		}
		if left, err := r.Plan(ctx, want, want); err != nil || len(left) > 0 {
			t.Errorf("underlay %v: %v, left %v", underlay, err, left)
		}
		if got := w.wg.String(); got != peers || got == "" || w.underlay() != underlay {
			t.Errorf("underlay %v: found\n%s\nwanted\n%s", w.underlay(), got, peers)
		}
	}
}

// TestUnderlayPortIsTaken: whose port it is shows in what the operator reads, and the host
// is rolled back.
func TestUnderlayPortIsTaken(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	w.wg.Bound = func(port int) bool { return port == 51820 }
	_, err := w.host.Apply(ctx, w.document(1, nil, 2), Options{})
	for _, want := range []string{"another program has UDP port 51820", "set wireguard_port to another one"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, wanted one with %q", err, want)
		}
	}
	if pending, err := w.host.Store.Pending(); pending != nil || err != nil {
		t.Error(errors.Join(errors.New("the change is still pending"), err))
	}
}
