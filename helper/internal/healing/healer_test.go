package healing

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// testNet carries the messages of healers in memory. A pair that is cut loses
// them, unless its packets are relayed.
type testNet struct {
	t       *testing.T
	mu      sync.Mutex
	healers map[uint16]*testHost
	cut     map[[2]uint16]bool
}

// testHost is one healer with its sockets and its WireGuard.
type testHost struct {
	*Healer
	net       *testNet
	id        uint16
	endpoints map[network.Key]netip.AddrPort
}

// testSocket is one socket of a host.
type testSocket struct {
	*testQueue
	host   *testHost
	inside bool
}

func (s *testSocket) Answer(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, to)
}

func (s *testSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if s.isClosed() {
		return 0, net.ErrClosed
	}
	s.host.net.carry(s.host, s.inside, bytes.Clone(b), to)
	return len(b), nil
}

func underlay(id uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(id)}), 51820)
}

func (n *testNet) carry(from *testHost, inside bool, b []byte, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	source, target := underlay(from.id), uint16(to.Addr().As4()[3])
	if inside {
		ranges := from.change.Document.Ranges
		target = ranges.HostID(to.Addr())
		source = netip.AddrPortFrom(ranges.IntrawireAddress(from.id), spec.ProbeUDPPort)
		peer, _ := from.change.Document.Host(target)
		if n.cut[[2]uint16{from.id, target}] && from.endpoints[peer.PublicKey] == underlay(target) {
			return
		}
		self, _ := from.change.Document.Host(from.id)
		if via := from.endpoints[peer.PublicKey]; via != underlay(target) { // roaming
			n.healers[target].endpoints[self.PublicKey] = netip.AddrPortFrom(via.Addr(), 32768+from.id)
		} else {
			n.healers[target].endpoints[self.PublicKey] = underlay(from.id)
		}
	} else if n.cut[[2]uint16{from.id, target}] {
		return
	}
	var socket Socket = n.healers[target].below
	if inside {
		socket = n.healers[target].inside
	}
	socket.(*testSocket).put(testPacket{b, source})
}

// SetEndpoint and Peers make a testHost a device.
func (h *testHost) SetEndpoint(peer network.Key, endpoint netip.AddrPort) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.endpoints[peer] = endpoint
	return nil
}

// ShakeAgain and GiveAllowedIPs are nothing that these hosts have to do.
func (h *testHost) ShakeAgain([]wireguard.PeerState) error           { return nil }
func (h *testHost) GiveAllowedIPs(network.Key, []netip.Prefix) error { return nil }

func (h *testHost) Peers() ([]wireguard.PeerState, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var all []wireguard.PeerState
	for key, endpoint := range h.endpoints {
		all = append(all, wireguard.PeerState{PublicKey: key, Endpoint: endpoint, LastHandshake: time.Now()})
	}
	return all, nil
}

func newTestNet(t *testing.T, hosts uint16) *testNet { return newTestNetIn(t, network.Ranges{}, hosts) }

func newTestNetIn(t *testing.T, ranges network.Ranges, hosts uint16) *testNet {
	t.Helper()
	n := &testNet{t: t, healers: map[uint16]*testHost{}, cut: map[[2]uint16]bool{}}
	document := &network.Document{Format: network.FormatVersion, UnderlayMTU: 1500, Ranges: ranges}
	private := map[network.Key]network.Key{}
	for id := uint16(1); id <= hosts; id++ {
		seed := [32]byte{7, byte(id)} // X25519 ignores three bits of the first byte
		key, err := ecdh.X25519().NewPrivateKey(seed[:])
		if err != nil {
			t.Fatal(err)
		}
		public := network.Key(key.PublicKey().Bytes())
		private[public] = network.Key(seed)
		document.Hosts = append(document.Hosts, network.Host{ID: id, Name: "host", Hostname: string(rune('a'+id-1)) + ".example.com", Endpoint: underlay(id), PublicKey: public})
	}
	ctx, cancel := context.WithCancel(context.Background())
	for id := uint16(1); id <= hosts; id++ {
		h := &testHost{net: n, id: id, endpoints: map[network.Key]netip.AddrPort{}}
		for _, other := range document.Hosts {
			if other.ID != id {
				h.endpoints[other.PublicKey] = other.Endpoint
			}
		}
		socket := func(inside bool) *testSocket {
			return &testSocket{newTestQueue(), h, inside}
		}
		h.Healer = New(Config{Log: quiet(), PrivateKey: func(public network.Key) (network.Key, error) { return private[public], nil }, Names: nobody{}}, 0, socket(true), socket(false), h)
		if err := h.Follow(&store.Change{HostID: id, Document: document}); err != nil {
			t.Fatal(err)
		}
		n.healers[id] = h
	}
	for _, h := range n.healers {
		h.Start(ctx)
	}
	t.Cleanup(func() {
		cancel()
		for _, h := range n.healers {
			h.Stop()
		}
	})
	return n
}

// peer waits until host a says of host b what is wanted.
func (n *testNet) peer(a, b uint16, what string, wanted func(PeerState) bool) PeerState {
	n.t.Helper()
	var last PeerState
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, p := range n.healers[a].state().Peers {
			if p.HostID == b {
				last = p
			}
		}
		if wanted(last) {
			return last
		}
	}
	n.t.Fatalf("%d about %d: wanted %s, found %+v", a, b, what, last)
	return last
}

func TestHealersFindARelay(t *testing.T) {
	n := newTestNet(t, 3)
	for a := uint16(1); a <= 3; a++ {
		for b := uint16(1); b <= 3; b++ {
			if a != b {
				p := n.peer(a, b, "a direct path", func(p PeerState) bool { return p.State == paths.StateUp })
				if p.Via != 0 || p.Generation != "same" || p.LastHeard == nil {
					t.Errorf("%d about %d: found %+v", a, b, p)
				}
			}
		}
	}
	n.mu.Lock()
	n.cut[[2]uint16{1, 2}], n.cut[[2]uint16{2, 1}] = true, true
	n.mu.Unlock()
	relayed := func(p PeerState) bool { return p.State == paths.StateUp && p.Via == 3 }
	n.peer(1, 2, "a relay", relayed)
	n.peer(2, 1, "a relay", relayed)
}

// below sends a direct message to host 1 and returns how many packets host 2
// gets of it within a moment.
func (n *testNet) below(b []byte) int {
	n.t.Helper()
	one, two := n.healers[1], n.healers[2]
	one.takeBelow(one.below, b, underlay(2))
	got := 0
	for {
		select {
		case <-two.below.(*testSocket).packets:
			got++
		default:
			return got
		}
	}
}

func TestDirectMessagesAreVerified(t *testing.T) {
	n := newTestNet(t, 2)
	n.hush() // they would send by themselves
	two := n.healers[2]
	request := probe.Direct{Type: probe.Request, From: 2, To: 1, Sequence: 1, Session: 9, Size: 1472}
	b := request.Append(nil, &two.secrets(1)[0])
	if got := n.below(b); got != 1 {
		t.Errorf("%d answers to a request, wanted 1", got)
	}
	if got := n.below(b); got != 0 {
		t.Errorf("%d answers to a repeated request, wanted none", got)
	}
	b[len(b)-1] ^= 1
	if got := n.below(b); got != 0 {
		t.Errorf("%d answers to a forged request, wanted none", got)
	}
	if got := n.below([]byte("MOBU")); got != 0 {
		t.Errorf("%d answers to nonsense, wanted none", got)
	}
}

func TestMessagesInsideComeFromTheirHost(t *testing.T) {
	testMessagesInside(t, network.Ranges{}, plantest.OtherRanges())
	testMessagesInside(t, plantest.OtherRanges(), network.Ranges{})
}

// testMessagesInside: addresses in other ranges are nobody's.
func testMessagesInside(t *testing.T, ranges, others network.Ranges) {
	n := newTestNetIn(t, ranges, 2)
	n.hush()
	b := probe.Traffic{Type: probe.Request, Sequence: 1, Session: 1}.Append(nil)
	intrawire := netip.AddrPortFrom(ranges.IntrawireAddress(2), spec.ProbeUDPPort)
	for name, c := range map[string]struct {
		from netip.AddrPort
		want int
	}{
		"its own address": {intrawire, 1},
		"another port":    {netip.AddrPortFrom(intrawire.Addr(), 1024), 0},
		"nobody's":        {netip.AddrPortFrom(ranges.IntrawireAddress(3), spec.ProbeUDPPort), 0},
		"in other ranges": {netip.AddrPortFrom(others.IntrawireAddress(2), spec.ProbeUDPPort), 0},
		"a client's":      {netip.AddrPortFrom(ranges.Extrawire().Addr().Next().Next(), spec.ProbeUDPPort), 0},
		"outside":         {netip.MustParseAddrPort("192.0.2.2:6255"), 0},
	} {
		n.healers[1].takeInside(b, c.from)
		if got := len(n.healers[2].inside.(*testSocket).drain()); got != c.want {
			t.Errorf("%s, %s: %d answers, wanted %d", ranges, name, got, c.want)
		}
	}
}

func TestTheLastMessageIsAGoodbye(t *testing.T) {
	n := newTestNet(t, 2)
	one, two := n.healers[1], n.healers[2]
	n.peer(2, 1, "a direct path", func(p PeerState) bool { return p.State == paths.StateUp })
	one.Stop()
	one.inside.(*testSocket).drain()
	two.cancel()
	two.goodbye()
	packets := one.inside.(*testSocket).drain()
	if len(packets) == 0 {
		t.Fatal("nothing was said")
	}
	last, err := probe.ParseTraffic(packets[len(packets)-1].data)
	if err != nil || last.Type != probe.Goodbye || last.Session != two.session {
		t.Errorf("the last message: found %+v, %v", last, err)
	}
	select {
	case <-two.inside.(*testSocket).closed:
	default:
		t.Error("after the goodbye it can still answer")
	}
}

func TestOwnBytes(t *testing.T) {
	// 36 + 28 bytes are a multiple of 16 already; header and tag are 32.
	if got := wireBytes(probe.TrafficSize); got != 96 {
		t.Errorf("found %d bytes, wanted 96", got)
	}
}
