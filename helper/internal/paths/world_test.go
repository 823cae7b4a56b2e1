package paths

import (
	"container/heap"
	"math/rand"
	"net/netip"
	"testing"
	"time"
)

// world is a network of engines in virtual time. It models what WireGuard does:
// one endpoint for each peer, which follows the source of what arrives.
type world struct {
	t      testing.TB
	random *rand.Rand
	now    time.Duration
	events eventQueue
	number int
	hosts  []*simHost
	// link returns what happens to a packet from one underlay address to
	// another.
	link func(from, to uint16, size int) (delay time.Duration, lost bool)
	// dataEvery is how often each host sends data to each other one; 0: never.
	dataEvery time.Duration
	// moved are the hosts that have another underlay endpoint than the document says.
	moved   map[uint16]netip.AddrPort
	routers map[uint16]*router // in front of a host; nil: none
	relays  map[uint16]bool    // hosts that relay
	blinds  map[uint16]*blind
	// seconds are the hosts' addresses in another network, which documents know as their
	// other endpoints, and second is its link.
	seconds   map[uint16]netip.AddrPort
	second    func(from, to uint16, size int) (delay time.Duration, lost bool)
	deaf      [2]uint16 // two hosts whose WireGuard drops what is the other's
	telling   bool      // documents do not know it: who is in it says so
	sightings int       // told
	packets   int       // on the underlay, probes and all
	switches  int       // endpoints set by engines
	moves     int       // and those of them that were others than before
	log       bool
}

type simHost struct {
	id        uint16
	engine    *Engine
	endpoints map[uint16]netip.AddrPort
	set       map[uint16]netip.AddrPort // by its engine
	rx, tx    map[uint16]int64
	lastData  map[uint16]time.Duration // arrival of the last data packet, by sender
	lost      map[uint16]int
	wake      time.Duration
	off       bool
	stalled   time.Duration // until
	silent    bool          // its agent does not run
}

type simEvent struct {
	at     time.Duration
	number int
	do     func()
}

type eventQueue []simEvent

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].number < q[j].number
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func underlay(id uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(id >> 8), byte(id)}), 51820)
}

// endpoint is where a host is now.
func (w *world) endpoint(id uint16) netip.AddrPort {
	if now, ok := w.moved[id]; ok {
		return now
	}
	return underlay(id)
}

func newWorld(t testing.TB, n int, seed int64) *world { return newWorldBehind(t, n, seed) }

// newWorldBehind is newWorld with routers in front of some of the hosts.
func newWorldBehind(t testing.TB, n int, seed int64, routers ...*router) *world {
	return newWorldOf(t, n, seed, nil, routers...)
}

// newWorldOf is newWorldBehind with hosts that are in a second network, too.
func newWorldOf(t testing.TB, n int, seed int64, seconds map[uint16]netip.AddrPort, routers ...*router) *world {
	w := &world{seconds: seconds, t: t, routers: map[uint16]*router{}, blinds: map[uint16]*blind{}, random: rand.New(rand.NewSource(seed)), dataEvery: 50 * time.Millisecond, moved: map[uint16]netip.AddrPort{}}
	w.link = func(_, _ uint16, _ int) (time.Duration, bool) { return w.delay(), false }
	w.second = w.link
	for _, r := range routers {
		r.reboot()
		for _, host := range r.forwards {
			w.routers[host] = r
		}
		for _, host := range r.behind {
			w.routers[host] = r
		}
	}
	w.relays = w.network(n).Relays()
	var peers []Peer
	for id := uint16(1); int(id) <= n; id++ {
		peers = append(peers, w.peer(id))
	}
	for _, self := range peers {
		h := &simHost{id: self.ID, endpoints: map[uint16]netip.AddrPort{}, set: map[uint16]netip.AddrPort{}, rx: map[uint16]int64{}, tx: map[uint16]int64{},
			lastData: map[uint16]time.Duration{}, lost: map[uint16]int{}}
		config := Config{Self: self.ID, Relays: map[uint16]bool{}, Local: w.local(self.ID)}
		var others []Peer
		for _, p := range peers {
			if p.ID != self.ID {
				others = append(others, p)
				config.Relays[p.ID] = w.relays[self.ID]
				h.endpoints[p.ID] = p.Endpoint
			}
		}
		h.engine = New(config, seed*1000+int64(self.ID))
		h.engine.SetPeers(0, config, others)
		h.knowsCarriers(others)
		w.hosts = append(w.hosts, h)
		w.at(time.Duration(self.ID)*time.Millisecond, func() { w.observe(h) })
		if w.dataEvery > 0 {
			w.at(time.Duration(w.random.Int63n(int64(w.dataEvery))), func() { w.data(h) })
		}
	}
	for _, h := range w.hosts {
		w.tick(h)
	}
	return w
}

func (w *world) delay() time.Duration {
	return time.Millisecond + time.Duration(w.random.Int63n(int64(time.Millisecond)))
}

func (w *world) host(id uint16) *simHost { return w.hosts[id-1] }

func (w *world) at(t time.Duration, do func()) {
	w.number++
	heap.Push(&w.events, simEvent{t, w.number, do})
}

// run lets the world go on until the given time.
func (w *world) run(until time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(simEvent)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// observe looks at the kernel once a second.
func (w *world) observe(h *simHost) {
	w.look(h)
	w.at(w.now+time.Second, func() { w.observe(h) })
}

func (w *world) look(h *simHost) {
	if h.silent {
		return
	}
	var all []Kernel
	for _, p := range w.hosts {
		if p != h {
			k := Kernel{Peer: p.id, Endpoint: h.endpoints[p.id], ReceiveBytes: h.rx[p.id], TransmitBytes: h.tx[p.id]}
			if k.ReceiveBytes == 0 {
				k.HandshakeAge = -1
			}
			all = append(all, k)
		}
	}
	h.engine.Observe(w.now, all)
	w.carryOut(h)
}

// data sends a packet to every other host.
func (w *world) data(h *simHost) {
	if !h.off {
		for _, p := range w.hosts {
			if p != h {
				w.inside(h, p.id, 200, func(to *simHost) { to.lastData[h.id] = w.now })
				h.tx[p.id] += 200
			}
		}
	}
	w.at(w.now+w.dataEvery, func() { w.data(h) })
}

func (w *world) tick(h *simHost) {
	next := h.engine.Next()
	if next < h.stalled {
		next = h.stalled
	}
	if h.wake > w.now && h.wake <= next {
		return
	}
	if next <= w.now {
		next = w.now + time.Millisecond
	}
	h.wake = next
	w.at(next, func() {
		if h.wake != w.now {
			return // there was a sooner one
		}
		h.wake = 0
		if !h.off && !h.silent {
			h.engine.Tick(w.now)
		}
		w.carryOut(h)
	})
}

// restart ends a host's agent, which says goodbye, and begins another one later.
func (w *world) restart(h *simHost, later time.Duration) {
	var others []Peer
	for _, p := range w.hosts {
		if p != h {
			others = append(others, w.peer(p.id))
			w.inside(h, p.id, 100, func(to *simHost) {
				w.hand(to, func() { to.engine.Goodbye(w.now, h.id) })
			})
		}
	}
	h.silent = true
	w.at(w.now+later, func() {
		config := h.engine.config
		h.engine = New(config, w.random.Int63())
		h.engine.SetPeers(w.now, config, others)
		h.knowsCarriers(others)
		h.silent, h.wake = false, 0
		w.look(h)
	})
}

// knowsCarriers: each message of the others says that they carry.
func (h *simHost) knowsCarriers(others []Peer) {
	for _, p := range others {
		h.engine.IsCarrier(p.ID, true)
	}
}

// carryOut does what the engine wants.
func (w *world) carryOut(h *simHost) {
	out := h.engine.Take()
	for _, r := range out.Routes {
		if w.switches++; h.set[r.Peer] != r.Endpoint {
			w.moves++
		}
		h.endpoints[r.Peer], h.set[r.Peer] = r.Endpoint, r.Endpoint
	}
	for _, e := range out.Events {
		if w.log {
			w.t.Logf("%8.3f %d: peer %d: %s (via %d)", w.now.Seconds(), h.id, e.Peer, e.Text, e.Via)
		}
	}
	for _, p := range out.Probes {
		size := 100
		if p.Full {
			size = 1500
		}
		if p.Plane == Direct {
			w.underlay(h.id, p.To, size, func(to *simHost, from netip.AddrPort) {
				if to.silent || to.id != p.Peer { // the MAC would be another one
					return
				}
				w.hand(to, func() { to.engine.Probed(w.now, h.id, from) })
				w.underlay(to.id, from, size, func(back *simHost, _ netip.AddrPort) {
					w.hand(back, func() { back.engine.Echo(w.now, to.id, Direct, p.Full, p.Sequence) })
				})
			})
			continue
		}
		w.inside(h, p.Peer, size, func(to *simHost) {
			if to.silent {
				return
			}
			w.hand(to, func() { to.engine.Heard(w.now, h.id) })
			w.inside(to, h.id, size, func(back *simHost) {
				w.hand(back, func() { back.engine.Echo(w.now, to.id, Traffic, p.Full, p.Sequence) })
			})
		})
	}
	for _, q := range out.Queries {
		w.inside(h, q.Relay, 100, func(to *simHost) {
			w.hand(to, func() { to.engine.Asked(w.now, h.id, q.Sequence, q.Targets...) })
		})
	}
	for _, r := range out.Replies {
		w.inside(h, r.To, 100, func(to *simHost) {
			w.hand(to, func() { to.engine.Answer(w.now, h.id, r.Target, r.Sequence, r.Verdict) })
		})
	}
	w.sightings += len(out.Sightings)
	for _, s := range out.Sightings {
		w.inside(h, s.To, 100, func(to *simHost) {
			w.hand(to, func() { to.engine.Sighted(w.now, h.id, s.Of, s.At) })
		})
	}
	if out.Observe {
		w.at(w.now+2*time.Millisecond, func() { w.look(h) })
	}
	w.tick(h)
}

// hand gives something received to the agent, when it runs.
func (w *world) hand(h *simHost, f func()) {
	if w.now < h.stalled {
		w.at(h.stalled, func() { w.hand(h, f) })
		return
	}
	if h.silent {
		return
	}
	f()
	w.carryOut(h)
}

// inside sends a packet through WireGuard.
func (w *world) inside(h *simHost, to uint16, size int, arrive func(*simHost)) {
	w.underlay(h.id, h.endpoints[to], size, func(target *simHost, source netip.AddrPort) {
		if target.id != to { // whose WireGuard drops it
			if len(w.routers) == 0 {
				w.t.Fatalf("%d sent a packet for %d to %d", h.id, to, target.id)
			}
			return
		}
		if w.deaf == [2]uint16{min(h.id, to), max(h.id, to)} {
			return
		}
		target.endpoints[h.id] = source // roaming
		target.rx[h.id] += int64(size)
		arrive(target)
	})
}

func (w *world) hop(from, to uint16, size int, arrive func()) {
	w.over(w.link, from, to, size, arrive)
}

func (w *world) over(link func(from, to uint16, size int) (time.Duration, bool), from, to uint16, size int, arrive func()) {
	w.packets++
	delay, lost := link(from, to, size)
	if lost || w.host(from).off || w.host(to).off {
		return
	}
	w.at(w.now+delay, arrive)
}

// check fails unless every two running hosts heard data of each other within
// the given time.
func (w *world) check(within time.Duration, except func(from, to uint16) bool) {
	w.t.Helper()
	for _, to := range w.hosts {
		for _, from := range w.hosts {
			if from == to || from.off || to.off || except != nil && except(from.id, to.id) {
				continue
			}
			if age := w.now - to.lastData[from.id]; age > within {
				w.t.Errorf("at %v: %d has heard nothing from %d for %v (endpoints %v and %v)", w.now, to.id, from.id, age,
					to.endpoints[from.id], from.endpoints[to.id])
			}
		}
	}
}
