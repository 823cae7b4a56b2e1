package paths

import (
	"net/netip"
	"slices"

	"mobula/helper/internal/network"
)

// router has several hosts behind one public address. It translates as Linux does
// (nf_nat_core.c): a flow keeps its source port if no other one to the same remote has
// it, a forwarded port leads to one host, and what would give two flows the same
// addresses and ports is dropped.
type router struct {
	address  netip.Addr
	forwards map[uint16]uint16     // port → host
	out      map[flow]uint16       // of a host → public port
	in       map[publicFlow]uint16 // → host
	hairpin  bool                  // leads from inside to its own forwarded ports
	// behind are hosts to which nothing is forwarded, and which have no endpoint.
	behind []uint16
	// shift is by how much the ports that it gives differ from the hosts' own, and open: what
	// comes to such a port is let in from anybody (RFC 4787 section 5).
	shift uint16
	open  bool
	// fresh: it chooses a port anew for each flow.
	fresh bool
	// sameInside: each host listens on the port that is forwarded to it.
	sameInside bool
}

type flow struct {
	host   uint16
	remote netip.AddrPort
}

type publicFlow struct {
	port   uint16
	remote netip.AddrPort
}

// reboot has the router forget all flows.
func (r *router) reboot() { r.out, r.in = map[flow]uint16{}, map[publicFlow]uint16{} }

func (r *router) add(port uint16, f flow) {
	r.out[f], r.in[publicFlow{port, f.remote}] = port, f.host
}

// leave returns the source of what a host behind the router sends.
func (r *router) leave(from uint16, to netip.AddrPort) netip.AddrPort {
	f := flow{from, to}
	port, known := r.out[f]
	if !known {
		if port = r.inside(from) + r.shift; r.fresh {
			port = 30000 + r.shift + uint16(len(r.out))*7
		}
		for ; ; port++ {
			if _, taken := r.in[publicFlow{port, to}]; !taken {
				break
			}
		}
		r.add(port, f)
	}
	return netip.AddrPortFrom(r.address, port)
}

// inside returns the port on which a host listens.
func (r *router) inside(host uint16) uint16 {
	for port, to := range r.forwards {
		if to == host && r.sameInside {
			return port
		}
	}
	return 51820
}

// enter returns the host that gets what is sent to a port; 0: nobody.
func (r *router) enter(port uint16, from netip.AddrPort) uint16 {
	if host, known := r.in[publicFlow{port, from}]; known {
		return host
	}
	host := r.forwards[port]
	if r.open {
		for flow, gives := range r.out {
			if gives == port {
				host = flow.host
			}
		}
	}
	if _, taken := r.out[flow{host, from}]; taken || host == 0 {
		return 0
	}
	r.add(port, flow{host, from})
	return host
}

// blind is a host's table of relays, as nftables has it: flows whose sender the
// document knows leave by that one's relay port, all others by any.
type blind struct {
	to    map[at]at // both ways
	spare uint16
}

// at is a remote and a port of the relay.
type at struct {
	remote netip.AddrPort
	port   uint16
}

// relay returns where what came from source to a relay port goes on to, and from
// which port of the relay.
func (w *world) relay(self uint16, source netip.AddrPort, port uint16) (on at, ok bool) {
	b := w.blinds[self]
	if b == nil {
		b = &blind{to: map[at]at{}, spare: 20000}
		w.blinds[self] = b
	}
	if on, ok = b.to[at{source, port}]; ok {
		return on, true
	}
	target, member, leaving := port-32768, false, uint16(0)
	for _, h := range w.hosts {
		member = member || w.document(h.id).Addr() == source.Addr()
		if w.document(h.id) == source {
			leaving = relayEndpoint(Peer{ID: self, Endpoint: w.document(self)}, h.id).Port()
		}
	}
	if !member || port <= 32768 || int(target) > len(w.hosts) || !w.relays[self] {
		return at{}, false
	}
	if leaving == 0 {
		b.spare++
		leaving = b.spare
	}
	on = at{w.document(target), leaving}
	if _, taken := b.to[on]; taken {
		return at{}, false
	}
	b.to[at{source, port}], b.to[on] = on, at{source, port}
	return on, true
}

// document is where a host is as the document says.
func (w *world) document(id uint16) netip.AddrPort {
	if r := w.routers[id]; r != nil {
		if slices.Contains(r.behind, id) {
			return netip.AddrPort{}
		}
		for port, host := range r.forwards {
			if host == id {
				return netip.AddrPortFrom(r.address, port)
			}
		}
	}
	return underlay(id)
}

// network returns the hosts as they are in the document.
func (w *world) network(n int) *network.Document {
	d := &network.Document{}
	for id := uint16(1); int(id) <= n; id++ {
		h := network.Host{ID: id, Endpoint: w.document(id)}
		if r := w.routers[id]; r != nil && r.inside(id) != h.Endpoint.Port() {
			h.WireGuardPort = r.inside(id)
		}
		d.Hosts = append(d.Hosts, h)
	}
	return d
}

// underlay carries a packet to an address, through routers and over a relay. Who gets
// it sees where it came from.
func (w *world) underlay(from uint16, to netip.AddrPort, size int, arrive func(*simHost, netip.AddrPort)) {
	if !to.IsValid() || w.acrossSecond(from, to, size, arrive) || w.carry(from, to, size, arrive) {
		return
	}
	source := w.endpoint(from)
	if r := w.routers[from]; r != nil {
		if to.Addr() == r.address && !r.hairpin {
			return
		}
		source = r.leave(from, to)
	}
	first := w.enter(to, source)
	if first == 0 {
		return
	}
	w.hop(from, first, size, func() {
		if to.Port() == 51820 || w.routers[first] != nil {
			arrive(w.host(first), source)
			return
		}
		on, ok := w.relay(first, source, to.Port())
		if !ok {
			return
		}
		here := netip.AddrPortFrom(to.Addr(), on.port)
		if target := w.enter(on.remote, here); target != 0 {
			w.hop(first, target, size, func() { arrive(w.host(target), here) })
		}
	})
}

// carry takes a packet to the agent of a relay, inside WireGuard, and from there to another's;
// it is no longer than what is sent there, as the agent cuts it in two (probe.Carry.Cut).
func (w *world) carry(from uint16, to netip.AddrPort, size int, arrive func(*simHost, netip.AddrPort)) bool {
	relay, target := CarriedBy(to)
	if relay == 0 {
		return false
	}
	size = min(size, 1400)
	if w.host(from).silent {
		return true
	}
	w.inside(w.host(from), relay, size, func(by *simHost) {
		if by.silent || !by.engine.Carries(target) {
			return
		}
		w.inside(by, target, size, func(h *simHost) {
			if !h.silent {
				arrive(h, Carried(relay, from))
			}
		})
	})
	return true
}

// enter returns which host an address and port lead to; 0: none.
func (w *world) enter(to, source netip.AddrPort) uint16 {
	for _, r := range w.routers {
		if r.address == to.Addr() {
			return r.enter(to.Port(), source)
		}
	}
	for _, h := range w.hosts {
		if w.routers[h.id] == nil && w.endpoint(h.id).Addr() == to.Addr() {
			return h.id
		}
	}
	return 0
}
