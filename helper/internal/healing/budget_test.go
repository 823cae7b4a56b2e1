package healing

import (
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/bucket"
	"mobula/helper/internal/network"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
)

// silent returns healers that send nothing by themselves and whose budgets do not
// fill up while a slow machine computes.
func silent(t *testing.T, hosts uint16) *testNet {
	n := newTestNet(t, hosts)
	n.hush()
	for _, h := range n.healers {
		h.clock = func() time.Time { return time.Unix(0, 0) }
		// What they said to each other before they were silent counts no more.
		h.echoes, h.macs = bucket.Bucket{}, [sources]bucket.Bucket{}
		for _, r := range h.peers {
			r.ownEchoes, r.echoes, r.macs = bucket.Bucket{}, bucket.Bucket{}, bucket.Bucket{}
		}
	}
	return n
}

// TestOneMemberDoesNotUseUpTheEchoes: members that ask as often as they can, in
// the tunnel and below it, leave another one what its own path needs, and one
// alone leaves more.
func TestOneMemberDoesNotUseUpTheEchoes(t *testing.T) {
	n := silent(t, 12)
	one := n.healers[1]
	ask := func(id uint16, times int) (inside, below int) {
		h := n.healers[id]
		for i := 1; i <= times; i++ {
			b := probe.Traffic{Type: probe.Request, Sequence: uint32(i), Session: 9}.Append(nil)
			one.takeInside(b, netip.AddrPortFrom(network.Ranges{}.IntrawireAddress(id), spec.ProbeUDPPort))
			b = probe.Direct{Type: probe.Request, From: id, To: 1, Sequence: uint32(i), Session: 9}.Append(nil, &h.secrets(1)[0])
			one.takeBelow(one.below, b, underlay(id))
			inside += len(h.inside.(*testSocket).drain())
			below += len(h.below.(*testSocket).drain())
		}
		return inside, below
	}
	if inside, below := ask(2, 1000); inside+below < 32 || inside+below > 400 {
		t.Errorf("host 2 got %d and %d answers to 1000 requests each, wanted some", inside, below)
	} else if p := one.state().Peers; p[0].Unanswered+p[0].Unverified != uint64(2000-inside-below) || p[0].Unverified == 0 || p[1].Unanswered+p[1].Unverified > 0 {
		t.Errorf("of host 2, with %d answers, %d and %d requests are told refused, of 3, which asked nothing, %d and %d",
			inside+below, p[0].Unanswered, p[0].Unverified, p[1].Unanswered, p[1].Unverified)
	}
	if inside, below := ask(3, 40); inside != 40 || below != 40 {
		t.Errorf("after one that asked too often another one got %d and %d answers, wanted all 40", inside, below)
	}
	for id := uint16(4); id <= 11; id++ {
		ask(id, 1000)
	}
	if inside, below := ask(12, 16); inside != 16 || below != 16 {
		t.Errorf("after many that asked too often another one got %d and %d answers, wanted its own 16", inside, below)
	}
}

// TestStrangersDoNotMakeItCompute: whoever has no key is soon not even verified,
// and takes nothing away from the peer in whose name it speaks.
func TestStrangersDoNotMakeItCompute(t *testing.T) {
	n := silent(t, 2)
	one, two := n.healers[1], n.healers[2]
	stranger, moved := netip.MustParseAddrPort("198.51.100.2:51820"), netip.MustParseAddrPort("203.0.113.2:4000")
	for one.source(stranger.Addr()) == one.source(moved.Addr()) {
		b := moved.Addr().As4()
		b[2]++
		moved = netip.AddrPortFrom(netip.AddrFrom4(b), moved.Port())
	}
	sequence := uint32(0)
	answered := func(from netip.AddrPort) bool {
		sequence++
		b := probe.Direct{Type: probe.Request, From: 2, To: 1, Sequence: sequence, Session: 9}.Append(nil, &two.secrets(1)[0])
		two.below.(*testSocket).drain()
		one.takeBelow(one.below, b, from)
		return len(two.below.(*testSocket).drain()) > 0
	}
	forged := probe.Direct{Type: probe.Request, From: 2, To: 1, Sequence: 1 << 20, Session: 1 << 40}.Append(nil, &probe.Secret{1})
	for i := 0; i < 5000; i++ {
		one.takeBelow(one.below, forged, stranger)
	}
	if s := one.state(); s.Unverified != 5000-sourceMACsPerSecond || s.Peers[0].Unverified > 0 {
		t.Errorf("of 5000 forged messages, %d are told unverified, and %d of the peer, wanted %d and none", s.Unverified, s.Peers[0].Unverified, 5000-sourceMACsPerSecond)
	}
	if answered(stranger) {
		t.Error("what a stranger sent was still verified after 5000 forged messages")
	}
	if !answered(underlay(2)) {
		t.Error("the peer is not answered any more")
	}
	if !answered(moved) {
		t.Error("the peer is not answered at a new address")
	}
	before := one.state().Unverified
	for i := 0; i < 1000; i++ { // with the peer's source address, as at its new one
		one.takeBelow(one.below, forged, underlay(2))
	}
	if s := one.state(); s.Peers[0].Unverified < 400 || s.Peers[0].Unverified > 600 || s.Unverified != before {
		t.Errorf("of 1000 forged messages from the peer's address, %d are told unverified, and %d of strangers, wanted about half and none", s.Peers[0].Unverified, s.Unverified-before)
	}
}
