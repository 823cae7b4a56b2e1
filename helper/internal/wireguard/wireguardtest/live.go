package wireguardtest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// Message is the kind of a WireGuard packet, as its first byte says (the protocol's
// white paper, section 5.4).
type Message byte

// The kinds.
const (
	Initiation Message = 1
	Response   Message = 2
	Cookie     Message = 3
	Data       Message = 4
)

// Underlay carries the packets of Live devices in memory.
type Underlay struct {
	// Delay is how long a packet is on its way.
	Delay time.Duration
	// Lost, if it is set, tells that a packet does not arrive. It is called for one
	// packet at a time.
	Lost func(from, to netip.AddrPort, m Message) bool

	mu   sync.Mutex
	live map[netip.AddrPort]*Live
}

// Live is a WireGuard device that speaks the protocol, in memory: wireguard-go, which
// has the timers and limits of Linux' own (drivers/net/wireguard): a peer's handshake
// messages REKEY_TIMEOUT apart at least, answers counted; a session that the responder
// uses only when something came over it; initiations that cross, each of which makes a
// host forget its own. It is a wireguard.Kernel.
type Live struct {
	underlay *Underlay
	at       netip.AddrPort
	also     []netip.AddrPort // where it is, too, each in a /24 of its own
	loops    map[netip.AddrPort]*Loop
	device   *device.Device
	arrived  chan arrival
	sent     chan []byte
	closed   chan struct{}
	bound    chan struct{} // closed with the bind; nil: it is not open
	once     sync.Once
	receive  func(packet []byte)
	events   chan tun.Event
}

// arrival is a packet from the underlay.
type arrival struct {
	packet []byte
	from   netip.AddrPort
}

// NewLive returns a device at an endpoint of the underlay, without a key. It hands IP
// packets that come out of the tunnel to receive.
func NewLive(u *Underlay, at netip.AddrPort, receive func(packet []byte)) (*Live, error) {
	l := newLive(receive)
	l.underlay, l.at, l.arrived = u, at, make(chan arrival, 4096)
	u.mu.Lock()
	if u.live == nil {
		u.live = map[netip.AddrPort]*Live{}
	}
	u.live[at] = l
	u.mu.Unlock()
	return l, l.up((*liveBind)(l))
}

// NewLiveIn returns a device whose UDP sockets are the kernel's, in a named network namespace.
func NewLiveIn(namespace string, receive func(packet []byte)) (*Live, error) {
	l := newLive(receive)
	return l, l.up(&kernelBind{namespace: namespace})
}

func newLive(receive func(packet []byte)) *Live {
	return &Live{sent: make(chan []byte, 1024), closed: make(chan struct{}), receive: receive, events: make(chan tun.Event, 1)}
}

func (l *Live) up(bind conn.Bind) error {
	silent := func(string, ...any) {}
	l.device = device.NewDevice((*liveTUN)(l), bind, &device.Logger{Verbosef: silent, Errorf: silent})
	return l.device.Up()
}

// Also gives the device another address of the underlay, in a /24 that leads to those
// alone who have an address there, too.
func (l *Live) Also(at netip.AddrPort) {
	l.underlay.mu.Lock()
	defer l.underlay.mu.Unlock()
	l.underlay.live[at] = l
	l.also = append(l.also, at)
}

// From returns where packets to an endpoint come from, and whether they get there, as
// the device's own would: for what else uses its port.
func (l *Live) From(to netip.AddrPort, m Message) (from netip.AddrPort, arrives bool) {
	l.underlay.mu.Lock()
	defer l.underlay.mu.Unlock()
	return l.from(to, m)
}

func (l *Live) from(to netip.AddrPort, m Message) (from netip.AddrPort, arrives bool) {
	other := l.underlay.live[to]
	if other == nil {
		return from, false
	}
	if from = l.at; to != other.at {
		i := slices.IndexFunc(l.also, func(own netip.AddrPort) bool {
			return netip.PrefixFrom(own.Addr(), 24).Contains(to.Addr())
		})
		if i < 0 {
			return from, false
		}
		from = l.also[i]
	}
	return from, l.underlay.Lost == nil || !l.underlay.Lost(from, to, m)
}

// Loop is a socket on the loopback interface of a device, which speaks to the device alone, as
// one that is connected does (udp(7), connect(2)).
type Loop struct {
	live    *Live
	at      netip.AddrPort
	packets chan []byte
	closed  chan struct{}
}

// Loop opens one.
func (l *Live) Loop(at netip.AddrPort) *Loop {
	l.underlay.mu.Lock()
	defer l.underlay.mu.Unlock()
	if l.loops == nil {
		l.loops = map[netip.AddrPort]*Loop{}
	}
	l.loops[at] = &Loop{l, at, make(chan []byte, 256), make(chan struct{})}
	return l.loops[at]
}

func (l *Loop) put(packet []byte) {
	select {
	case l.packets <- packet:
	default: // a full buffer drops
	}
}

// Read reads a packet of the device's.
func (l *Loop) Read(b []byte) (int, error) {
	select {
	case p := <-l.packets:
		return copy(b, p), nil
	case <-l.closed:
		return 0, net.ErrClosed
	}
}

// Write sends one to the device.
func (l *Loop) Write(b []byte) (int, error) {
	select {
	case l.live.arrived <- arrival{append([]byte{}, b...), l.at}:
	case <-l.closed:
		return 0, net.ErrClosed
	default:
	}
	return len(b), nil
}

// Close closes it.
func (l *Loop) Close() error {
	l.live.underlay.mu.Lock()
	defer l.live.underlay.mu.Unlock()
	if l.live.loops[l.at] == l {
		delete(l.live.loops, l.at)
		close(l.closed)
	}
	return nil
}

// Send has an IP packet leave through the tunnel.
func (l *Live) Send(packet []byte) {
	select {
	case l.sent <- packet:
	case <-l.closed:
	}
}

// Close ends the device.
func (l *Live) Close() {
	l.once.Do(func() { close(l.closed) })
	l.device.Close()
}

// carry brings a packet to whom it is for.
func (u *Underlay) carry(by *Live, to netip.AddrPort, packet []byte) {
	if len(packet) < 4 {
		return
	}
	u.mu.Lock()
	if to.Addr().IsLoopback() {
		if loop := by.loops[to]; loop != nil {
			loop.put(packet)
		}
		u.mu.Unlock()
		return
	}
	other := u.live[to]
	from, arrives := by.from(to, Message(binary.LittleEndian.Uint32(packet)))
	u.mu.Unlock()
	if !arrives {
		return
	}
	time.AfterFunc(u.Delay, func() {
		select {
		case other.arrived <- arrival{packet, from}:
		default: // a full buffer drops, as that of a socket does
		}
	})
}

// liveBind is the UDP socket of a device.
type liveBind Live

func (b *liveBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	bound := make(chan struct{})
	b.bound = bound
	return []conn.ReceiveFunc{func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
		select {
		case <-bound:
			return 0, net.ErrClosed
		case a := <-b.arrived:
			sizes[0], from[0] = copy(packets[0], a.packet), liveEndpoint(a.from)
			return 1, nil
		case <-b.closed:
			return 0, net.ErrClosed
		}
	}}, b.at.Port(), nil
}

func (b *liveBind) Send(packets [][]byte, to conn.Endpoint) error {
	for _, p := range packets {
		b.underlay.carry((*Live)(b), netip.AddrPort(to.(liveEndpoint)), append([]byte{}, p...))
	}
	return nil
}

func (b *liveBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	return liveEndpoint(at), err
}

// Close ends the receivers, as conn.Bind has it: the device waits for them.
func (b *liveBind) Close() error {
	if b.bound != nil {
		close(b.bound)
		b.bound = nil
	}
	return nil
}

func (b *liveBind) SetMark(uint32) error { return nil }
func (b *liveBind) BatchSize() int       { return 1 }

// liveEndpoint is where packets go or come from.
type liveEndpoint netip.AddrPort

func (e liveEndpoint) ClearSrc()           {}
func (e liveEndpoint) SrcToString() string { return "" }
func (e liveEndpoint) DstToString() string { return netip.AddrPort(e).String() }
func (e liveEndpoint) DstToBytes() []byte  { b, _ := netip.AddrPort(e).MarshalBinary(); return b }
func (e liveEndpoint) DstIP() netip.Addr   { return netip.AddrPort(e).Addr() }
func (e liveEndpoint) SrcIP() netip.Addr   { return netip.Addr{} }

// liveTUN is the network interface of a device.
type liveTUN Live

func (t *liveTUN) Read(packets [][]byte, sizes []int, offset int) (int, error) {
	select {
	case p := <-t.sent:
		sizes[0] = copy(packets[0][offset:], p)
		return 1, nil
	case <-t.closed:
		return 0, os.ErrClosed
	}
}

func (t *liveTUN) Write(packets [][]byte, offset int) (int, error) {
	for _, p := range packets {
		t.receive(append([]byte{}, p[offset:]...))
	}
	return len(packets), nil
}

func (t *liveTUN) Close() error             { return nil }
func (t *liveTUN) File() *os.File           { return nil }
func (t *liveTUN) MTU() (int, error)        { return device.DefaultMTU, nil }
func (t *liveTUN) Name() (string, error)    { return fmt.Sprint("live ", t.at), nil }
func (t *liveTUN) Events() <-chan tun.Event { return t.events }
func (t *liveTUN) BatchSize() int           { return 1 }
