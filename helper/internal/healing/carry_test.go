package healing

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/metrics"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/report"
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
	n.begin(n.phase(n.first, nil))
	for _, pair := range [][2]uint16{{1, 2}, {2, 1}} {
		h := n.hosts[pair[0]]
		carried := func() bool {
			h.Healer.mu.Lock()
			defer h.Healer.mu.Unlock()
			for _, r := range h.engine.Reports(h.now()) {
				if r.Peer == pair[1] {
					return r.Carried && r.Via == 3
				}
			}
			return false
		}
		for deadline := time.Now().Add(10 * time.Second); !carried(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d does not have host 3 carry for %d", h.id, pair[1])
			}
		}
	}
	time.Sleep(3 * time.Second)
	for _, w := range n.hosts[1].view().Ways {
		if want := map[uint16]report.Kind{2: report.Carried, 3: report.Direct}[w.To]; w.Kind != want {
			t.Errorf("host 1 says %+v of its way, wanted %q", w, want)
		}
	}
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
	good, on := probe.Carry{Host: 3, Datagram: data}, probe.Carry{On: true, Host: 3, Datagram: data}
	nothing := func(what string, b []byte, at netip.AddrPort) {
		t.Helper()
		if h.takeCarried(b, at); len(sent.drain()) > 0 || opened > 0 {
			t.Errorf("%s: it was carried", what)
		}
	}
	two := from(2, spec.CarryUDPPort)
	nothing("no endpoint is known", good.Append(nil), two)
	nothing("the relay has no endpoint", on.Append(nil), two)
	observe := func(two, three netip.AddrPort) paths.Output {
		h.Healer.mu.Lock()
		defer h.Healer.mu.Unlock()
		h.engine.Observe(h.now(), []paths.Kernel{{Peer: 2, Endpoint: two}, {Peer: 3, Endpoint: three}})
		h.tellCarrier()
		return h.engine.Take()
	}
	observe(plantest.Host(2).Endpoint, plantest.Host(3).Endpoint)
	nothing("another port", good.Append(nil), from(2, 7001))
	nothing("a stranger", good.Append(nil), from(9, spec.CarryUDPPort))
	nothing("for a stranger", probe.Carry{Host: 9, Datagram: data}.Append(nil), two)
	nothing("for the sender", probe.Carry{Host: 2, Datagram: data}.Append(nil), two)
	nothing("for this host", probe.Carry{Host: 1, Datagram: data}.Append(nil), two)
	nothing("of a stranger", probe.Carry{On: true, Host: 9, Datagram: data}.Append(nil), two)
	if _, refused := h.carrier.metrics(); refused != 8 {
		t.Errorf("%d messages of which nothing was taken are counted, wanted 8", refused)
	}
	nothing("no datagram of WireGuard's", probe.Carry{Host: 3, Datagram: []byte("MOBUla")}.Append(nil), two)
	if h.takeCarried(good.Append(nil), two); len(sent.drain()) != 1 {
		t.Error("what is for host 3 was not carried")
	}
	if n, _ := h.carrier.metrics(); n.Others != (metrics.Volume{Datagrams: 1, Bytes: uint64(len(data))}) {
		t.Errorf("found %+v, wanted what was carried for others counted", n)
	}
	for i := 0; i < 3; i++ {
		h.takeCarried(on.Append(nil), two)
	}
	if opened != 1 {
		t.Errorf("found %d sockets for one pair", opened)
	}
	if n, _ := h.carrier.metrics(); n.Own.Datagrams != 3 {
		t.Errorf("found %+v, wanted the three that came for this host counted", n)
	}
	// Host 2 has given its own packet for one of host 3: WireGuard sends what is for host 2 there.
	out := observe(paths.Carried(2, 3), plantest.Host(3).Endpoint)
	if len(out.Routes) != 1 || out.Routes[0].Endpoint != plantest.Host(2).Endpoint || len(out.Distrusted) != 1 || out.Distrusted[0] != paths.Carried(2, 3) {
		t.Errorf("found %+v, wanted that WireGuard sends to host 2 as before, and the pair distrusted", out)
	}
	if first, again := h.carrier.distrust(paths.Carried(2, 3)), h.carrier.distrust(paths.Carried(2, 3)); !first || again {
		t.Errorf("found %v and %v, wanted it told once", first, again)
	}
	if h.takeCarried(on.Append(nil), two); opened != 1 || len(h.carrier.pairs) > 0 {
		t.Error("something was taken that is not to be trusted")
	}
	if err := h.beCarried(paths.Carried(2, 3)); err != nil || h.carrier.pairs[paths.Carried(2, 3)] == nil {
		t.Errorf("what WireGuard is about to send to has no pair: %v", err)
	}
	h.carrier.forget(time.Now().Add(time.Second))
	observe(plantest.Host(2).Endpoint, paths.Carried(2, 3))
	if h.takeCarried(good.Append(nil), two); len(sent.drain()) > 0 {
		t.Error("what is carried itself was carried")
	}
	for id := uint16(100); id < 100+2*mostOfOne; id++ {
		_, _ = h.cameCarried(2, id)
	}
	if len(h.carrier.pairs) != mostOfOne {
		t.Errorf("found %d pairs of one relay, wanted at most %d", len(h.carrier.pairs), mostOfOne)
	}
	for id := uint16(1000); id < 1000+mostCarried; id++ {
		if err := h.beCarried(paths.Carried(3, id)); err != nil || len(h.carrier.pairs) > mostCarried {
			t.Fatalf("found %v, and %d pairs", err, len(h.carrier.pairs))
		}
	}
	if err := h.beCarried(paths.Carried(3, 7)); err == nil || len(h.carrier.pairs) > mostCarried {
		t.Errorf("found %v, wanted that what is in use stays", err)
	}
	h.carrier.forget(time.Now().Add(time.Second))
	if len(h.carrier.pairs) > 0 {
		t.Errorf("%d pairs are left that nobody uses", len(h.carrier.pairs))
	}
	h.carrier.close()
	if err := h.beCarried(paths.Carried(2, 3)); err != net.ErrClosed {
		t.Errorf("after the end found %v", err)
	}
}

// TestHalves of datagrams come in any order, twice, and without the other one.
func TestHalves(t *testing.T) {
	p := &pair{}
	whole := func(number uint16, size int) (first, second probe.Carry, data []byte) {
		data = bytes.Repeat([]byte{byte(number)}, size)
		both := probe.Carry{Number: number, Datagram: data}.Cut(size)
		return both[0], both[1], data
	}
	for number := uint16(0); number < 100; number++ {
		first, second, data := whole(number, 1472+int(number)%2)
		_, lost, _ := whole(number+1000, 1400)
		if number%3 == 0 {
			p.join(lost)
		}
		if number%2 == 0 {
			first, second = second, first
		}
		if got := p.join(first); got != nil {
			t.Errorf("one half became %d bytes", len(got))
		}
		if got := p.join(second); !bytes.Equal(got, data) {
			t.Errorf("number %d: found %d bytes, wanted %d", number, len(got), len(data))
		}
	}
	if got := p.join(probe.Carry{Datagram: []byte{1}}); len(got) != 1 {
		t.Errorf("all of a datagram became %v", got)
	}
}
