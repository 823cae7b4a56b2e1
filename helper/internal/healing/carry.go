package healing

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mobula/helper/internal/metrics"
	"mobula/helper/internal/network"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
)

const (
	// carriedLook is how soon the kernel is looked at after something was carried here, which
	// may have changed where it sends to.
	carriedLook = 100 * time.Millisecond
	// carryBuffer is room for bursts, in bytes: TCP alone hands over 64 KiB at once.
	carryBuffer = 4 << 20
)

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
	counts     metrics.Carried
	refused    uint64 // messages of which nothing was taken
}

// reached is what the carrier has to know of the engine, as of a moment ago.
type reached struct {
	outside map[uint16]bool // all peers, and whether WireGuard sends to them outside
	most    int             // bytes of a message that is not cut
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
		c.counts.Own.Add(n)
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

// refuse counts a message of which nothing was taken.
func (c *carrier) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
}

// metrics are what it carried, and what it refused.
func (c *carrier) metrics() (metrics.Carried, uint64) {
	if c == nil {
		return metrics.Carried{}, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts, c.refused
}

// takeCarried handles a message that came through WireGuard, which vouches for who carries,
// and no more: WireGuard decides whose the datagram in it is.
func (h *Healer) takeCarried(b []byte, from netip.AddrPort) {
	c := h.carrier
	m, err := probe.ParseCarry(b)
	known, sender := c.known.Load(), c.ranges.HostID(from.Addr())
	if err != nil || from.Port() != spec.CarryUDPPort || known == nil || sender == m.Host {
		c.refuse()
		return
	}
	direct, member := known.outside[sender]
	onward, isHost := known.outside[m.Host]
	if !member || !isHost {
		c.refuse()
		return
	}
	c.count(sender, len(b))
	switch {
	case m.On && direct:
		err = h.giveCarried(sender, m)
	case !m.On && onward:
		err = c.passOn(sender, m)
	default:
		c.refuse()
	}
	h.noteCarryError(err)
}

// passOn sends on what a host asks this one to carry to another one.
func (c *carrier) passOn(sender uint16, m probe.Carry) error {
	c.mu.Lock()
	c.counts.Others.Add(len(m.Datagram))
	c.mu.Unlock()
	to := m.Host
	m.On, m.Host = true, sender
	return c.write(m.Append(nil), to)
}

// giveCarried gives WireGuard what a relay has carried here. It sends there from now on, if that
// is genuine, whoever it is from: so the kernel is looked at soon.
func (h *Healer) giveCarried(relay uint16, m probe.Carry) error {
	c := h.carrier
	p, err := h.cameCarried(relay, m.Host)
	if p == nil {
		c.refuse()
		return err
	}
	datagram := p.join(m)
	if datagram == nil {
		return nil
	}
	c.mu.Lock()
	c.counts.Own.Add(len(datagram))
	c.mu.Unlock()
	_, err = p.Write(datagram)
	if c.soon.CompareAndSwap(false, true) {
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
