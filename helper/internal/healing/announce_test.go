package healing

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// TestAnnouncedAddresses: a peer is tried where this host is, too, and nowhere else.
func TestAnnouncedAddresses(t *testing.T) {
	n := still(t, 3)
	one := n.healers[1]
	one.renew(t)
	now := time.Now()
	one.clock = func() time.Time { now = now.Add(2 * time.Second); return now } // or it says otherwise too often
	own := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("10.30.0.9/16")}
	one.networks = func() ([]netip.Prefix, error) { return own, nil }
	one.lookedAt = time.Time{}
	one.lookAtNetworks()
	var said []netip.Addr
	for _, a := range []string{"10.9.0.1", "10.9.0.0", "10.9.0.255", "10.9.0.7", "198.51.100.7", "10.30.0.5", "192.0.2.2", "127.0.0.1"} {
		said = append(said, netip.MustParseAddr(a))
	}
	one.takeInside(probe.Traffic{Session: 1}.AppendAddresses(nil, said), intrawire(2))
	near := func() (all []string) {
		for _, e := range one.state().Peers[0].OtherEndpoints {
			if e.Local {
				all = append(all, e.Endpoint.String())
			}
		}
		return all
	}
	if got := near(); !slices.Equal(got, []string{"10.9.0.7:51820"}) {
		t.Errorf("tried at %v", got)
	}
	one.below6 = one.below
	own, one.lookedAt = append(own, netip.MustParsePrefix("2001:db8::1/64")), time.Time{}
	one.lookAtNetworks()
	for want, said := range map[string][]netip.Addr{
		"10.9.0.7:51820":      {netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("10.9.0.7")}, // in fragments it would be
		"[2001:db8::7]:51820": {netip.MustParseAddr("2001:db8::7")},
	} {
		one.takeInside(probe.Traffic{Session: 1}.AppendAddresses(nil, said), intrawire(2))
		if got := near(); !slices.Equal(got, []string{want}) {
			t.Errorf("%v: tried at %v, wanted %v", said, got, want)
		}
	}
	one.takeInside(probe.Traffic{Session: 1}.AppendAddresses(nil, said), intrawire(2))
	one.takeInside(probe.Traffic{Type: probe.Request, Session: 1}.Append(nil), intrawire(2))
	if len(near()) == 0 {
		t.Error("forgotten, though it is the same agent")
	}
	one.takeInside(probe.Traffic{Type: probe.Request, Session: 2}.Append(nil), intrawire(2))
	if got := near(); len(got) > 0 {
		t.Errorf("what an agent said that has ended is tried at %v", got)
	}
	one.takeInside(probe.Traffic{Session: 2}.AppendAddresses(nil, said), intrawire(2))
	document := *one.change
	one.change = nil
	if err := one.Follow(&document); err != nil || len(near()) != 1 {
		t.Errorf("with the document again tried at %v, %v", near(), err)
	}
	own, one.lookedAt = nil, time.Time{}
	if one.lookAtNetworks(); len(near()) > 0 {
		t.Errorf("out of that network tried at %v", near())
	}
}

// TestOwnAddressesAreTold: to who asks, again as a message may be lost, at once to an agent that
// has begun anew and when they are others; not where there is nothing to tell.
func TestOwnAddressesAreTold(t *testing.T) {
	n := still(t, 2)
	one, two := n.healers[1], n.healers[2]
	now := time.Now()
	one.clock = func() time.Time { return now }
	told := func(session uint64) (all [][]netip.Addr) {
		two.inside.(*testSocket).drain()
		one.takeInside(probe.Traffic{Type: probe.Request, Sequence: 1, Session: session}.Append(nil), intrawire(2))
		for _, m := range two.inside.(*testSocket).drain() {
			if probe.Type(m.data[1]) == probe.OwnAddresses {
				all = append(all, probe.Addresses(m.data))
			}
		}
		return all
	}
	want := func(when string, got [][]netip.Addr, want ...string) {
		t.Helper()
		var all []string
		for _, a := range slices.Concat(got...) {
			all = append(all, a.String())
		}
		if len(got) > 1 || !slices.Equal(all, want) {
			t.Errorf("%s: told %v, wanted %v once", when, got, want)
		}
	}
	look := func(local ...string) {
		one.networks = func() (all []netip.Prefix, err error) {
			for _, n := range local {
				all = append(all, netip.MustParsePrefix(n))
			}
			return all, nil
		}
		one.lookedAt = time.Time{}
		one.lookAtNetworks()
	}
	want("nothing", told(1))
	look("192.0.2.1/24", "10.9.0.7/24", "10.31.200.7/16")
	want("at first", told(1), "10.9.0.7") // the first is its endpoint, the last one in the network itself
	want("at once again", told(1))
	now = now.Add(firstTelling)
	want("later", told(1), "10.9.0.7")
	now = now.Add(firstTelling)
	want("as soon again", told(1))
	want("an agent that has begun anew", told(2), "10.9.0.7")
	look("10.9.0.8/24")
	want("others", told(2), "10.9.0.8")
	look()
	got := told(2)
	want("none any more", got)
	if len(got) != 1 {
		t.Error("that there are none any more was not told")
	}
	again := 0
	for i := 0; i < 10; i++ {
		now = now.Add(mostTelling)
		again += len(told(2))
	}
	if again != 2 || len(told(3)) > 0 {
		t.Errorf("that there are none was told %d times more", again)
	}
}
