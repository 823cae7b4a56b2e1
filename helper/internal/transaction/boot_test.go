package transaction

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// TestNICComesLate holds that a boot without a NIC is begun again, and ends like one
// with it. By then nobody else gives the NIC addresses.
func TestNICComesLate(t *testing.T) {
	for _, m := range managers {
		for _, confirmed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, confirmed %v", m, confirmed), func(t *testing.T) {
				w := newWorld(t, m)
				want := w.String()
				c := w.document(1, nil, 2)
				w.apply(c)
				if confirmed {
					w.confirm(c)
					want = w.String()
				}
				w.powerCycle()
				impatient, stop := context.WithTimeout(ctx, 10*time.Millisecond)
				defer stop()
				if err := w.host.Boot(impatient, false, noNIC); !errors.Is(err, ErrBeginAgain) {
					t.Errorf("without a NIC: error %v, wanted %v", err, ErrBeginAgain)
				}
				w.startServices()
				if err := w.host.Boot(ctx, true, w.findNIC); err != nil {
					t.Error(err)
				}
				w.same("with it", w.String(), want)
				w.reachable()
			})
		}
	}
}

// TestLateBootLeavesChangesAlone holds that a change that was begun after the host
// has booted on without Mobula is not dropped.
func TestLateBootLeavesChangesAlone(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	w.powerCycle()
	next := second(w)
	w.apply(next)
	if err := w.host.Boot(ctx, true, w.findNIC); err != nil {
		t.Error(err)
	}
	w.confirm(next)
	w.reachable()
}

func TestDownTakenBackByReboot(t *testing.T) {
	for _, m := range managers {
		t.Run(string(m), func(t *testing.T) {
			w := newWorld(t, m)
			c := w.document(1, nil, 2)
			w.apply(c)
			w.confirm(c)
			built := w.String()
			w.apply(&store.Change{Down: true})
			if err := w.boot(); err != nil {
				t.Fatal(err)
			}
			w.same("booted", w.String(), built)
			w.apply(&store.Change{Down: true})
			w.ring()
			w.same("rolled back", w.String(), built)
		})
	}
}

func TestBrokenStore(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	kept(w)
	path := filepath.Join(w.dir, "state", "confirmed.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.boot(); err == nil {
		t.Error("nobody says that confirmed.json is broken")
	}
	w.reachable() // the NIC is the host's, although its network manager leaves it alone
	if _, err := w.host.Apply(ctx, second(w), options); err == nil {
		t.Error("took a change without knowing what is confirmed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.apply(second(w))
	w.confirm(second(w))
}

func TestBrokenFacts(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	kept(w)
	path := filepath.Join(w.dir, "state", "facts.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.boot(); err != nil {
		t.Error(err)
	}
	w.reachable()
	w.apply(second(w))
	w.confirm(second(w))
}

// TestBootWithoutOpenVSwitch holds that the NIC is the host's when the switch does not
// start, that such a boot is not begun again, and that the next one builds the network.
func TestBootWithoutOpenVSwitch(t *testing.T) {
	for _, m := range managers {
		t.Run(string(m), func(t *testing.T) {
			w := newWorld(t, m)
			kept(w)
			built, all := w.String(), w.system.Executable
			w.system.Executable = func(path string) bool { return path != "/usr/sbin/ovs-vswitchd" && all(path) }
			if err := w.boot(); err == nil || errors.Is(err, ErrBeginAgain) {
				t.Errorf("without its program: error %v, wanted one that is final", err)
			}
			w.reachable()
			w.system.Executable = all
			if err := w.boot(); err != nil {
				t.Error(err)
			}
			w.same("with it", w.String(), built)
		})
	}
}

// TestBootWhereAClientHasThePort: the port of WireGuard of a host that keeps its NIC is one
// that a resolver may have just then; the boot is begun again until it has not.
func TestBootWhereAClientHasThePort(t *testing.T) {
	w := newStaying(t, spec.Ifupdown)
	kept(w)
	built := w.String()
	w.powerCycle()
	w.wg.Bound = func(int) bool { return true }
	if err := w.host.Boot(ctx, false, w.findNIC); !errors.Is(err, ErrBeginAgain) {
		t.Errorf("while a client has the port: error %v, wanted %v", err, ErrBeginAgain)
	}
	w.startServices()
	w.wg.Bound = nil
	if err := w.host.Boot(ctx, true, w.findNIC); err != nil {
		t.Error(err)
	}
	w.same("without it", w.String(), built)
}
