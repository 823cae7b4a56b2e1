package paths

import (
	"math/rand"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// many is a network of many hosts in virtual time, in steps of a millisecond. The first
// of them run the real engine each. What others there are answer as an agent would, and
// ask nothing: a path of theirs is healed by the other end alone.
type many struct {
	t        testing.TB
	random   *rand.Rand
	now      time.Duration
	hosts    []*manyHost // by ID; the first is nil
	real     int
	busy     map[[2]uint16]bool // paths that carry traffic, lower ID first
	cut      func(a, b uint16) bool
	lost     float64 // share of all packets
	slow     map[uint16]time.Duration
	wheel    [wheelSize][]manyEvent
	switches int
	asked    int // targets asked for
}

// wheelSize is how many steps ahead something can be due.
const wheelSize = 1 << 14

type manyHost struct {
	id      uint16
	engine  *Engine // nil: plain
	off     bool
	way     []uint16 // the relay to each host; 0: direct
	rx      []int64
	own     []int64 // of rx, the agents'
	wake    int64   // step
	look    time.Duration
	early   bool
	load    int                      // packets to it in this second
	most    int                      // in the busiest second
	alike   int                      // of load, from hosts with an engine, which stand for all
	weighed int                      // most, with those that all would send
	tried   map[uint16]time.Duration // when, for those who asked a plain host
	learns  float64                  // when it finds out that somebody died, as a share of the interval
	died    time.Duration
	probes  int
}

type manyKind byte

const (
	wakes manyKind = iota
	looks
	looksAgain
	request
	echo
	question
	reply
)

type manyEvent struct {
	kind     manyKind
	from, to uint16
	via      uint16 // 0: direct
	plane    Plane
	full     bool
	sequence uint32
	targets  []uint16
	verdict  probe.Verdict
	aside    probe.Aside
}

func newMany(t testing.TB, n, real int, seed int64) *many {
	w := &many{t: t, random: rand.New(rand.NewSource(seed)), hosts: make([]*manyHost, n+1), real: real, busy: map[[2]uint16]bool{}, cut: func(_, _ uint16) bool { return false }}
	for id := 1; id <= n; id++ {
		h := &manyHost{id: uint16(id), tried: map[uint16]time.Duration{}}
		w.hosts[id] = h
		if id > real {
			h.learns = w.random.Float64()
			continue
		}
		h.way, h.rx, h.own = make([]uint16, n+1), make([]int64, n+1), make([]int64, n+1)
		config := Config{Self: h.id, Relays: map[uint16]bool{}}
		others := make([]Peer, 0, n-1)
		for other := uint16(1); int(other) <= n; other++ {
			if other != h.id {
				others = append(others, Peer{ID: other, Endpoint: underlay(other)})
				config.Relays[other] = true
			}
		}
		h.engine = New(config, seed*100_000+int64(id))
		h.engine.SetPeers(0, config, others)
		for _, other := range others {
			h.engine.ReadsLists(other.ID, true)
		}
		w.at(time.Duration(w.random.Int63n(int64(time.Second))), manyEvent{kind: looks, to: h.id})
		w.settle(h)
	}
	return w
}

func (w *many) at(t time.Duration, e manyEvent) {
	step := max(int64(t/time.Millisecond), int64(w.now/time.Millisecond)+1)
	if step-int64(w.now/time.Millisecond) >= wheelSize {
		step = int64(w.now/time.Millisecond) + wheelSize - 1
	}
	w.wheel[step%wheelSize] = append(w.wheel[step%wheelSize], e)
}

// run lets the network go on for a while.
func (w *many) run(d time.Duration, every func()) {
	for end := w.now + d; w.now < end; {
		w.now += time.Millisecond
		slot := &w.wheel[int64(w.now/time.Millisecond)%wheelSize]
		events := *slot
		*slot = nil
		for i := range events {
			w.happen(&events[i])
		}
		if w.now%time.Second == 0 {
			for _, h := range w.hosts[1:] {
				h.most = max(h.most, h.load)
				h.weighed = max(h.weighed, h.load-h.alike+h.alike*(len(w.hosts)-1)/w.real)
				h.load, h.alike = 0, 0
			}
		}
		if every != nil {
			every()
		}
	}
}

// passes reports whether packets between two hosts go by a relay, or directly.
func (w *many) passes(a, b, via uint16) bool {
	if via == 0 {
		return !w.hosts[a].off && !w.hosts[b].off && !w.cut(a, b)
	}
	return w.passes(a, via, 0) && w.passes(via, b, 0)
}

// works reports whether data passes both ways between two hosts, as their kernels send it.
func (w *many) works(a, b uint16) bool {
	there, back := w.hosts[a].way, w.hosts[b].way
	if !w.passes(a, b, there[b]) {
		return false
	}
	return back == nil || w.passes(b, a, back[a])
}

// deliver sends a packet on its way.
func (w *many) deliver(e manyEvent) {
	if from := w.like(e.from); from.engine != nil && e.plane == Traffic {
		e.aside = from.engine.Aside()
	}
	w.hosts[e.to].load++
	if int(e.from) <= w.real && e.kind != echo && e.kind != reply { // those answer each of its own
		w.hosts[e.to].alike++
	}
	if !w.passes(e.from, e.to, e.via) || w.lost > 0 && w.random.Float64() < w.lost {
		return
	}
	delay := time.Millisecond + time.Duration(w.random.Int63n(int64(2*time.Millisecond))) + w.slow[e.to]
	if e.via != 0 {
		delay *= 2
	}
	w.at(w.now+delay, e)
}

// inside sends a message through WireGuard, by the way that the kernel has.
func (w *many) inside(h *manyHost, e manyEvent) {
	e.from = h.id
	if h.way != nil && e.plane != Direct {
		e.via = h.way[e.to]
	}
	w.deliver(e)
}

func (w *many) happen(e *manyEvent) {
	h := w.hosts[e.to]
	switch {
	case e.kind == wakes:
		if h.wake == int64(w.now/time.Millisecond) {
			h.wake = 0
			h.engine.Tick(w.now)
			w.carryOut(h)
		}
		return
	case e.kind == looks:
		w.at(w.now+time.Second*time.Duration(1+len(w.hosts)/500), manyEvent{kind: looks, to: h.id})
		w.observe(h)
		return
	case e.kind == looksAgain:
		h.early = false
		w.observe(h)
		return
	case h.off:
		return
	case h.engine == nil:
		w.plain(h, e)
		return
	}
	if e.plane != Direct {
		h.way[e.from] = e.via // roaming
		h.rx[e.from] += 100
		h.own[e.from] += 100
	}
	if e.plane == Traffic {
		h.engine.Told(w.now, e.from, e.aside)
	}
	switch e.kind {
	case request:
		back := *e
		back.kind, back.from, back.to = echo, e.to, e.from
		w.inside(h, back)
		if e.plane == Traffic {
			h.engine.Heard(w.now, e.from)
		}
	case echo:
		h.engine.Echo(w.now, e.from, e.plane, e.full, e.sequence)
		w.carryOut(h)
	case question:
		h.engine.Asked(w.now, e.from, e.sequence, e.targets...)
		w.carryOut(h)
	case reply:
		h.engine.Answer(w.now, e.from, e.targets[0], e.sequence, e.verdict)
		w.carryOut(h)
	}
}

// mirrors is how many hosts with an engine stand for those without: fewer know too little
// of what happens to all.
const mirrors = 40

// like returns the host itself, or one with an engine that knows what this one would.
func (w *many) like(id uint16) *manyHost {
	if int(id) > w.real && w.real >= mirrors {
		for like := int(id) % w.real; ; like = (like + 1) % w.real {
			if h := w.hosts[1+like]; !h.off {
				return h
			}
		}
	}
	return w.hosts[id]
}

// plain answers as a host without an engine.
func (w *many) plain(h *manyHost, e *manyEvent) {
	back := *e
	back.from, back.to = e.to, e.from
	switch e.kind {
	case request:
		back.kind = echo
		w.deliver(back)
	case question:
		back.kind = reply
		for _, target := range e.targets {
			back.targets = []uint16{target}
			back.verdict = probe.Verdict{Reachable: w.passes(h.id, target, 0) && w.slow[target] < askTime, FullSize: true, RTTMicroseconds: 3000}
			// It tries the target, unless it did just now, or knows that it is down.
			dead, interval := w.hosts[target], max(1, float64(len(w.hosts))/idleProbesPerSecond)
			knows := dead.off && (w.now-dead.died).Seconds() > h.learns*interval
			if like := w.like(h.id).engine; like != nil && like.peers[target] != nil {
				knows = like.peers[target].phase == down
			}
			tries := w.like(h.id).tried
			if last, tried := tries[target]; !knows && (!tried || w.now-last > share(len(w.hosts), silentPerSecond)) {
				tries[target] = w.now
				dead.load++
				dead.alike++
			}
			w.deliver(back)
		}
	}
}

func (w *many) observe(h *manyHost) {
	all := make([]Kernel, 0, len(w.hosts))
	for id := uint16(1); int(id) < len(w.hosts); id++ {
		if id == h.id {
			continue
		}
		to := underlay(id)
		if via := h.way[id]; via != 0 {
			to = relayEndpoint(Peer{ID: via, Endpoint: underlay(via)}, id)
		}
		if len(w.busy) > 0 && w.busy[pair(h.id, id)] && w.works(h.id, id) {
			h.rx[id] += int64(w.now-h.look)/int64(time.Millisecond)*100 + 10_000
		}
		all = append(all, Kernel{Peer: id, Endpoint: to, ReceiveBytes: h.rx[id], OwnBytes: h.own[id]})
	}
	h.look = w.now
	h.engine.Observe(w.now, all)
	w.carryOut(h)
}

// begins has a first packet leave, of which the agent hears.
func (w *many) begins(from, to uint16) {
	h := w.hosts[from]
	h.engine.Begins(w.now, to)
	w.carryOut(h)
}

func pair(a, b uint16) [2]uint16 { return [2]uint16{min(a, b), max(a, b)} }

// carryOut does what a host's engine wants.
func (w *many) carryOut(h *manyHost) {
	out := h.engine.Take()
	if h.off {
		w.settle(h)
		return
	}
	for _, r := range out.Routes {
		w.switches++
		h.way[r.Peer] = relayOf(r.Peer, r.Endpoint)
	}
	for _, p := range out.Probes {
		h.probes++
		w.inside(h, manyEvent{kind: request, to: p.Peer, plane: p.Plane, full: p.Full, sequence: p.Sequence})
	}
	for _, q := range out.Queries {
		w.asked += len(q.Targets)
		w.inside(h, manyEvent{kind: question, to: q.Relay, sequence: q.Sequence, targets: q.Targets})
	}
	for _, r := range out.Replies {
		w.inside(h, manyEvent{kind: reply, to: r.To, sequence: r.Sequence, targets: []uint16{r.Target}, verdict: r.Verdict})
	}
	if out.Observe && !h.early {
		h.early = true
		w.at(w.now+50*time.Millisecond+time.Duration(len(w.hosts))*100*time.Microsecond, manyEvent{kind: looksAgain, to: h.id})
	}
	w.settle(h)
}

// relayOf tells which relay a WireGuard endpoint stands for; 0: the peer itself.
func relayOf(peer uint16, endpoint netip.AddrPort) uint16 {
	a := endpoint.Addr().As4()
	if id := uint16(a[2])<<8 | uint16(a[3]); id != peer {
		return id
	}
	return 0
}

// settle has the engine served when it wants, as often as the agent does.
func (w *many) settle(h *manyHost) {
	next := max(h.engine.Next(), w.now+5*time.Millisecond)
	step := int64((next + time.Millisecond - 1) / time.Millisecond)
	if now := int64(w.now / time.Millisecond); step-now >= wheelSize {
		step = now + wheelSize - 1
	}
	if h.wake == 0 || step < h.wake {
		h.wake = step
		w.at(time.Duration(step)*time.Millisecond, manyEvent{kind: wakes, to: h.id})
	}
}
