package healing

import (
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
)

// TestWhatMessagesSayBesides: a host tells in each message with how many it has traffic,
// its answers to others among them, and hears what others say of dead ones. From one of
// the version before it hears nothing.
func TestWhatMessagesSayBesides(t *testing.T) {
	n := silent(t, 3)
	one, two := n.healers[1], n.healers[2]
	many := manyPeers(t)
	one.mu.Lock()
	one.engine, one.began = many, time.Now().Add(-time.Minute)
	one.mu.Unlock()
	from := netip.AddrPortFrom(network.Ranges{}.IntrawireAddress(2), spec.ProbeUDPPort)
	request := probe.Traffic{Type: probe.Request, Sequence: 1, Session: 9, Aside: probe.Aside{Busy: 77}}
	one.takeInside(request.Append(nil), from)
	echo := false
	for _, p := range two.inside.(*testSocket).drain() {
		m, err := probe.ParseTraffic(p.data)
		if err != nil {
			t.Fatal(err)
		}
		echo = echo || m.Type == probe.Echo
		if m.Aside != (probe.Aside{Busy: 2}) {
			t.Errorf("found %+v in a message of a host that has traffic with two", m.Aside)
		}
	}
	if !echo {
		t.Fatal("no echo")
	}
	refused := func(dead func(i uint16) uint16) uint64 {
		before := one.engine.Stats().RumorsRefused
		for i := uint16(10); i < 60; i++ {
			one.takeInside(probe.Traffic{Type: probe.Goodbye, Aside: probe.Aside{Dead: dead(i)}}.Append(nil), from)
		}
		return one.engine.Stats().RumorsRefused - before
	}
	if got := refused(func(uint16) uint16 { return 0 }); got != 0 {
		t.Errorf("%d refused of a host that says nothing", got)
	}
	if got := refused(func(i uint16) uint16 { return i }); got < 30 || got == 50 {
		t.Errorf("%d of 50 refused of a host that says that 50 are dead, wanted most, as they were heard", got)
	}
}

// manyPeers returns an engine that has heard each of 400 peers, and has traffic with two.
func manyPeers(t *testing.T) *paths.Engine {
	t.Helper()
	e := paths.New(paths.Config{Self: 1}, 1)
	var peers []paths.Peer
	for id := uint16(2); id <= 401; id++ {
		peers = append(peers, paths.Peer{ID: id, Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(id >> 8), byte(id)}), 51820)})
	}
	e.SetPeers(0, paths.Config{Self: 1}, peers)
	for now := 5 * time.Millisecond; now < 3*time.Second; now += 5 * time.Millisecond {
		e.Tick(now)
		for _, p := range e.Take().Probes {
			e.Echo(now+time.Millisecond, p.Peer, p.Plane, p.Full, p.Sequence)
		}
	}
	for i := int64(0); i < 3; i++ {
		e.Observe(3*time.Second+time.Duration(i)*time.Second, []paths.Kernel{{Peer: 2, ReceiveBytes: i * 100_000}, {Peer: 3, ReceiveBytes: i * 100_000}})
	}
	return e
}
