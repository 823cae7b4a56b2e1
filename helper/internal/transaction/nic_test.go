package transaction

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// findNIC looks at the world's kernel as links.FindNIC does at a real one.
func (w *world) findNIC(facts *spec.Facts) (string, net.HardwareAddr, bool) {
	s, err := w.kernel.Observe([]string{spec.Namespace}, spec.RouteTable, nil)
	if err != nil {
		return "", nil, false
	}
	key, found := s.NIC(facts.NIC())
	return key.Name, s.Links[key].NIC.MAC, found
}

func noNIC(*spec.Facts) (string, net.HardwareAddr, bool) { return "", nil, false }

// TestOtherNIC holds that a host whose NIC has another name, another address or both
// after a boot comes up as it was, is repaired and changed as ever, and gets its NIC
// back in the end.
func TestOtherNIC(t *testing.T) {
	const name = "enp0s3"
	card := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x77}
	for _, c := range []struct {
		name  string
		boots func(w *world)
		card  net.HardwareAddr
	}{
		{"renamed", func(w *world) { w.kernel.Replace(w.facts.Uplink, name, w.facts.MAC) }, nil},
		{"another card", func(w *world) { w.kernel.Replace(w.facts.Uplink, w.facts.Uplink, card) }, card},
		{"another card in its place, renamed", func(w *world) { w.kernel.Replace(w.facts.Uplink, name, card) }, card},
		{"two have changed names", func(w *world) {
			w.kernel.Replace(w.facts.Uplink, name, w.facts.MAC)
			w.kernel.Replace("", w.facts.Uplink, card)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, spec.Ifupdown)
			w.facts.Device = "0000:00:03.0"
			change := w.document(1, nil, 2)
			w.apply(change)
			w.confirm(change)
			w.powerCycle()
			c.boots(w)
			if err := w.do(programNow, "boot"); err != nil {
				t.Fatal(err)
			}
			w.system.Start(spec.UnitAgent)
			w.reachable()
			facts, err := w.host.Store.Facts()
			if err != nil || c.card != nil && facts.MAC.String() != c.card.String() {
				t.Errorf("the NIC is taken to be %v (%v), wanted %v: a provider may drop what another address sends", facts.MAC, err, c.card)
			}
			if ops, err := w.host.Differences(ctx); err != nil || len(ops) > 0 {
				t.Errorf("after the boot: %v, %v", ops, err)
			}
			w.apply(second(w))
			w.confirm(second(w))
			w.reachable()
			if c.name == "two have changed names" {
				if _, err := w.host.Apply(ctx, &store.Change{Down: true}, Options{}); !errors.Is(err, syscall.EEXIST) {
					t.Errorf("error %v, wanted one that tells of the name", err)
				}
				w.kernel.Replace(w.facts.Uplink, "", nil) // of that name there can be one only
			}
			w.apply(&store.Change{Down: true})
			w.confirm(&store.Change{Down: true})
			if problem := w.kernel.Reachable(w.facts); problem != "" {
				t.Error(problem)
			}
			if left := w.system.String(); strings.Contains(strings.ToLower(left), "mobula") {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

// TestOtherNICOnAFullDisk holds that a host whose NIC has another name comes up although
// that cannot be noted.
func TestOtherNICOnAFullDisk(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	w.powerCycle()
	w.kernel.Replace(w.facts.Uplink, "enp0s3", w.facts.MAC)
	w.with(fault{step: 1, kind: failure})
	if err := w.do(programNow, "boot"); err != nil {
		t.Error(err)
	}
	if first := w.steps[0]; !strings.Contains(first, "facts") {
		t.Errorf("what failed was %q, wanted the facts", first)
	}
	w.reachable()
}

// TestNICIsGone holds that Mobula leaves a host whose NIC was taken out, and that no
// other change begins there.
func TestNICIsGone(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	w.powerCycle()
	w.kernel.Replace(w.facts.Uplink, "", nil)
	if ops, err := w.host.Apply(ctx, &store.Change{Down: true}, Options{}); err != nil {
		t.Fatal(ops, err)
	}
	w.confirm(&store.Change{Down: true})
	if facts, err := w.host.Store.Facts(); err != nil || facts != nil {
		t.Errorf("kept: %v, %v", facts, err)
	}
	s, err := w.kernel.Observe([]string{spec.Namespace}, spec.RouteTable, nil)
	if err != nil || len(s.Links) != 1 || len(s.Namespaces) != 0 {
		t.Errorf("left: %v, %v, %v", s.Links, s.Namespaces, err)
	}
}

// TestUplinkByAnotherName holds that an uplink may be named as the operator knows it.
func TestUplinkByAnotherName(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	w.facts.AltNames = []string{"enp0s3", "outside-nic"}
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	for name, good := range map[string]bool{"outside-nic": true, w.facts.Uplink: true, "other": false} {
		c := second(w)
		for i := range c.Document.Hosts {
			if c.Document.Hosts[i].ID == 1 {
				c.Document.Hosts[i].Uplink = name
			}
		}
		if _, err := w.host.Plan(ctx, c, Options{}); (err == nil) != good {
			t.Errorf("uplink: %s: %v", name, err)
		}
	}
}
