package healing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
)

const (
	// mostCarried is how many pairs of a relay and a host are carried at a time: a member
	// may claim anything of any host.
	mostCarried = 256
	// carriedFor is how long such a pair is kept without a packet. A peer sends one each 25 s.
	carriedFor = 2 * time.Minute
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
	own    uint16 // WireGuard's port
	open   func(at netip.AddrPort) (Local, error)

	mu    sync.Mutex
	pairs map[netip.AddrPort]*pair // by what paths.Carried says; nil: it has ended
}

// pair is a host that a relay carries to.
type pair struct {
	Local
	used time.Time
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

// carry has the carrier work until the context ends.
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
				c.close()
				return
			case <-tick.C:
				c.forget(time.Now().Add(-carriedFor))
			}
		}
	}()
}

func (c *carrier) close() {
	c.inside.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pairs {
		p.Close()
	}
	c.pairs = nil
}

// forget closes what was not used since.
func (c *carrier) forget(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, p := range c.pairs {
		if p.used.Before(since) {
			p.Close()
			delete(c.pairs, at)
		}
	}
}

// pair returns the socket for an endpoint, on which what WireGuard sends is read from now on.
func (h *Healer) pair(at netip.AddrPort) (*pair, error) {
	c := h.carrier
	if c == nil {
		return nil, errors.New("this host's agent does not carry")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pairs[at]; p != nil {
		p.used = time.Now()
		return p, nil
	}
	switch {
	case c.pairs == nil:
		return nil, net.ErrClosed
	case len(c.pairs) >= mostCarried:
		return nil, fmt.Errorf("%d pairs of hosts are carried already", mostCarried)
	}
	socket, err := c.open(at)
	if err != nil {
		return nil, err
	}
	p := &pair{socket, time.Now()}
	c.pairs[at] = p
	h.ended.Add(1)
	go func() {
		defer h.ended.Done()
		c.send(p, at, h.noteCarryError)
	}()
	return p, nil
}

// send takes to a relay what WireGuard sends to a target, until the socket is closed.
func (c *carrier) send(p *pair, at netip.AddrPort, note func(error)) {
	relay, target := paths.CarriedBy(c.own, at)
	to := c.address(relay)
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
		c.use(p)
		message = probe.Carry{Host: target, Datagram: buf[:n]}.Append(message[:0])
		_, err = c.inside.WriteToUDPAddrPort(message, to)
		note(err)
	}
}

// address is where a host's agent carries.
func (c *carrier) address(id uint16) netip.AddrPort {
	return netip.AddrPortFrom(c.ranges.IntrawireAddress(id), spec.CarryUDPPort)
}

func (c *carrier) use(p *pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.used = time.Now()
}

// takeCarried handles a message that came through WireGuard, which vouches for who carries,
// and no more: WireGuard decides whose the datagram in it is.
func (h *Healer) takeCarried(b []byte, from netip.AddrPort) {
	m, err := probe.ParseCarry(b)
	if err != nil || from.Port() != spec.CarryUDPPort {
		return
	}
	c := h.carrier
	sender := c.ranges.HostID(from.Addr())
	h.mu.Lock()
	known := h.peers[sender] != nil && h.peers[m.Host] != nil && sender != m.Host
	carries := known && !m.On && h.engine.Carries(m.Host)
	h.mu.Unlock()
	switch {
	case carries:
		_, err = c.inside.WriteToUDPAddrPort(probe.Carry{On: true, Host: sender, Datagram: m.Datagram}.Append(nil), c.address(m.Host))
	case known && m.On:
		var p *pair
		if p, err = h.pair(paths.Carried(c.own, sender, m.Host)); err == nil {
			_, err = p.Write(m.Datagram)
		}
	}
	h.noteCarryError(err)
}

func (h *Healer) noteCarryError(err error) {
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.noteSendError(err)
	}
}
