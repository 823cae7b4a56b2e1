package transaction

import (
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// The phases of a rotation of all hosts, and its end without one.
const (
	announce  = "announce"
	switchKey = "switch"
	forget    = "forget"
	abandon   = "abandon"
)

// rotation returns the document of a phase in which this host and host 2 get
// another key.
func (w *world) rotation(phase string) *store.Change {
	c := w.document(map[string]int64{announce: 2, switchKey: 3, forget: 4, abandon: 5}[phase], nil, 2, 3)
	for i := range c.Document.Hosts {
		h := &c.Document.Hosts[i]
		old, fresh := h.PublicKey, w.fresh
		switch h.ID {
		case 2:
			fresh = plantest.Key(102)
		case 3:
			continue
		}
		switch phase {
		case announce:
			h.AlsoKey = fresh
		case switchKey:
			h.PublicKey, h.AlsoKey = fresh, old
		case forget:
			h.PublicKey = fresh
		}
	}
	return c
}

// reach confirms the phases up to one, and returns the next.
func reach(done, next string) func(*world) *store.Change {
	return func(w *world) *store.Change {
		kept(w)
		w.putKey(w.freshPrivate, w.fresh)
		for _, phase := range []string{announce, switchKey} {
			if done == phase || done == switchKey {
				w.apply(w.rotation(phase))
				w.confirm(w.rotation(phase))
			}
		}
		return w.rotation(next)
	}
}

// change is reach with the next phase applied.
func change(done, next string) func(*world) *store.Change {
	return func(w *world) *store.Change {
		c := reach(done, next)(w)
		w.apply(c)
		return c
	}
}

// rotationStates adds what a host is in each phase. Nobody moves allowed IPs
// here: they stay where the document that added the peer put them, which is at
// the new keys when a host that has switched makes its device anew.
func (w *world) rotationStates(all map[string]string) {
	reach("", announce)(w)
	for _, phase := range []string{announce, switchKey, forget} {
		w.apply(w.rotation(phase))
		w.confirm(w.rotation(phase))
		all[phase] = w.String()
		if phase == switchKey {
			if err := w.boot(); err != nil {
				w.Fatal(err)
			}
			all["booted-switch"] = w.String()
		}
	}
	w.own = w.fresh
	c := second(w)
	c.Document.Serial = 9
	w.apply(c)
	w.confirm(c)
	all["second under the new key"] = w.String()
}

// TestKeysOfARotation: a host keeps the private halves of the keys that its
// document names, and no other one.
func TestKeysOfARotation(t *testing.T) {
	w := newWorld(t, spec.Networkd)
	c := change("", announce)(w)
	count := func() int { return strings.Count(w.kept()+" ", " ") - 2 } // besides confirmed and facts
	w.confirm(c)
	for _, phase := range []string{switchKey, forget} {
		if n := count(); n != 2 {
			t.Errorf("before %s: %d keys (%s), wanted 2", phase, n, w.kept())
		}
		w.apply(w.rotation(phase))
		w.confirm(w.rotation(phase))
	}
	if _, err := w.host.Store.Keys().PrivateKey(w.fresh); err != nil || count() != 1 {
		t.Errorf("afterwards: %v, %s", err, w.kept())
	}
	// A key that was made and never announced goes with the next document that
	// makes no difference to the host.
	w.own = w.fresh
	w.putKey(w.freshPrivate, w.fresh)
	if _, err := w.host.Store.Keys().Create(); err != nil {
		t.Fatal(err)
	}
	again := w.rotation(forget)
	again.Document.Serial = 7
	if ops := w.apply(again); len(ops) > 0 || count() != 1 {
		t.Errorf("did %v, kept %s", ops, w.kept())
	}
}

// TestRotationFromAnyMixture: a deploy after an interrupted rotation, with what
// each host reports, leaves one key for each host.
func TestRotationFromAnyMixture(t *testing.T) {
	for _, own := range []string{"", announce, switchKey} {
		for _, others := range []string{"", announce, switchKey} {
			w := newWorld(t, spec.Ifupdown)
			reach(own, "")(w)
			if own == switchKey {
				w.own = w.fresh
			}
			c := w.document(9, func(h *network.Host) { h.PublicKey = w.own }, 2, 3)
			for i := range c.Document.Hosts {
				if h := &c.Document.Hosts[i]; h.ID == 2 && others == switchKey {
					h.PublicKey = plantest.Key(102)
				}
			}
			if w.apply(c); w.armed {
				w.confirm(c)
			}
			if ops := w.apply(c); len(ops) > 0 || len(strings.Fields(w.kept())) != 3 {
				t.Errorf("own %q, others %q: did %v again, kept %s", own, others, ops, w.kept())
			}
			if text := w.wg.String(); strings.Contains(text, "allowed  ") {
				t.Errorf("own %q, others %q: a peer without allowed IPs:\n%s", own, others, text)
			}
		}
	}
}
