package firewall_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// relayHand is the hand for relays on an nft that holds state, with interfaces that come
// and go.
type relayHand struct {
	*testing.T
	*firewall.Relaying
	*hand
	links map[string]any
	ways  *spec.Onward
	// cannot is what nft says of the family netdev, and fault what it says of all but the
	// smallest table.
	cannot, fault error
}

func newRelayHand(t *testing.T) *relayHand {
	h := &relayHand{T: t, hand: newHand(t), links: map[string]any{"eth0": 1, "eth1": 2}}
	h.nft.Devices = func(string) map[string]any { return h.links }
	h.goes("192.0.2.254", "eth0")
	h.Relaying = firewall.RelayingOn(limited{counted{h.hand}, h}, h.run, func(*spec.Doorway) (*spec.Onward, error) { return h.ways, nil })
	return h
}

// limited is the nft of a host that may lack something.
type limited struct {
	counted
	h *relayHand
}

func (l limited) Run(ctx context.Context, namespace, stdin string, args ...string) (string, error) {
	smallest := strings.Contains(stdin, "mobula_can")
	switch {
	case stdin != "" && l.h.cannot != nil:
		return "", l.h.cannot
	case stdin != "" && l.h.fault != nil && !smallest:
		return "", l.h.fault
	}
	return l.counted.Run(ctx, namespace, stdin, args...)
}

// goes has both other hosts be behind a hop on a link.
func (h *relayHand) goes(hop, link string) {
	h.ways = &spec.Onward{Links: []spec.OnwardLink{{Name: link, Index: 7, MTU: 1500}}}
	for _, to := range relays().Doorway.Targets() {
		h.ways.Ways = append(h.ways.Ways, spec.Way{From: netip.MustParseAddr("192.0.2.1"), To: to, Hop: netip.MustParseAddr(hop), Link: link})
	}
}

// relays is the plan of a host that relays to two others.
func relays() *spec.Host {
	h := withDoorway("eth0")
	h.Doorway.Endpoint = netip.MustParseAddr("192.0.2.1")
	h.Doorway.Relays = []spec.Relay{{HostID: 2, Port: 32770, Endpoint: netip.MustParseAddrPort("192.0.2.2:51820")},
		{HostID: 3, Port: 32771, Endpoint: netip.MustParseAddrPort("203.0.113.3:443")}}
	return h
}

// found is what differs, as text.
func (h *relayHand) found(want, previous *spec.Host) ([]reconcile.Operation, string) {
	h.T.Helper()
	ops, err := h.Relaying.Diff(context.Background(), want, previous)
	if err != nil || len(ops) > 1 {
		h.T.Fatalf("found %v, %v", ops, err)
	}
	if len(ops) == 0 {
		return nil, ""
	}
	return ops, ops[0].String()
}

// becomes does what differs, twice, and looks again; "" is for nothing.
func (h *relayHand) becomes(when string, want *spec.Host, text string) {
	h.T.Helper()
	ops, got := h.found(want, want)
	if (text == "") != (got == "") || !strings.Contains(got, text) {
		h.T.Fatalf("%s: found %q, wanted %q", when, got, text)
	}
	for range []int{1, 2} {
		for _, op := range ops {
			if err := op.Do(context.Background()); err != nil {
				h.T.Fatalf("%s: %v", when, err)
			}
		}
	}
	if _, got := h.found(want, want); got != "" {
		h.T.Fatalf("%s: once it is done: found %q", when, got)
	}
}

// stands holds what nft has of it.
func (h *relayHand) stands(when, text string) {
	h.T.Helper()
	if got := h.nft.String(); text == "" && got != "" || !strings.Contains(got, text) {
		h.T.Errorf("%s: found %q, wanted %q", when, got, text)
	}
}

// TestRelayingComesAndGoes walks through what may become of the table and of what it
// follows.
func TestRelayingComesAndGoes(t *testing.T) {
	h := newRelayHand(t)
	h.becomes("new", relays(), "+ relays: table netdev mobula")
	h.stands("new", `fwd ip to 192.0.2.254 device "eth0"`)
	h.goes("192.0.2.253", "eth0")
	h.becomes("another gateway", relays(), "way_1: + counter name relayed fwd ip to 192.0.2.253 device \"eth0\"")
	h.goes("198.51.100.1", "eth1")
	delete(h.links, "eth0")
	h.becomes("another interface", relays(), "outside: + type filter hook ingress devices = { \"eth1\" }")
	h.links = map[string]any{"eth1": 3} // another one of the name
	h.becomes("the interface was made anew", relays(), "somebody else changed the rules")
	h.stands("the interface was made anew", `hook ingress device "eth1"`)
	h.ways = &spec.Onward{}
	h.becomes("no way", relays(), "~ relays: it has no way to another host")
	h.stands("no way", "")
	if h.Unable() == "" {
		t.Error("nobody says that it relays for nobody")
	}
	h.goes("198.51.100.1", "eth1")
	h.becomes("a way again", relays(), "+ relays: table netdev mobula")
	if why := h.Unable(); why != "" {
		t.Errorf("it relays, and is said not to: %s", why)
	}
	h.becomes("gone", &spec.Host{}, "- relays")
	h.stands("gone", "")
	if _, err := os.Stat(filepath.Join(h.run, "relays.json")); !os.IsNotExist(err) {
		t.Errorf("the record is left: %v", err)
	}
}

// TestRelayingFollowsWhatComesWithTheChange: the NIC returns to the host by an operation
// before that of the relays, and it is what comes of that which counts.
func TestRelayingFollowsWhatComesWithTheChange(t *testing.T) {
	h := newRelayHand(t)
	ways := h.ways
	h.ways = &spec.Onward{}
	ops, _ := h.found(relays(), &spec.Host{})
	h.ways = ways
	if len(ops) != 1 || ops[0].Step <= reconcile.StepUplink {
		t.Fatalf("found %v, wanted one after the NIC has moved", ops)
	}
	if err := ops[0].Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	h.becomes("after the change", relays(), "")
	h.stands("after the change", `device "eth0"`)
}

// TestRelayingWhereTheHostCannot: a kernel or an nft(8) without what is needed is no fault
// of the change, and is not tried again and again; another fault is one.
func TestRelayingWhereTheHostCannot(t *testing.T) {
	h := newRelayHand(t)
	h.cannot = errors.New("exit status 1: Error: Could not process rule: Operation not supported")
	h.becomes("it cannot", relays(), "+ relays")
	if why := h.Unable(); !strings.Contains(why, "Operation not supported") {
		t.Errorf("the reason is %q", why)
	}
	h.becomes("nothing new", relays(), "")
	h.cannot = nil
	h.goes("192.0.2.253", "eth0")
	h.becomes("another way, and another kernel", relays(), "~ relays")
	if why := h.Unable(); why != "" {
		t.Errorf("it can, and is said not to: %s", why)
	}
	h.goes("192.0.2.254", "eth0")
	h.fault = errors.New("exit status 1: Error: Could not process rule: Cannot allocate memory")
	ops, _ := h.found(relays(), relays())
	if err := ops[0].Do(context.Background()); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("a fault of the moment: %v", err)
	}
	h.fault = nil
	h.becomes("after it", relays(), "~ relays")
	h.cannot = errors.New("no more")
	h.goes("192.0.2.253", "eth0")
	h.becomes("it cannot any more", relays(), "~ relays")
	h.stands("it cannot any more", "")
	h.becomes("gone", &spec.Host{}, "- relays")
}

// TestNoRelayingCostsNothing: where nothing is relayed so, nobody looks.
func TestNoRelayingCostsNothing(t *testing.T) {
	h := newRelayHand(t)
	h.looks = 0
	if _, got := h.found(&spec.Host{}, withDoorway("eth0")); got != "" || h.looks > 0 {
		t.Errorf("found %q after %d looks", got, h.looks)
	}
	if _, got := h.found(&spec.Host{}, relays()); got != "" || h.looks == 0 {
		t.Errorf("found %q after %d looks, where the plan before had it", got, h.looks)
	}
}
