package paths

import (
	"container/heap"
	"math/rand"
	"net/netip"
	"slices"
	"sort"
	"time"
)

// Config is what the engine is told once.
type Config struct {
	Self uint16
	// Relays are the hosts that this one forwards to.
	Relays map[uint16]bool
	// Exact: only what comes from exactly the document's endpoint, not another port there.
	Exact bool
	// Local are the networks of this host's own interfaces.
	Local []netip.Prefix
	// From6 is the address from which the host sends to others over IPv6; zero: none.
	From6 netip.Addr
}

// phase is how the engine sees the path that traffic takes now.
type phase byte

const (
	up       phase = iota // as far as known
	down                  // nothing passes
	settling              // another endpoint was set; no echo yet
)

// peer is one other host.
type peer struct {
	Peer
	index int           // in the heap
	next  time.Duration // when it has to be served

	phase  phase
	since  time.Duration  // when phase or via changed last
	via    uint16         // relay that the kernel's endpoint stands for; 0: direct
	kernel netip.AddrPort // endpoint that the kernel has; zero: not known yet
	direct netip.AddrPort // where the direct path leads: roaming can change it

	endpoint netip.AddrPort // where the peer should be: that of its name, else the document's
	untried  bool           // the name says so since, and nothing was sent there yet
	away     netip.AddrPort // where the peer was last seen itself
	soughtAt time.Duration  // when direct changed for want of answers
	// nextSighting is when who carries is asked again where the peer is.
	nextSighting, sightingEvery time.Duration
	sightingOf                  uint16            // who was asked
	sightedAt                   time.Duration     // when an address was taken
	outside                     [2]sight          // where it probed from outside, by family
	sighted                     [2]netip.AddrPort // the last ones
	placedAt                    time.Duration     // when the kernel's endpoint did for want of any packet

	small, full             *line          // of the traffic
	directSmall, directFull *line          // nil until used
	tried                   netip.AddrPort // where their probes went
	numbers                 [2]*numbers    // of direct probes, small and full; nil: those of the lines

	others           []netip.AddrPort // its other endpoints, those of names as they are now
	announced        []netip.AddrPort // and those that it says it has besides
	ways             []*way           // nil: the peer has one endpoint alone
	nextWay, lastWay time.Duration
	better           *way // than the one that traffic takes, since betterSince
	betterSince      time.Duration

	nextProbe, nextFull             time.Duration
	held                            bool // the last probe had to wait for the budget
	nextDirect, nextDirectFull      time.Duration
	settleUntil, nextLook, downFrom time.Duration
	sets                            int            // endpoint settings since settling began
	chosen, left                    netip.AddrPort // the last setting: what was set, and what stood before
	back                            bool
	bounces                         int           // returns to a path that was left as dead
	bounced                         time.Duration // the last of them

	search     *search
	exhausted  int                      // searches without a result, one after another
	unsettled  int                      // ways that brought no answer, one after another
	nextSearch time.Duration            // not before
	avoid      map[uint16]time.Duration // relays, until
	portsFail  [2]portsFail             // the last ones, unless ports led to the peer since
	moves      int                      // away from lossy paths, lately
	nextMove   time.Duration

	hold        time.Duration
	wellSince   time.Duration // the direct path, while traffic is relayed
	cameBack    time.Duration // when the direct path was last returned to
	askers      []asker
	questions   limit         // that it asks
	tries       limit         // what is sent to it while it does not answer
	denied      time.Duration // until then its silence is known, and no relay's business
	lists       bool          // its agent takes questions with many targets
	carrier     bool          // its agent carries
	seeking     bool          // in Engine.seeking
	fallen      bool          // in Engine.fallen
	trouble     bool          // counted in Engine.troubles
	stray       float64       // share of its probes that gets lost by chance
	activeUntil time.Duration
	busy        int           // hosts that it has traffic with, as it says
	tellers     []uint16      // who said that it is dead, since it was last heard
	calmUntil   time.Duration // until then nobody is heeded who says so
	tells       limit         // of what it says of others
	leaveUntil  time.Duration // until then its silence says nothing
	seen        Kernel
	seenAt      time.Duration
	grewAt      time.Duration // when received bytes last grew
	history     history
}

// Engine decides for all peers. It is not safe for concurrent use.
type Engine struct {
	config   Config
	random   *rand.Rand
	peers    map[uint16]*peer
	byAddr   map[netip.Addr][]*peer
	order    []*peer // by ID, for repeatable runs
	queue    queue
	out      Output
	now      time.Duration
	grace    time.Duration // no path is declared down before
	active   int           // peers with traffic
	troubles int           // see count
	stray    float64       // share of all probes that gets lost by chance
	probes   limit
	queries  limit
	replies  limit
	checks   limit
	tellings limit  // of where others are seen
	query    uint32 // last sequence number

	seeking  []*peer // that wait for a question
	answered []*peer // relays that answered one lately, the last first

	fallen []*peer // of whom others are told, in turn
	rumors limit

	helpers   []*peer // see helping
	helpersAt time.Duration

	stats Stats
}

// New returns an engine without peers. Runs with the same seed and input are
// the same.
func New(config Config, seed int64) *Engine {
	return &Engine{
		config: config, random: rand.New(rand.NewSource(seed)), peers: map[uint16]*peer{},
		probes:   limit{perSecond: probesPerSecond, most: probesPerSecond / 4},
		queries:  limit{perSecond: queriesPerSecond, most: 2 * queriesPerSecond},
		replies:  limit{perSecond: 4 * queriesPerSecond, most: 8 * queriesPerSecond},
		checks:   limit{perSecond: checksPerSecond, most: checksPerSecond / 2},
		tellings: limit{perSecond: queriesPerSecond, most: 2 * queriesPerSecond},
		rumors:   limit{perSecond: rumorsPerSecond, most: rumorsPerSecond},
	}
}

// SetPeers takes over another document. What is known of peers that stay, stays.
func (e *Engine) SetPeers(now time.Duration, config Config, peers []Peer) {
	e.advance(now)
	e.config = config
	old := e.peers
	e.peers, e.order, e.queue, e.helpers = map[uint16]*peer{}, nil, nil, nil
	e.troubles, e.seeking, e.answered, e.fallen = 0, nil, nil, nil
	e.byAddr = map[netip.Addr][]*peer{}
	for _, p := range peers {
		known := old[p.ID]
		if known == nil || known.Endpoint != p.Endpoint {
			known = &peer{Peer: p, endpoint: p.Endpoint, direct: p.Endpoint, away: p.Endpoint, small: &line{since: now, period: now}, hold: firstHold, since: now, leaveUntil: now + leaveFor,
				questions: limit{perSecond: queriesPerSecond, most: 2 * queriesPerSecond}, tells: limit{perSecond: tellsPerSecond, most: 2 * tellsPerSecond}}
			// Hosts that start together do not fall into step.
			every := max(idleInterval, share(len(peers), idleProbesPerSecond))
			known.nextProbe = now + e.within(min(every, share(len(peers), firstPerSecond)))
			known.nextFull = now + every + e.within(10*every)
			known.next = known.nextProbe
			known.others = slices.Clone(p.Others)
			if before := old[p.ID]; before != nil { // it has seen the numbers of direct probes
				known.directSmall, known.directFull, known.numbers = before.directSmall, before.directFull, before.numbers
			}
		}
		if !slices.Equal(known.Others, p.Others) {
			known.others = slices.Clone(p.Others)
		}
		known.Peer, known.trouble, known.seeking, known.fallen = p, false, false, false
		e.setWays(known, len(peers))
		e.peers[p.ID] = known
		e.order = append(e.order, known)
		e.index(known)
	}
	sort.Slice(e.order, func(i, j int) bool { return e.order[i].ID < e.order[j].ID })
	for _, p := range e.order {
		heap.Push(&e.queue, p)
	}
}

// SetRelays takes over which hosts this one forwards to.
func (e *Engine) SetRelays(relays map[uint16]bool) { e.config.Relays = relays }

// Next returns when Tick wants to be called again.
func (e *Engine) Next() time.Duration {
	if len(e.queue) == 0 {
		return e.now + time.Second
	}
	return e.queue[0].next
}

// Tick does everything that is due. Whatever has been received must be handed
// in before.
func (e *Engine) Tick(now time.Duration) {
	stall := now - e.Next()
	e.advance(now)
	if stall > stallAfter {
		e.grace = now + minTimeout
	}
	if stall > forgiveAfter {
		for _, p := range e.order {
			p.forgive()
		}
	}
	for len(e.queue) > 0 && e.queue[0].next <= now {
		p := e.queue[0]
		if now < p.leaveUntil {
			p.forgive()
		}
		e.judge(p)
		e.decide(p)
		e.send(p)
		e.schedule(p)
	}
	e.sendQuestions()
}

// forgive lets the outstanding probes to the peer count no more.
func (p *peer) forgive() {
	for _, l := range []*line{p.small, p.full, p.directSmall, p.directFull} {
		if l != nil {
			l.forgive()
		}
	}
	for _, w := range p.ways {
		w.small.forgive()
		w.full.forgive()
	}
}

// Goodbye hands in that a peer's agent ends, and will not answer until it begins anew.
func (e *Engine) Goodbye(now time.Duration, from uint16) {
	e.advance(now)
	if p := e.peers[from]; p != nil {
		p.leaveUntil = now + leaveFor
		p.settleUntil = max(p.settleUntil, p.leaveUntil+settleTime)
		e.carrierLeaves(from)
	}
}

// Take returns what is to be done, once.
func (e *Engine) Take() Output {
	out := e.out
	e.out = Output{}
	return out
}

func (e *Engine) advance(now time.Duration) {
	if now > e.now {
		e.now = now
	}
}

// schedule computes when the peer needs attention again.
func (e *Engine) schedule(p *peer) {
	next := p.nextProbe
	sooner := func(t time.Duration) {
		if t < next {
			next = t
		}
	}
	sooner(p.nextFull)
	if e.watchesDirect(p) {
		sooner(p.nextDirect)
		sooner(p.nextDirectFull)
	}
	if p.ways != nil {
		sooner(p.nextWay)
	}
	if p.small.last > p.small.reached { // an answer may be late before the next probe
		oldest := p.small.ring[(p.small.reached+1)%ringSize]
		if due := oldest.at + p.small.patience(); oldest.sequence == p.small.reached+1 && due > e.now {
			sooner(due)
		}
	}
	switch s := p.search; {
	case p.phase == settling, len(p.askers) > 0, s != nil && s.first > 0, p.phase == up && s != nil:
		sooner(e.now + burstInterval)
	case p.phase == down && e.now < p.nextSearch:
		sooner(p.nextSearch)
	case p.phase == down && s != nil && e.nextRound(p) > e.now: // an answer comes by itself
		sooner(e.nextRound(p))
	case p.phase == down:
		sooner(e.now + 5*burstInterval)
	}
	if next <= e.now {
		next = e.now + time.Millisecond
	}
	p.next = next
	heap.Fix(&e.queue, p.index)
}

// sooner has the peer served by then, if not before.
func (e *Engine) sooner(p *peer, by time.Duration) {
	if by < p.next {
		p.next = by
		heap.Fix(&e.queue, p.index)
	}
}

// touch has the peer served at once, at the next Tick.
func (e *Engine) touch(p *peer) {
	p.next = e.now
	heap.Fix(&e.queue, p.index)
}

func (e *Engine) event(p *peer, text string) {
	e.out.Events = append(e.out.Events, Event{p.ID, text, p.via})
}

// jitter spreads an interval by a tenth, so that hosts do not fall into step.
func (e *Engine) jitter(d time.Duration) time.Duration {
	return d - d/20 + time.Duration(e.random.Int63n(int64(d/10)+1))
}

// within returns a moment of an interval.
func (e *Engine) within(d time.Duration) time.Duration {
	return time.Duration(e.random.Int63n(int64(d)))
}

// queue orders peers by when they have to be served.
type queue []*peer

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next < q[j].next }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { p := x.(*peer); p.index = len(*q); *q = append(*q, p) }
func (q *queue) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}
