package healing

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// TestTwoNetworksBetweenTwoHosts: the agents and WireGuard itself, which knows one endpoint
// at a time and follows what arrives. The first network is broken when they begin; then it
// works and the second one breaks.
func TestTwoNetworksBetweenTwoHosts(t *testing.T) {
	for _, second := range [][2]string{{"10.9.0.1:51820", "10.9.0.2:51820"}, {"[2001:db8::1]:51820", "[2001:db8::2]:51820"}} {
		t.Run(second[0], func(t *testing.T) { twoNetworks(t, second) })
	}
}

func twoNetworks(t *testing.T, at [2]string) {
	n := newLiveNet(t, 2*time.Millisecond, 1, 2)
	n.second = map[uint16]netip.AddrPort{1: netip.MustParseAddrPort(at[0]), 2: netip.MustParseAddrPort(at[1])}
	first := func(id uint16) netip.AddrPort { return plantest.Host(id).Endpoint }
	second := func(id uint16) netip.AddrPort { return n.second[id] }
	var secondBroken atomic.Bool
	n.underlay.Lost = func(_, to netip.AddrPort, m wireguardtest.Message) bool {
		inSecond := to == second(1) || to == second(2)
		return inSecond == secondBroken.Load()
	}
	for id, h := range n.hosts {
		h.live.Also(second(id))
		h.networks = func() ([]netip.Prefix, error) {
			return []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}, nil
		}
	}
	n.begin()
	n.wantWay(1, 2, second, true)
	secondBroken.Store(true)
	time.Sleep(3 * time.Second)
	n.wantWay(1, 2, first, false)
	for id, other := range map[uint16]uint16{1: 2, 2: 1} {
		s := n.hosts[id].silence(other)
		if s > 3*time.Second { // a tenth of it where nothing else runs
			t.Errorf("host %d heard nothing for %v", id, s)
		}
	}
}

// wantWay fails unless both hosts reach each other at these endpoints, as they say.
func (n *liveNet) wantWay(a, b uint16, at func(uint16) netip.AddrPort, local bool) {
	n.t.Helper()
	for id, other := range map[uint16]uint16{a: b, b: a} {
		var found, told string
		want := fmt.Sprintf("up at %v, local %v", at(other), local)
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && told != want; time.Sleep(50 * time.Millisecond) {
			p := n.hosts[id].state().Peers[0]
			told = fmt.Sprintf("%s at %v, local %v", p.State, p.Endpoint, p.Local)
		}
		states, err := n.hosts[id].device.Peers()
		if err != nil {
			n.t.Fatal(err)
		}
		for _, s := range states {
			if s.PublicKey == n.first[other] {
				found = s.Endpoint.String()
			}
		}
		if told != want || found != at(other).String() {
			n.t.Errorf("%d reaches %d at %s, and says %s, wanted %s", id, other, found, told, want)
		}
	}
}

// TestInterfaceNetworks: networks of the interfaces, as the kernel has them, without those
// of one address and the loopback's.
func TestInterfaceNetworks(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, "there")
	netnstest.Run(t, "there", "ip", "address", "add", "10.9.0.7/24", "dev", "lo")
	netnstest.Run(t, "there", "ip", "address", "add", "192.0.2.7/32", "dev", "lo")
	netnstest.Run(t, "there", "ip", "address", "add", "2001:db8::7/64", "dev", "lo")
	netnstest.Run(t, "there", "ip", "link", "add", spec.AccessLink, "type", "veth", "peer", "name", "other")
	netnstest.Run(t, "there", "ip", "address", "add", "2001:db8:1::7/64", "dev", spec.AccessLink)
	for namespace, want := range map[string][]netip.Prefix{"": nil, "there": {netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}} {
		got, err := interfaceNetworks(namespace)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: found %v, %v, wanted %v", namespace, got, err, want)
		}
	}
}
