package links_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

var wire = links.LinkKey{NS: spec.Namespace, Name: spec.WireLink}

// underlaid is the plan with WireGuard's packets in the host's own namespace.
func underlaid(h *spec.Host) *spec.Host {
	for i, l := range h.Links {
		h.Links[i].Underlay = l.Name == spec.WireLink
	}
	return h
}

// forwarding is a plan whose direct link forwards, and a NIC that it does not move.
func forwarding(h *spec.Host, nic string) *spec.Host {
	h.Settings = append(h.Settings,
		spec.Setting{Key: "net/ipv4/conf/" + nic + "/forwarding", Value: "1", NIC: nic},
		spec.Setting{Key: "net/ipv4/conf/" + spec.DirectHost + "/forwarding", Value: "1"})
	return h
}

// socket fails unless the WireGuard device has its socket there.
func (b *bench) socket(want string) {
	b.Helper()
	if got, found := b.kernel.Socket(wire); !found || got != want {
		b.Errorf("the socket is in %q (%v), wanted it in %q\n%s", got, found, want, b.kernel)
	}
	if b.kernel.Identity("", spec.WireLink) != nil {
		b.Errorf("the device is in the host's own namespace")
	}
}

// TestUnderlay: a device whose socket is elsewhere is made anew, in one pass with all
// that is on it (see bring), and nothing else changes.
func TestUnderlay(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	build := func() *spec.Host {
		h := mustBuild(t, plantest.Document(plantest.Host(1), plantest.Host(2)), 1, facts)
		h.Settings = append(h.Settings, spec.Setting{NS: wire.NS, Key: "net/ipv4/conf/" + wire.Name + "/rp_filter", Value: "2"})
		return h
	}
	inside, outside := build(), underlaid(build())
	b.bring(inside, nil)
	b.socket(spec.Namespace)
	was := b.kernel.String()

	ops, err := b.hands.Plan(context.Background(), outside, inside)
	if want := len(inside.WireGuard.Peers); err != nil || reconcile.Interrupted(ops) != want {
		t.Errorf("%v, interrupts %d, wanted %d", err, reconcile.Interrupted(ops), want)
	}
	did := strings.Join(b.bring(outside, inside), "\n")
	b.socket("")
	if want := "~ link mo-wg-gw: its packets go through the host's own namespace"; !strings.Contains(did, want) || strings.Count(did, "link ") != 1 {
		t.Errorf("did\n%s\nwanted of links only %q", did, want)
	}
	fresh := newBench(t, facts)
	fresh.bring(outside, nil)
	if got, want := b.kernel.String(), fresh.kernel.String(); got != want {
		t.Errorf("on this way\n%s\ndirectly\n%s", got, want)
	}

	did = strings.Join(b.bring(inside, outside), "\n")
	b.socket(spec.Namespace)
	if want := "~ link mo-wg-gw: its packets go through its own namespace"; !strings.Contains(did, want) {
		t.Errorf("did\n%s\nwanted %q", did, want)
	}
	if got := b.kernel.String(); got != was {
		t.Errorf("afterwards\n%s\nbefore\n%s", got, was)
	}
}

// TestUnderlayInterrupted: a device that is not finished is made anew, and nothing of it
// is left in the host's own namespace.
func TestUnderlayInterrupted(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	want := underlaid(mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts))
	b.kernel.Killed = func() bool { return true }
	ops, err := b.hands.Plan(context.Background(), want, nil)
	if err == nil {
		err = b.hands.Execute(context.Background(), ops)
	}
	if !errors.Is(err, syscall.EINTR) {
		t.Fatalf("error %v, wanted %v", err, syscall.EINTR)
	}
	half := b.kernel.Identity(wire.NS, wire.Name)
	b.kernel.Killed = nil
	b.bring(want, nil)
	b.socket("")
	if b.kernel.Identity(wire.NS, wire.Name) == half {
		t.Error("the device that was not finished is kept")
	}
	if err := b.kernel.DeleteNamespace(spec.Namespace); err != nil {
		t.Fatal(err)
	}
	if _, found := b.kernel.Socket(wire); found {
		t.Error("the device outlives its namespace")
	}
	b.repair(want)
	b.socket("")
	b.bring(plan.Without(*facts), want)
	if _, found := b.kernel.Socket(wire); found {
		t.Error("the device outlives Mobula")
	}
}

// TestSettingsOfLinks: those of links that the plan makes come with the links.
func TestSettingsOfLinks(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	want := forwarding(mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts), "eth9")
	b.bring(want, nil) // eth9 is nowhere
	direct := spec.Setting{Key: "net/ipv4/conf/" + spec.DirectHost + "/forwarding"}
	b.setting(direct.Key, "1")

	for _, change := range []func() error{
		func() error { direct.Value = "0"; return b.kernel.Set(direct) },
		func() error { return b.kernel.DeleteLink(links.LinkKey{Name: spec.DirectHost}) },
		func() error { return b.kernel.DeleteLink(links.LinkKey{NS: spec.Namespace, Name: spec.DirectGateway}) },
		func() error {
			return errors.Join(b.kernel.Set(spec.Setting{Key: "net/ipv4/ip_forward", Value: "1"}), b.kernel.Set(spec.Setting{Key: "net/ipv4/ip_forward", Value: "0"}))
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		b.bring(want, want)
		b.setting(direct.Key, "1")
	}
}

// TestSettingsOfForeignNIC: a NIC that stays where it is gets its setting where it is.
func TestSettingsOfForeignNIC(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	want := forwarding(mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts), "eth9.100")
	b.bring(want, nil)
	b.kernel.Replace("", "eth9.100", net.HardwareAddr{2, 0, 0, 0, 0, 9})
	did := b.bring(want, want)
	if want := "~ setting net/ipv4/conf/eth9.100/forwarding: 0 → 1"; len(did) != 1 || did[0] != want {
		t.Errorf("did %v, wanted %q", did, want)
	}
	b.setting("net/ipv4/conf/eth9.100/forwarding", "1")
}

// TestSettingsThatOverwriteOthers: the change of one that sets forwarding of every
// interface comes before those of interfaces, and these come again.
func TestSettingsThatOverwriteOthers(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	b.kernel.Replace("", "eth9", net.HardwareAddr{2, 0, 0, 0, 0, 9})
	all := spec.Setting{Key: "net/ipv4/ip_forward", Value: "1"}
	if err := b.kernel.Set(all); err != nil {
		t.Fatal(err)
	}
	want := forwarding(mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts), "eth9")
	b.bring(want, nil)
	all.Value = "0"
	want.Settings = append(want.Settings, all)
	b.bring(want, want)
	b.setting("net/ipv4/conf/eth9/forwarding", "1")
	b.setting("net/ipv4/conf/"+spec.DirectHost+"/forwarding", "1")
}

// setting compares one of the host's own namespace.
func (b *bench) setting(key, want string) {
	b.Helper()
	s, err := b.kernel.Observe(nil, spec.RouteTable, []spec.Setting{{Key: key}})
	if got, ok := s.Settings[links.SettingKey{Key: key}]; err != nil || !ok || got != want {
		b.Errorf("%s: found %q, %v, wanted %q", key, got, err, want)
	}
}
