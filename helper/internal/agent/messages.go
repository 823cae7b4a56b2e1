package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/probe"
)

// ipHeaders are the bytes of IPv4 and UDP before a message.
const ipHeaders = 28

// listen opens a UDP socket in the gateway's namespace. Its packets may be
// fragmented, as WireGuard's own may: what carries data is what counts.
func listen(at string) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DONT)
		})
		return errors.Join(controlErr, err)
	}}
	var conn *net.UDPConn
	err := netns.Do(plan.Namespace, func() error {
		c, err := config.ListenPacket(background, "udp4", at)
		if err == nil {
			conn = c.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", at, err)
	}
	return conn, nil
}

// receive hands every packet to take until the socket is closed.
func (h *healer) receive(conn socket, take func([]byte, netip.AddrPort)) {
	defer h.ended.Done()
	buf := make([]byte, probe.MaxSize+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // an ICMP error about what was sent
			continue
		}
		take(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
}

// takeInside handles a message that came through WireGuard, which vouches for
// the source address.
func (h *healer) takeInside(b []byte, from netip.AddrPort) {
	m, err := probe.ParseTraffic(b)
	if err != nil || from.Port() != plan.ProbeUDPPort {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.ranges.HostID(from.Addr())
	r := h.peers[id]
	if r == nil {
		return
	}
	r.ownBytes += wireBytes(len(b))
	r.heard, r.generation = time.Now(), m.Generation
	now := h.now()
	switch m.Type {
	case probe.Request:
		r.window.Adopt(m.Session)
		if h.mayEcho(r) {
			m.Type, m.Generation = probe.Echo, h.number
			h.sendInside(id, r, m)
		}
		return
	case probe.Query:
		r.window.Adopt(m.Session)
		h.remember(id, m)
		h.engine.Asked(now, id, m.Target, m.Sequence)
	case probe.Goodbye:
		h.engine.Goodbye(now, id)
	case probe.Echo:
		if m.Session == h.session {
			r.owes = time.Time{}
			h.engine.Echo(now, id, paths.Traffic, m.Size > probe.TrafficSize, m.Sequence)
		}
	case probe.Answer:
		if m.Session == h.session {
			h.engine.Answer(now, id, m.Target, m.Sequence, m.Verdict)
		}
	}
	h.flush()
	h.wakeIfDue(now)
}

// takeBelow handles a direct message, which may come from anybody.
func (h *healer) takeBelow(b []byte, from netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := probe.ParseDirect(b, h.self.ID, func(id uint16) []probe.Secret {
		if r := h.peers[id]; r == nil || !h.mayVerify(r, from) {
			return nil
		}
		return h.secrets(id)
	})
	if err != nil {
		return
	}
	r := h.peers[m.From]
	r.at = from
	now := h.now()
	if m.Type == probe.Request {
		if r.window.Accept(m) && h.mayEcho(r) {
			m.Type, m.From, m.To = probe.Echo, m.To, m.From
			h.sendBelow(r, m, from)
		}
		return
	}
	if m.Session == h.session {
		h.engine.Echo(now, m.From, paths.Direct, m.Size > probe.DirectSize, m.Sequence)
		h.flush()
		h.wakeIfDue(now)
	}
}

// secrets returns what this host shares with another one, first what both use
// now; none: nothing. There is more than one only while keys rotate.
func (h *healer) secrets(id uint16) []probe.Secret {
	r := h.peers[id]
	if r == nil {
		return nil
	}
	if r.secrets != nil {
		return r.secrets
	}
	for _, private := range h.own {
		for _, public := range r.host.Keys() {
			s, err := probe.NewSecret(private, public)
			if err != nil {
				h.log.Warn("deriving a secret", "peer", r.host.Hostname, "error", err)
				return nil
			}
			r.secrets = append(r.secrets, s)
		}
	}
	return r.secrets
}

// remember keeps the session of who asked, for the answer.
func (h *healer) remember(id uint16, m probe.Traffic) {
	h.askers[asked{id, m.Target, m.Sequence}] = m.Session
	if len(h.askers) > 4096 { // lost ones
		h.askers = map[asked]uint64{}
	}
}

type asked struct {
	from, target uint16
	sequence     uint32
}

func (h *healer) wakeIfDue(now time.Duration) {
	if h.engine.Next() <= now+shortestSleep {
		wake(h.poke)
	}
}

// flush does what the engine wants. The caller holds the lock.
func (h *healer) flush() {
	out := h.engine.Take()
	for _, route := range out.Routes {
		h.lead(route)
	}
	for _, p := range out.Probes {
		h.sendProbe(p)
	}
	for _, q := range out.Queries {
		h.sendInside(q.Relay, h.peers[q.Relay], probe.Traffic{Type: probe.Query, Target: q.Target, Sequence: q.Sequence, Session: h.session, Generation: h.number})
	}
	for _, a := range out.Replies {
		key := asked{a.To, a.Target, a.Sequence}
		h.sendInside(a.To, h.peers[a.To], probe.Traffic{Type: probe.Answer, Target: a.Target, Sequence: a.Sequence,
			Session: h.askers[key], Generation: h.number, Verdict: a.Verdict})
		delete(h.askers, key)
	}
	for _, e := range out.Events {
		h.log.Info("path", "peer", h.name(e.Peer), "what", e.Text, "via", h.name(e.Via))
	}
	h.observe = h.observe || out.Observe
	if out.Observe {
		wake(h.poke)
	}
}

// lead has the kernel take a way to a peer.
func (h *healer) lead(route paths.Route) {
	r := h.peers[route.Peer]
	h.settings++
	for _, key := range r.host.Keys() {
		if err := h.device.SetEndpoint(key, route.Endpoint); err != nil {
			h.log.Warn("setting an endpoint", "peer", r.host.Hostname, "endpoint", route.Endpoint, "error", err)
		}
	}
}

// name returns a host's name; "direct" for no host.
func (h *healer) name(id uint16) string {
	if r := h.peers[id]; r != nil {
		return r.host.Hostname
	}
	return "direct"
}

func (h *healer) sendProbe(p paths.Probe) {
	r := h.peers[p.Peer]
	if p.Plane == paths.Direct {
		m := probe.Direct{Type: probe.Request, From: h.self.ID, To: p.Peer, Sequence: p.Sequence, Session: h.session}
		if p.Full {
			m.Size = h.mtus.Underlay - ipHeaders
		}
		h.sendBelow(r, m, p.To)
		return
	}
	m := probe.Traffic{Type: probe.Request, Sequence: p.Sequence, Session: h.session, Generation: h.number}
	if p.Full {
		m.Size = h.mtus.Wire - ipHeaders
	}
	if r != nil && r.owes.IsZero() {
		r.owes = time.Now()
	}
	h.sendInside(p.Peer, r, m)
}

func (h *healer) sendInside(id uint16, r *remote, m probe.Traffic) {
	if r == nil {
		return
	}
	b := m.Append(nil)
	r.ownBytes += wireBytes(len(b))
	_, err := h.inside.WriteToUDPAddrPort(b, netip.AddrPortFrom(h.ranges.IntrawireAddress(id), plan.ProbeUDPPort))
	h.noteSendError(err)
}

func (h *healer) sendBelow(r *remote, m probe.Direct, to netip.AddrPort) {
	secrets := h.secrets(r.host.ID)
	if len(secrets) == 0 {
		return
	}
	_, err := h.below.WriteToUDPAddrPort(m.Append(nil, &secrets[0]), to)
	h.noteSendError(err)
}

// goodbye tells the peers that nothing will be answered any more, and sees to it.
func (h *healer) goodbye() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.peers {
		h.sendInside(id, r, probe.Traffic{Type: probe.Goodbye, Session: h.session, Generation: h.number})
	}
	h.inside.Close()
	h.below.Close()
}

// noteSendError logs at most once a minute: a link that is gone fails often.
func (h *healer) noteSendError(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) && time.Since(h.sendFailed) > time.Minute {
		h.sendFailed = time.Now()
		h.log.Warn("sending probes", "error", err)
	}
}

// wireBytes is what WireGuard counts for a message: the packet in steps of 16
// bytes, its own header and the authentication tag.
func wireBytes(message int) int64 { return int64((message+ipHeaders+15)/16*16 + 32) }
