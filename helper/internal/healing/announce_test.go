package healing

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// TestNothingIsSentToPrivateAddressesFromPublicOnes, whoever says that a peer is seen there.
func TestNothingIsSentToPrivateAddressesFromPublicOnes(t *testing.T) {
	n := still(t, 3)
	one := n.healers[1]
	for _, c := range []struct{ own, at, speaks string }{
		{"", "10.7.0.7", "true"}, // where it is itself is not known yet
		{"203.0.113.9/24", "10.7.0.7", "false"}, {"203.0.113.9/24", "192.168.1.7", "false"}, {"203.0.113.9/24", "100.64.3.7", "false"},
		{"203.0.113.9/24", "198.51.100.7", "true"}, {"203.0.113.9/24", "203.0.113.7", "true"},
		{"192.168.1.9/24", "10.7.0.7", "true"}, // it may be routed there
	} {
		one.local = nil
		if c.own != "" {
			one.local = []netip.Prefix{netip.MustParsePrefix(c.own)}
		}
		if got := fmt.Sprint(one.speaks(netip.MustParseAddr(c.at))); got != c.speaks {
			t.Errorf("from %q to %s: found %s, wanted %s", c.own, c.at, got, c.speaks)
		}
	}
}

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

// TestIPv6WithoutEndpoints: two hosts that nobody could send to first tell from where they send over
// IPv6, and try it, wherever that is. No other host is sent to so, and none without room for it.
func TestIPv6WithoutEndpoints(t *testing.T) {
	n := still(t, 2)
	one := n.healers[1]
	one.below6 = one.below
	now := time.Now()
	one.clock = func() time.Time { now = now.Add(2 * time.Second); return now } // or it says otherwise too often
	local := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("2001:db8:1::1/64")}
	one.networks = func() ([]netip.Prefix, error) { return local, nil }
	one.outside6 = func() (netip.Addr, error) { return netip.MustParseAddr("2001:db8:1::a"), nil }
	peer := one.peers[2]
	said := []netip.Addr{netip.MustParseAddr("fd00::7"), netip.MustParseAddr("2001:db8:2::7"), netip.MustParseAddr("2001:db8:2::8"), netip.MustParseAddr("2001:db8:1::7")}
	for _, c := range []struct {
		what              string
		self, other, room bool // without an endpoint, and room for IPv6
		tells, tried      string
	}{
		{"neither", false, false, true, "[10.9.0.1 2001:db8:1::1]", "[[2001:db8:1::7]:51820]"},
		{"this one", true, false, true, "[2001:db8:1::a 10.9.0.1 2001:db8:1::1]", "[[2001:db8:1::7]:51820]"},
		{"the other one", false, true, true, "[10.9.0.1 2001:db8:1::1]", "[[2001:db8:1::7]:51820]"},
		{"both", true, true, true, "[2001:db8:1::a 10.9.0.1 2001:db8:1::1]", "[[2001:db8:1::7]:51820 [2001:db8:2::7]:51820]"},
		{"both, without room", true, true, false, "[10.9.0.1 2001:db8:1::1]", "[[2001:db8:1::7]:51820]"},
	} {
		one.self.Endpoint, one.self.WireGuardPort = netip.MustParseAddrPort("192.0.2.1:51820"), 51820
		peer.host.Endpoint, peer.host.WireGuardPort = netip.MustParseAddrPort("192.0.2.2:51820"), 51820
		if c.self {
			one.self.Endpoint = netip.AddrPort{}
		}
		if c.other {
			peer.host.Endpoint = netip.AddrPort{}
		}
		one.hasIPv6, one.from6, one.lookedAt, peer.announced.all = c.room, netip.Addr{}, time.Time{}, nil
		one.lookAtNetworks()
		one.takeInside(probe.Traffic{Session: 1}.AppendAddresses(nil, said), intrawire(2))
		if got := fmt.Sprint(one.tells); got != c.tells {
			t.Errorf("%s: tells %s, wanted %s", c.what, got, c.tells)
		}
		if got := fmt.Sprint(peer.announced.tried); got != c.tried {
			t.Errorf("%s: tries %s, wanted %s", c.what, got, c.tried)
		}
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
