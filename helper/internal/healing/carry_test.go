package healing

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// TestCarriedByAnAgent: two hosts have no endpoint, and nothing passes between them. Both speak
// real WireGuard, with each other by the agent of a third one: handshakes, and what follows.
func TestCarriedByAnAgent(t *testing.T) {
	n := newLiveNet(t, time.Millisecond, 1, 2, 3)
	n.hidden = map[uint16]bool{1: true, 2: true}
	one, two := plantest.Host(1).Endpoint, plantest.Host(2).Endpoint
	n.underlay.Lost = func(from, to netip.AddrPort, _ wireguardtest.Message) bool {
		return from == one && to == two || from == two && to == one
	}
	n.begin()
	for _, pair := range [][2]uint16{{1, 2}, {2, 1}} {
		h := n.hosts[pair[0]]
		h.mu.Lock()
		h.Healer.mu.Lock()
		for _, r := range h.engine.Reports(h.now()) {
			if carried := r.Peer == pair[1]; r.Carried != carried || carried && r.Via != 3 {
				t.Errorf("%d reaches %d: %+v", h.id, r.Peer, r)
			}
		}
		h.Healer.mu.Unlock()
		h.mu.Unlock()
	}
	time.Sleep(3 * time.Second)
	for _, pair := range [][2]uint16{{1, 2}, {2, 1}} {
		if gap := n.hosts[pair[0]].silence(pair[1]); gap > 500*time.Millisecond {
			t.Errorf("%d heard nothing of %d for %v", pair[0], pair[1], gap)
		}
	}
}

// noted is a socket that notes what it sends.
type noted struct{ *testQueue }

func (n noted) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	n.put(testPacket{b, to})
	return len(b), nil
}

// TestCarriesForMembers: what is no datagram of WireGuard's, is not from an agent, of whom nobody
// knows, or would go in circles, goes nowhere; and one member does not use up all room.
func TestCarriesForMembers(t *testing.T) {
	n := newLiveNet(t, 0, 1, 2, 3)
	h := n.hosts[1]
	opened := 0
	h.carrier.open = func(at netip.AddrPort) (Local, error) { opened++; return h.live.Loop(at), nil }
	sent := newTestQueue()
	h.carrier.inside = noted{sent}
	h.become(n.phase(n.first, nil))
	from := func(id, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(network.Ranges{}.IntrawireAddress(id), port)
	}
	data := []byte{4, 0, 0, 0, 1, 2, 3}
	good := probe.Carry{Host: 3, Datagram: data}
	for _, c := range []struct {
		what string
		b    []byte
		from netip.AddrPort
	}{
		{"another port", good.Append(nil), from(2, 7001)},
		{"a stranger", good.Append(nil), from(9, spec.CarryUDPPort)},
		{"for a stranger", probe.Carry{Host: 9, Datagram: data}.Append(nil), from(2, spec.CarryUDPPort)},
		{"for the sender", probe.Carry{Host: 2, Datagram: data}.Append(nil), from(2, spec.CarryUDPPort)},
		{"for this host", probe.Carry{Host: 1, Datagram: data}.Append(nil), from(2, spec.CarryUDPPort)},
		{"of a stranger", probe.Carry{On: true, Host: 9, Datagram: data}.Append(nil), from(2, spec.CarryUDPPort)},
		{"no datagram of WireGuard's", probe.Carry{Host: 3, Datagram: []byte("MOBUla")}.Append(nil), from(2, spec.CarryUDPPort)},
		{"no endpoint is known", good.Append(nil), from(2, spec.CarryUDPPort)},
	} {
		if h.takeCarried(c.b, c.from); len(sent.packets) > 0 || opened > 0 {
			t.Errorf("%s: it was carried", c.what)
		}
	}
	observe := func(at netip.AddrPort) {
		h.Healer.mu.Lock()
		h.engine.Observe(h.now(), []paths.Kernel{{Peer: 3, Endpoint: at}})
		h.Healer.mu.Unlock()
	}
	observe(plantest.Host(3).Endpoint)
	if h.takeCarried(good.Append(nil), from(2, spec.CarryUDPPort)); len(sent.packets) != 1 {
		t.Error("what is for host 3 was not carried")
	}
	observe(paths.Carried(51820, 2, 3))
	if h.takeCarried(good.Append(nil), from(2, spec.CarryUDPPort)); len(sent.packets) != 1 {
		t.Error("what is carried itself was carried")
	}
	for i := 0; i < 3; i++ {
		h.takeCarried(probe.Carry{On: true, Host: 3, Datagram: data}.Append(nil), from(2, spec.CarryUDPPort))
	}
	if opened != 1 {
		t.Errorf("found %d sockets for one pair", opened)
	}
	for id := uint16(100); id < 100+2*mostCarried; id++ {
		_, _ = h.pair(paths.Carried(51820, 2, id))
	}
	if opened != mostCarried {
		t.Errorf("found %d sockets, wanted at most %d", opened, mostCarried)
	}
	h.carrier.forget(time.Now().Add(time.Second))
	if len(h.carrier.pairs) > 0 {
		t.Errorf("%d pairs are left that nobody uses", len(h.carrier.pairs))
	}
	h.carrier.close()
	if _, err := h.pair(paths.Carried(51820, 2, 3)); err != net.ErrClosed {
		t.Errorf("after the end found %v", err)
	}
}
