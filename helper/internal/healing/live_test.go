package healing

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// liveNet is a network of hosts whose healers work on devices that speak WireGuard.
type liveNet struct {
	t        *testing.T
	underlay *wireguardtest.Underlay
	private  map[network.Key]network.Key
	second   map[uint16]netip.AddrPort // other endpoints, by host
	telling  bool                      // of which the document does not know
	hidden   map[uint16]bool           // hosts without an endpoint in the document
	shifts   map[uint16]uint16         // by how much the ports of these differ from others'
	// dataEvery is how often each host sends to each other one.
	dataEvery time.Duration
	first     map[uint16]network.Key // by host
	other     map[uint16]network.Key
	hosts     map[uint16]*liveHost
}

// liveHost is one of them.
type liveHost struct {
	*Healer
	net    *liveNet
	id     uint16
	live   *wireguardtest.Live
	device *wireguard.Device
	has    *spec.Host

	sent  atomic.Int64 // packets that are not its agent's, to each host
	mu    sync.Mutex
	heard map[uint16]int64     // of each host, how many it had sent when one came
	gaps  map[uint16]int64     // the most that it sent without that one came
	since map[uint16]time.Time // when the first one came
}

// dataPort is where the packets go that are not the agents'.
const dataPort = 9

// PrivateKey makes a liveNet a KeyStore.
func (n *liveNet) PrivateKey(public network.Key) (network.Key, error) {
	private, known := n.private[public]
	if !known {
		return private, errors.New("no private key for " + public.String())
	}
	return private, nil
}

// newLiveNet returns hosts that do not talk yet, with two keys each.
func newLiveNet(t *testing.T, delay time.Duration, ids ...uint16) *liveNet {
	t.Helper()
	n := emptyLiveNet(t, delay, ids...)
	for _, id := range ids {
		h := n.newHost(id)
		inside, below := &liveSocket{newTestQueue(), h, true, false}, &liveSocket{newTestQueue(), h, false, false}
		carried := &liveSocket{newTestQueue(), h, true, false}
		live, err := wireguardtest.NewLive(n.underlay, plantest.Host(id).Endpoint, func(packet []byte) { h.take(inside, carried, packet) })
		if err != nil {
			t.Fatal(err)
		}
		h.begins(live, inside, carried, below, func(at netip.AddrPort) (Local, error) { return live.Loop(at), nil })
		h.below6 = &liveSocket{newTestQueue(), h, false, true}
	}
	return n
}

// emptyLiveNet returns a network whose hosts have keys, and nothing else yet.
func emptyLiveNet(t *testing.T, delay time.Duration, ids ...uint16) *liveNet {
	t.Helper()
	n := &liveNet{t: t, underlay: &wireguardtest.Underlay{Delay: delay}, private: map[network.Key]network.Key{},
		dataEvery: 20 * time.Millisecond, first: map[uint16]network.Key{}, other: map[uint16]network.Key{}, hosts: map[uint16]*liveHost{}}
	for _, id := range ids {
		for _, keys := range []map[uint16]network.Key{n.first, n.other} {
			private, err := wireguard.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			keys[id] = wireguard.PublicKey(private)
			n.private[keys[id]] = private
		}
	}
	t.Cleanup(func() {
		for _, h := range n.hosts {
			if h.cancel != nil {
				h.Stop()
			}
			h.live.Close()
		}
	})
	return n
}

func (n *liveNet) newHost(id uint16) *liveHost {
	n.hosts[id] = &liveHost{net: n, id: id, heard: map[uint16]int64{}, gaps: map[uint16]int64{}, since: map[uint16]time.Time{}}
	return n.hosts[id]
}

// begins gives a host its device and an agent on these sockets.
func (h *liveHost) begins(live *wireguardtest.Live, inside, carried *liveSocket, below Answering, open func(netip.AddrPort) (Local, error)) {
	h.live, h.device = live, wireguard.On(live, spec.WireLink, h.net)
	h.Healer = New(Config{Log: quiet(), PrivateKey: h.net.PrivateKey, Names: nobody{}}, 0, inside, below, h.device)
	h.carrier = h.newCarrier(carried, open)
}

// phase returns the document in which hosts have these keys.
func (n *liveNet) phase(public, also map[uint16]network.Key) *network.Document {
	var hosts []network.Host
	for id := range n.hosts {
		h := plantest.Host(id)
		h.PublicKey, h.AlsoKey = public[id], also[id]
		if n.hidden[id] {
			h.Endpoint, h.WireGuardPort = netip.AddrPort{}, h.Endpoint.Port()+n.shifts[id]
		}
		if at, ok := n.second[id]; ok && !n.telling {
			if others := []network.OtherEndpoint{{Endpoint: at}}; at.Addr().Is6() {
				h.IPv6Endpoints, h.SharedUplink = others, true
			} else {
				h.OtherEndpoints = others
			}
		}
		hosts = append(hosts, h)
	}
	return plantest.Document(hosts...)
}

// become changes the host's WireGuard, and then has its agent follow.
func (h *liveHost) become(d *network.Document) {
	h.net.t.Helper()
	facts := plantest.Facts()
	if self, _ := d.Host(h.id); self.SharedUplink {
		facts = &spec.Facts{Shared: &spec.Shared{Outside: []string{"eth0"}}}
	}
	want, err := plan.Build(d, h.id, *facts)
	if err != nil {
		h.net.t.Error(err)
		return
	}
	ops, err := h.device.Diff(context.Background(), want, h.has)
	for _, op := range ops {
		err = errors.Join(err, op.Do(context.Background()))
	}
	h.has = want
	if err := errors.Join(err, h.Follow(&store.Change{HostID: h.id, Document: d})); err != nil {
		h.net.t.Error(err)
	}
}

// begin has all hosts come to a document, and talk.
func (n *liveNet) begin(d *network.Document) {
	n.t.Helper()
	for _, h := range n.hosts {
		h.become(d)
	}
	for _, h := range n.hosts {
		h.Start(context.Background())
		time.Sleep(10 * n.underlay.Delay) // or their handshakes may cross
	}
	for _, h := range n.hosts {
		go h.talk()
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		talking := 0
		for _, h := range n.hosts {
			h.mu.Lock()
			talking += len(h.heard)
			h.mu.Unlock()
		}
		if talking == len(n.hosts)*(len(n.hosts)-1) {
			break
		}
		if time.Now().After(deadline) {
			n.t.Fatal("the hosts do not talk")
		}
	}
	for _, h := range n.hosts {
		h.mu.Lock()
		clear(h.gaps)
		h.mu.Unlock()
	}
}

// talk sends to all others.
func (h *liveHost) talk() {
	for tick := time.NewTicker(h.net.dataEvery); ; <-tick.C {
		select {
		case <-h.inside.(*liveSocket).closed:
			tick.Stop()
			return
		default:
		}
		h.sent.Add(1)
		for id := range h.net.hosts {
			if id != h.id {
				h.live.Send(datagram(h.id, id, dataPort, []byte("hello")))
			}
		}
	}
}

// silence is the longest time in which a host heard nothing of the other, until now. Time
// in which the other sends nothing, because it has no processor, is none.
func (h *liveHost) silence(of uint16) time.Duration {
	now := h.silent(of)
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(time.Duration(h.gaps[of])*h.net.dataEvery, now)
}

// silent is how long it has heard nothing of the other by now.
func (h *liveHost) silent(of uint16) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(h.net.hosts[of].sent.Load()-h.heard[of]) * h.net.dataEvery
}

// datagram is UDP in IPv4 between intrawire addresses, with the same port at both ends.
func datagram(from, to, port uint16, data []byte) []byte {
	b := make([]byte, 28, 28+len(data))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(data)))
	source, target := network.Ranges{}.IntrawireAddress(from).As4(), network.Ranges{}.IntrawireAddress(to).As4()
	copy(b[12:], source[:])
	copy(b[16:], target[:])
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(data)))
	return append(b, data...)
}

// take handles a packet that came out of the tunnel.
func (h *liveHost) take(inside, carried *liveSocket, b []byte) {
	from, _ := netip.AddrFromSlice(b[12:16])
	port := binary.BigEndian.Uint16(b[22:])
	if port == spec.CarryUDPPort {
		carried.put(testPacket{b[28:], netip.AddrPortFrom(from, port)})
		return
	}
	if port != dataPort {
		inside.put(testPacket{b[28:], netip.AddrPortFrom(from, port)})
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := network.Ranges{}.HostID(from)
	now := h.net.hosts[id].sent.Load()
	if h.heard[id] == 0 {
		h.since[id] = time.Now()
	}
	h.gaps[id] = max(h.gaps[id], now-h.heard[id])
	h.heard[id] = now
}

// probing is what a direct message counts as: it takes the way of data.
const probing = wireguardtest.Data

// liveSocket is a socket of an agent, in the tunnel or on the underlay.
type liveSocket struct {
	*testQueue
	host   *liveHost
	inside bool
	six    bool // of IPv6
}

func (s *liveSocket) Answer(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, to)
}

func (s *liveSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if s.isClosed() {
		return 0, net.ErrClosed
	}
	if s.inside {
		s.host.live.Send(datagram(s.host.id, network.Ranges{}.HostID(to.Addr()), to.Port(), b))
		return len(b), nil
	}
	if to.Addr().Is6() != s.six { // as a socket of one family does (EINVAL)
		return 0, syscall.EINVAL
	}
	data := append([]byte{}, b...)
	from, arrives := s.host.live.From(to, probing)
	for id, h := range s.host.net.hosts {
		if at := plantest.Host(id).Endpoint; arrives && (at == to || s.host.net.second[id] == to) {
			time.AfterFunc(s.host.net.underlay.Delay, func() { h.beside(to.Addr()).(*liveSocket).put(testPacket{data, from}) })
		}
	}
	return len(b), nil
}
