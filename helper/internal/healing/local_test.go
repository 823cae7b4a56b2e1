package healing

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// TestTwoNetworksBetweenTwoHosts: the agents and WireGuard itself, which knows one endpoint
// at a time and follows what arrives. The first network is broken when they begin; then it
// works and the second one breaks.
func TestTwoNetworksBetweenTwoHosts(t *testing.T) {
	for _, second := range secondNetworks {
		t.Run(second[0], func(t *testing.T) {
			n, broken := twoNetworks(t, second)
			broken.Store("first")
			n.begin(n.phase(n.first, nil))
			n.wantSecondAndFirst(broken)
		})
	}
}

// TestANetworkOfWhichNobodyWasTold: the same where only the agents know the second one, and tell
// each other, for which the first one has to work when they begin.
func TestANetworkOfWhichNobodyWasTold(t *testing.T) {
	for _, second := range secondNetworks {
		t.Run(second[0], func(t *testing.T) {
			n, broken := twoNetworks(t, second)
			n.telling = true
			n.begin(n.phase(n.first, nil))
			for id := range n.hosts {
				works := false
				for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && !works; time.Sleep(50 * time.Millisecond) {
					others := n.hosts[id].state().Peers[0].OtherEndpoints
					works = len(others) == 1 && others[0].Local && others[0].Works
				}
				if !works {
					t.Fatalf("host %d says %+v", id, n.hosts[id].state())
				}
			}
			broken.Store("first")
			n.wantSecondAndFirst(broken)
		})
	}
}

var secondNetworks = [][2]string{{"10.9.0.1:51820", "10.9.0.2:51820"}, {"[2001:db8::1]:51820", "[2001:db8::2]:51820"}}

// twoNetworks returns hosts 1 and 2, and which of their networks is broken.
func twoNetworks(t *testing.T, at [2]string) (*liveNet, *atomic.Value) {
	n := newLiveNet(t, 2*time.Millisecond, 1, 2)
	n.second = map[uint16]netip.AddrPort{1: netip.MustParseAddrPort(at[0]), 2: netip.MustParseAddrPort(at[1])}
	broken := new(atomic.Value)
	n.underlay.Lost = func(_, to netip.AddrPort, m wireguardtest.Message) bool {
		inSecond := to == n.second[1] || to == n.second[2]
		return inSecond && broken.Load() == "second" || !inSecond && broken.Load() == "first"
	}
	for id, h := range n.hosts {
		h.live.Also(n.second[id])
		h.networks = func() ([]netip.Prefix, error) {
			address := n.second[id].Addr()
			return []netip.Prefix{netip.PrefixFrom(address, address.BitLen()-8)}, nil
		}
	}
	return n, broken
}

func (n *liveNet) wantSecondAndFirst(broken *atomic.Value) {
	n.t.Helper()
	n.wantWay(1, 2, func(id uint16) netip.AddrPort { return n.second[id] }, true)
	broken.Store("second")
	time.Sleep(3 * time.Second)
	n.wantWay(1, 2, func(id uint16) netip.AddrPort { return plantest.Host(id).Endpoint }, false)
	for id, other := range map[uint16]uint16{1: 2, 2: 1} {
		s := n.hosts[id].silence(other)
		if s > 3*time.Second { // a tenth of it where nothing else runs
			n.t.Errorf("host %d heard nothing for %v", id, s)
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
