package healing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
)

const (
	// mostCarried is how many pairs of a relay and a host are open at a time, and mostOfOne how
	// many of one relay that came by themselves: a member may claim anything of any host.
	mostCarried = 512
	mostOfOne   = 64
	// carriedFor is how long a pair is kept without a packet. A peer sends one each 25 s.
	carriedFor = 2 * time.Minute
	// distrustedFor is how long nothing is taken of a pair by which one host's packets came as
	// another's.
	distrustedFor = time.Minute
	// carriedLook is how soon the kernel is looked at after something was carried here, which
	// may have changed where it sends to.
	carriedLook = 100 * time.Millisecond
	// carryBuffer is room for bursts, in bytes: TCP alone hands over 64 KiB at once.
	carryBuffer = 4 << 20
)

// Local is a socket that speaks to the host's WireGuard alone.
type Local interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
}

// carrier hands WireGuard's datagrams to agents of other hosts and takes them from there, for
// pairs that nothing else leads to each other. WireGuard finds it on the loopback interface: it
// sends to an endpoint there as to any other, and follows where datagrams come from.
type carrier struct {
	inside Socket // inside WireGuard
	ranges network.Ranges
	open   func(at netip.AddrPort) (Local, error)
	look   func()      // has the kernel looked at
	soon   atomic.Bool // it will be
	known  atomic.Pointer[reached]

	mu         sync.Mutex
	pairs      map[netip.AddrPort]*pair     // by what paths.Carried says; nil: it has ended
	bytes      map[uint16]int64             // of messages, as WireGuard counts, by the host at the other end
	distrusted map[netip.AddrPort]time.Time // until; as pairs
	number     uint16                       // of the last datagram
}

// reached is what the carrier has to know of the engine, as of a moment ago.
type reached struct {
	outside map[uint16]bool // all peers, and whether WireGuard sends to them outside
	most    int             // bytes of a message that is not cut
}

// pair is a host that a relay carries to.
type pair struct {
	Local
	relay, target uint16
	wanted        bool // WireGuard was told to send there
	used          time.Time
	halves        [8]half // of datagrams, by number
}

type half struct {
	number uint16
	part   byte // 0: none
	data   []byte
}

// join returns the datagram of which a message is the last part that was missing; nil: it is not.
func (p *pair) join(m probe.Carry) []byte {
	if m.Part == 0 {
		return m.Datagram
	}
	h := &p.halves[int(m.Number)%len(p.halves)]
	if h.number != m.Number || h.part != 3-m.Part {
		*h = half{m.Number, m.Part, append(h.data[:0], m.Datagram...)}
		return nil
	}
	h.part = 0
	if m.Part == 1 {
		return append(append([]byte{}, m.Datagram...), h.data...)
	}
	return append(h.data, m.Datagram...)
}

// openLocal opens the socket for an endpoint in the namespace where WireGuard's own is.
func openLocal(namespace string, own uint16) func(netip.AddrPort) (Local, error) {
	return func(at netip.AddrPort) (conn Local, err error) {
		err = netns.Do(namespace, func() error {
			c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(at), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), own)))
			if err == nil {
				conn = c
			}
			return err
		})
		return conn, err
	}
}

// newCarrier returns a carrier on a socket inside WireGuard.
func (h *Healer) newCarrier(inside Socket, open func(netip.AddrPort) (Local, error)) *carrier {
	return &carrier{inside: inside, ranges: h.ranges, open: open, pairs: map[netip.AddrPort]*pair{}, bytes: map[uint16]int64{}, distrusted: map[netip.AddrPort]time.Time{},
		look: func() {
			h.mu.Lock()
			h.observe = true
			h.mu.Unlock()
			wake(h.poke)
		}}
}

// carry has the carrier work until it is closed.
func (h *Healer) carry(ctx context.Context, c *carrier) {
	h.ended.Add(2)
	go h.receive(c.inside, h.takeCarried)
	go func() {
		defer h.ended.Done()
		tick := time.NewTicker(carriedFor / 4)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.forget(time.Now().Add(-carriedFor))
			}
		}
	}()
}

// tellCarrier has the carrier know what the engine does. The caller holds the lock.
func (h *Healer) tellCarrier() {
	if h.carrier == nil {
		return
	}
	now := &reached{outside: make(map[uint16]bool, len(h.peers)), most: h.mtus.Wire - ipHeaders}
	for id := range h.peers {
		now.outside[id] = h.engine.Carries(id)
	}
	h.carrier.known.Store(now)
}

// close ends the carrier, when what was to be said is on its way.
func (c *carrier) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	open := len(c.pairs)
	c.mu.Unlock()
	if open > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	c.inside.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pairs {
		p.Close()
	}
	c.pairs = nil
}

// forget closes what was not used since. The caller may hold no lock.
func (c *carrier) forget(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, p := range c.pairs {
		if p.used.Before(since) {
			c.drop(at)
		}
	}
	for at, until := range c.distrusted {
		if until.Before(time.Now()) {
			delete(c.distrusted, at)
		}
	}
}

func (c *carrier) drop(at netip.AddrPort) {
	c.pairs[at].Close()
	delete(c.pairs, at)
}

// distrust has nothing taken that comes by a pair, for a while, and tells whether that is new.
func (c *carrier) distrust(at netip.AddrPort) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.distrusted[at]
	if len(c.distrusted) < mostCarried || known {
		c.distrusted[at] = time.Now().Add(distrustedFor)
	}
	if c.pairs[at] != nil {
		c.drop(at)
	}
	return !known
}

// beCarried opens the pair for an endpoint to which WireGuard is about to send. It gets the room
// of one that nobody here wanted.
func (h *Healer) beCarried(at netip.AddrPort) error {
	c := h.carrier
	if c == nil {
		return errors.New("this host's agent does not carry")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pairs) >= mostCarried && c.pairs[at] == nil {
		var oldest netip.AddrPort
		for other, p := range c.pairs {
			if !p.wanted && (!oldest.IsValid() || p.used.Before(c.pairs[oldest].used)) {
				oldest = other
			}
		}
		if !oldest.IsValid() {
			return fmt.Errorf("%d hosts are carried already", mostCarried)
		}
		c.drop(oldest)
	}
	delete(c.distrusted, at)
	p, err := h.pair(at)
	if err == nil {
		p.wanted = true
	}
	return err
}

// cameCarried returns the pair by which a host's packets have come over a relay; nil: it is not
// to be trusted.
func (h *Healer) cameCarried(relay, host uint16) (*pair, error) {
	c := h.carrier
	c.mu.Lock()
	defer c.mu.Unlock()
	at := paths.Carried(relay, host)
	if time.Now().Before(c.distrusted[at]) {
		return nil, nil
	}
	if c.pairs[at] == nil {
		of := 0
		for _, p := range c.pairs {
			if p.relay == relay && !p.wanted {
				of++
			}
		}
		if of >= mostOfOne || len(c.pairs) >= mostCarried {
			return nil, fmt.Errorf("host %d carries for %d others to this one, of %d", relay, of, len(c.pairs))
		}
	}
	return h.pair(at)
}

// pair returns the pair for an endpoint, of which is read from now on. The caller holds the
// carrier's lock.
func (h *Healer) pair(at netip.AddrPort) (*pair, error) {
	c := h.carrier
	if p := c.pairs[at]; p != nil {
		p.used = time.Now()
		return p, nil
	}
	if c.pairs == nil {
		return nil, net.ErrClosed
	}
	socket, err := c.open(at)
	if err != nil {
		return nil, err
	}
	relay, target := paths.CarriedBy(at)
	p := &pair{Local: socket, relay: relay, target: target, used: time.Now()}
	c.pairs[at] = p
	h.ended.Add(1)
	go func() {
		defer h.ended.Done()
		c.send(p, h.noteCarryError)
	}()
	return p, nil
}

// send takes to a relay what WireGuard sends to a target, until the socket is closed. A relay
// that is carried itself would have it come back here.
func (c *carrier) send(p *pair, note func(error)) {
	buf, message := make([]byte, probe.MaxCarry), make([]byte, 0, probe.MaxSize)
	for {
		n, err := p.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // WireGuard does not listen now
			continue
		}
		known := c.known.Load()
		if known == nil || !known.outside[p.relay] {
			continue
		}
		c.mu.Lock()
		p.used = time.Now()
		c.number++
		whole := probe.Carry{Host: p.target, Number: c.number, Datagram: buf[:n]}
		c.mu.Unlock()
		for _, m := range whole.Cut(known.most) {
			message = m.Append(message[:0])
			note(c.write(message, p.relay))
		}
	}
}

// write sends a message to a host's agent.
func (c *carrier) write(message []byte, to uint16) error {
	c.count(to, len(message))
	_, err := c.inside.WriteToUDPAddrPort(message, netip.AddrPortFrom(c.ranges.IntrawireAddress(to), spec.CarryUDPPort))
	return err
}

func (c *carrier) count(other uint16, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes[other] += wireBytes(size)
}

// counted is what was carried between this host and another one, by which it is not traffic
// with that one.
func (c *carrier) counted(other uint16) int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes[other]
}

// takeCarried handles a message that came through WireGuard, which vouches for who carries,
// and no more: WireGuard decides whose the datagram in it is.
func (h *Healer) takeCarried(b []byte, from netip.AddrPort) {
	c := h.carrier
	m, err := probe.ParseCarry(b)
	known, sender := c.known.Load(), c.ranges.HostID(from.Addr())
	if err != nil || from.Port() != spec.CarryUDPPort || known == nil || sender == m.Host {
		return
	}
	direct, member := known.outside[sender]
	onward, isHost := known.outside[m.Host]
	if !member || !isHost {
		return
	}
	c.count(sender, len(b))
	switch {
	case m.On && direct:
		err = h.giveCarried(sender, m)
	case !m.On && onward:
		to := m.Host
		m.On, m.Host = true, sender
		err = c.write(m.Append(nil), to)
	}
	h.noteCarryError(err)
}

// giveCarried gives WireGuard what a relay has carried here. It sends there from now on, if that
// is genuine, whoever it is from: so the kernel is looked at soon.
func (h *Healer) giveCarried(relay uint16, m probe.Carry) error {
	p, err := h.cameCarried(relay, m.Host)
	if p == nil {
		return err
	}
	datagram := p.join(m)
	if datagram == nil {
		return nil
	}
	_, err = p.Write(datagram)
	if c := h.carrier; c.soon.CompareAndSwap(false, true) {
		time.AfterFunc(carriedLook, func() {
			c.soon.Store(false)
			c.look()
		})
	}
	return err
}

func (h *Healer) noteCarryError(err error) {
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.noteSendError(err)
	}
}
