package healing

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
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
)

// Local is a socket that speaks to the host's WireGuard alone.
type Local interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
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
