package healing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
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
	err := netns.Do(spec.Namespace, func() error {
		c, err := config.ListenPacket(context.Background(), "udp4", at)
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

// roomy gives a socket a buffer for bursts, beyond what others may have (socket(7),
// SO_RCVBUFFORCE); where that is not to be it has the usual one.
func roomy(conn *net.UDPConn) *net.UDPConn {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, unix.SO_RCVBUFFORCE, carryBuffer)
		})
	}
	return conn
}

// receive hands every packet to take until the socket is closed.
func (h *Healer) receive(conn Socket, take func([]byte, netip.AddrPort)) {
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
func (h *Healer) takeInside(b []byte, from netip.AddrPort) {
	m, err := probe.ParseTraffic(b)
	if err != nil || from.Port() != spec.ProbeUDPPort {
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
	h.engine.ReadsLists(id, m.Lists)
	h.engine.IsCarrier(id, m.Carrier)
	h.engine.Told(now, id, m.Aside)
	switch m.Type {
	case probe.Request:
		r.window.Adopt(m.Session)
		h.engine.Heard(now, id)
		h.forgetAnnounced(id, r, m.Session)
		if h.mayEcho(r) {
			m.Type, m.Generation = probe.Echo, h.number
			h.sendInside(id, r, m)
			h.tellAddresses(id, r, m.Session)
		}
		return
	case probe.Query:
		r.window.Adopt(m.Session)
		targets := []uint16{m.Target}
		for _, e := range probe.More(b) {
			targets = append(targets, e.Target)
		}
		for _, m.Target = range targets {
			h.remember(id, m)
		}
		h.engine.Asked(now, id, m.Sequence, targets...)
	case probe.Sighting:
		if h.ranges.CheckEndpoint(m.At.Addr()) == "" && m.At.Port() != 0 && h.speaks(m.At.Addr()) {
			h.engine.Sighted(now, id, m.Target, m.At)
		}
	case probe.OwnAddresses:
		h.takeAnnounced(id, r, m.Session, probe.Addresses(b))
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
			for _, e := range probe.More(b) {
				h.engine.Answer(now, id, e.Target, m.Sequence, e.Verdict)
			}
		}
	}
	h.flush()
	h.wakeIfDue(now)
}

// takeBelow handles a direct message to one of the sockets, which may come from anybody.
func (h *Healer) takeBelow(at Answering, b []byte, from netip.AddrPort) {
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
	r.prove(from)
	now := h.now()
	if m.Type == probe.Request {
		if !r.window.Accept(m) {
			return
		}
		h.engine.Probed(now, m.From, from)
		if h.mayEcho(r) {
			m.Type, m.From, m.To = probe.Echo, m.To, m.From
			h.sendBelow(at.Answer, r, m, from)
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
func (h *Healer) secrets(id uint16) []probe.Secret {
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
				h.Log.Warn("deriving a secret", "peer", r.host.Hostname, "error", err)
				return nil
			}
			r.secrets = append(r.secrets, s)
		}
	}
	return r.secrets
}

// remember keeps the session of who asked, for the answer.
func (h *Healer) remember(id uint16, m probe.Traffic) {
	h.askers[asked{id, m.Target, m.Sequence}] = m.Session
	if len(h.askers) > 4096 { // lost ones
		h.refused.Askers += uint64(len(h.askers))
		h.askers = map[asked]uint64{}
	}
}

type asked struct {
	from, target uint16
	sequence     uint32
}

func (h *Healer) wakeIfDue(now time.Duration) {
	if h.engine.Next() <= now+shortestSleep {
		wake(h.poke)
	}
}

// flush does what the engine wants. The caller holds the lock.
func (h *Healer) flush() {
	out := h.engine.Take()
	for _, route := range out.Routes {
		h.lead(route)
	}
	for _, p := range out.Probes {
		h.sendProbe(p)
	}
	for _, q := range out.Queries {
		var more []probe.Entry
		for _, target := range q.Targets[1:] {
			more = append(more, probe.Entry{Target: target})
		}
		h.sendInside(q.Relay, h.peers[q.Relay], probe.Traffic{Type: probe.Query, Target: q.Targets[0], Sequence: q.Sequence, Session: h.session, Generation: h.number}, more...)
	}
	h.answer(out.Replies)
	for _, at := range out.Distrusted {
		if relay, of := paths.CarriedBy(at); h.carrier.distrust(at) {
			h.Log.Warn("packets that were carried as one host's were another's", "as", h.name(of), "by", h.name(relay))
		}
	}
	for _, s := range out.Sightings {
		h.sendInside(s.To, h.peers[s.To], probe.Traffic{Type: probe.Sighting, Target: s.Of, At: s.At, Session: h.session, Generation: h.number})
	}
	for _, e := range out.Events {
		h.Log.Info("path", "peer", h.name(e.Peer), "what", e.Text, "via", h.name(e.Via))
	}
	h.observe = h.observe || out.Observe
	if out.Observe {
		wake(h.poke)
	}
}

// answer sends replies, those to one question in one message.
func (h *Healer) answer(replies []paths.Reply) {
	for len(replies) > 0 {
		first := replies[0]
		key := asked{first.To, first.Target, first.Sequence}
		m := probe.Traffic{Type: probe.Answer, Target: first.Target, Sequence: first.Sequence, Session: h.askers[key], Generation: h.number, Verdict: first.Verdict}
		delete(h.askers, key)
		var more []probe.Entry
		for replies = replies[1:]; len(replies) > 0 && len(more) < probe.MaxMore; replies = replies[1:] {
			a := replies[0]
			if a.To != first.To || a.Sequence != first.Sequence {
				break
			}
			delete(h.askers, asked{a.To, a.Target, a.Sequence})
			more = append(more, probe.Entry{Target: a.Target, Verdict: a.Verdict})
		}
		h.sendInside(first.To, h.peers[first.To], m, more...)
	}
}

// lead has the kernel take a way to a peer.
func (h *Healer) lead(route paths.Route) {
	r := h.peers[route.Peer]
	if relay, _ := paths.CarriedBy(route.Endpoint); relay != 0 {
		if err := h.beCarried(route.Endpoint); err != nil {
			h.Log.Warn("having packets carried", "peer", r.host.Hostname, "by", h.name(relay), "error", err)
			h.engine.NotSet(h.now(), route.Peer)
			return
		}
	}
	h.settings++
	if now := time.Now(); !r.shaking.session(now) {
		r.shaking, h.shakes = r.shaking.lead(now), true
	}
	for _, key := range r.host.Keys() {
		if err := h.device.SetEndpoint(key, route.Endpoint); err != nil {
			h.Log.Warn("setting an endpoint", "peer", r.host.Hostname, "endpoint", route.Endpoint, "error", err)
		}
	}
}

// name returns a host's name; "direct" for no host.
func (h *Healer) name(id uint16) string {
	if r := h.peers[id]; r != nil {
		return r.host.Hostname
	}
	return "direct"
}

func (h *Healer) sendProbe(p paths.Probe) {
	r := h.peers[p.Peer]
	if p.Plane == paths.Direct {
		m := probe.Direct{Type: probe.Request, From: h.self.ID, To: p.Peer, Sequence: p.Sequence, Session: h.session}
		if p.Full {
			m.Size = h.mtus.Wire + network.WireGuardMessageBytes
		}
		if socket := h.beside(p.To.Addr()); socket != nil {
			h.sendBelow(socket.WriteToUDPAddrPort, r, m, p.To)
		}
		return
	}
	m := probe.Traffic{Type: probe.Request, Sequence: p.Sequence, Session: h.session, Generation: h.number}
	if p.Full {
		m.Size = h.mtus.Wire - ipHeaders
	}
	if r != nil && r.owes.IsZero() {
		r.owes = time.Now()
		h.shakes = h.shakes || !r.shaking.session(r.owes)
	}
	h.sendInside(p.Peer, r, m)
}

func (h *Healer) sendInside(id uint16, r *remote, m probe.Traffic, more ...probe.Entry) {
	h.send(id, r, m, func(m probe.Traffic) []byte {
		if len(more) > 0 {
			return m.AppendMore(nil, more)
		}
		return m.Append(nil)
	})
}

// send sends a message inside WireGuard, with what every message says besides.
func (h *Healer) send(id uint16, r *remote, m probe.Traffic, encode func(probe.Traffic) []byte) {
	if r == nil {
		return
	}
	m.Lists, m.Carrier, m.Aside = true, h.carrier != nil, h.engine.Aside()
	b := encode(m)
	r.ownBytes += wireBytes(len(b))
	_, err := h.inside.WriteToUDPAddrPort(b, netip.AddrPortFrom(h.ranges.IntrawireAddress(id), spec.ProbeUDPPort))
	h.noteSendError(err)
}

func (h *Healer) sendBelow(write func([]byte, netip.AddrPort) (int, error), r *remote, m probe.Direct, to netip.AddrPort) {
	secrets := h.secrets(r.host.ID)
	if len(secrets) == 0 {
		return
	}
	_, err := write(m.Append(nil, &secrets[0]), to)
	if !to.Addr().Is6() || !noIPv6(err) {
		h.noteSendError(err)
	}
}

// noIPv6 reports that this host has no way over IPv6 now, as many have none (ip-route(8),
// unreachable and prohibit; net.ipv6.conf.*.disable_ipv6).
func noIPv6(err error) bool {
	for _, e := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL, syscall.EACCES} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// goodbye tells the peers that nothing will be answered any more, and sees to it.
func (h *Healer) goodbye() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.peers {
		h.sendInside(id, r, probe.Traffic{Type: probe.Goodbye, Session: h.session, Generation: h.number})
	}
	h.inside.Close()
	h.below.Close()
	if h.below6 != nil {
		h.below6.Close()
	}
}

// noteSendError logs at most once a minute: a link that is gone fails often. A peer that has no
// endpoint fails until it is heard (EDESTADDRREQ, wg_xmit in the kernel).
func (h *Healer) noteSendError(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EDESTADDRREQ) && time.Since(h.sendFailed) > time.Minute {
		h.sendFailed = time.Now()
		h.Log.Warn("sending probes", "error", err)
	}
}

// wireBytes is what WireGuard counts for a message: the packet in steps of 16
// bytes, its own header and the authentication tag.
func wireBytes(message int) int64 { return int64((message+ipHeaders+15)/16*16 + 32) }
