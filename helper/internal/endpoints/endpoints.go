// Package endpoints decides when the names that stand for other hosts' endpoints are
// looked up again, and what follows from the answers. It is pure: time, answers and
// which hosts are lost come in, and names to ask for and other endpoints come out.
//
// All times are durations since some fixed moment before it began.
package endpoints

import (
	"math/rand"
	"net/netip"
	"slices"
	"sort"
	"time"

	"mobula/helper/internal/network"
)

const (
	// MaxAsking is how many names are asked for at a time, and perSecond how many
	// in a second, of which idle ones leave half to those whose hosts are lost.
	MaxAsking = 4
	perSecond = 4
	// A name whose hosts are all reached is asked for every idleInterval, or less
	// often: all of them together share idlePerSecond.
	idleInterval  = 10 * time.Minute
	idlePerSecond = 1
	// A name of which a host is lost is asked for within firstWait, then after twice as
	// long each time, up to lastWait.
	firstWait = 2 * time.Second
	lastWait  = 2 * time.Minute
)

// Of is an endpoint of a host: Number 0 is its first one, 1 the first of the others.
type Of struct {
	ID     uint16
	Number int
}

// Peer is an endpoint of another host as the document has it.
type Peer struct {
	Of
	// Name is that of the endpoint, and Endpoint what it stood for on the deployer.
	Name     string
	Endpoint netip.AddrPort
}

// Change is an endpoint that is elsewhere than before.
type Change struct {
	Of
	Endpoint netip.AddrPort
}

// Report is what is known about the name of an endpoint.
type Report struct {
	Name     string
	Endpoint netip.AddrPort // for which it stands, as far as is known
	// Changed is when that became another one than the document's; 0: it did not.
	Changed time.Duration
	// Problem is why the last question gave no address, since Since; "": it did.
	Problem string
	Since   time.Duration
}

// Names are those of all peers. They are not safe for concurrent use.
type Names struct {
	random *rand.Rand
	ranges network.Ranges
	peers  map[Of]*peer
	names  map[string]*name
	order  []*name // by name, for repeatable runs
	asking int
	tokens float64 // questions that may be asked now
	filled time.Duration
}

type peer struct {
	Peer
	now     netip.AddrPort
	changed time.Duration
}

type name struct {
	name    string
	peers   []*peer
	next    time.Duration // not before
	asking  bool
	lost    bool          // one of its hosts is
	wait    time.Duration // before the next question while it is
	problem string
	since   time.Duration
}

// New returns no names. Runs with the same seed and input are the same.
func New(seed int64) *Names {
	return &Names{random: rand.New(rand.NewSource(seed)), tokens: perSecond}
}

// Set takes over another document. What is known of hosts of which it says the same
// stays known. Those without a name are left out.
func (n *Names) Set(now time.Duration, ranges network.Ranges, peers []Peer) {
	oldPeers, oldNames := n.peers, n.names
	n.ranges = ranges
	n.peers, n.names, n.order = map[Of]*peer{}, map[string]*name{}, nil
	for _, p := range peers {
		if p.Name == "" {
			continue
		}
		known := oldPeers[p.Of]
		if known == nil || known.Peer != p {
			known = &peer{Peer: p, now: p.Endpoint}
		}
		n.peers[p.Of] = known
		of := n.names[p.Name]
		if of == nil {
			if of = oldNames[p.Name]; of == nil {
				of = &name{name: p.Name, next: -1}
			}
			of.peers = nil
			n.names[p.Name] = of
			n.order = append(n.order, of)
		}
		of.peers = append(of.peers, known)
	}
	sort.Slice(n.order, func(i, j int) bool { return n.order[i].name < n.order[j].name })
	for _, of := range n.order {
		if of.next < 0 {
			of.next = now + time.Duration(n.random.Int63n(int64(n.idle())))
		}
	}
	// What is asked for stays counted, though it may be gone: its answer will come.
}

// idle is the time between two questions for a name whose hosts are reached.
func (n *Names) idle() time.Duration {
	return max(idleInterval, time.Duration(len(n.order))*time.Second/idlePerSecond)
}

// around spreads a time by a quarter each way, so that hosts do not fall into step.
func (n *Names) around(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(n.random.Int63n(int64(d)/2))
}

// Due returns the names to ask for now. Each has to be answered. lost tells whether a
// host is not reached directly.
func (n *Names) Due(now time.Duration, lost func(id uint16) bool) (due []string) {
	n.tokens = min(perSecond, n.tokens+perSecond*(now-n.filled).Seconds())
	n.filled = now
	for _, of := range n.order {
		n.judge(now, of, lost)
	}
	for n.asking < MaxAsking {
		of := n.first(now)
		if of == nil || n.tokens < 1 || !of.lost && n.tokens < 1+perSecond/2 {
			break
		}
		n.tokens--
		n.asking++
		of.asking = true
		due = append(due, of.name)
	}
	return due
}

// first returns the name that has been due for longest, of those with lost hosts if
// there is one; nil: none is.
func (n *Names) first(now time.Duration) (first *name) {
	for _, of := range n.order {
		if of.asking || now < of.next {
			continue
		}
		if first == nil || of.lost && !first.lost || of.lost == first.lost && of.next < first.next {
			first = of
		}
	}
	return first
}

// judge notices when a host of a name is lost, and when none is any more.
func (n *Names) judge(now time.Duration, of *name, lost func(id uint16) bool) {
	before := of.lost
	of.lost = slices.ContainsFunc(of.peers, func(p *peer) bool { return lost(p.ID) })
	switch {
	case of.lost && !before:
		of.wait = firstWait
		of.next = min(of.next, now+time.Duration(n.random.Int63n(int64(firstWait))))
	case !of.lost && before:
		of.next = now + n.around(n.idle())
	}
}

// Answer hands in what a question for a name brought, and returns which hosts are
// elsewhere now. A host stays where it is as long as that is among the addresses; else
// it is at the smallest one, so that their order does not count. Addresses that no
// endpoint can have do not count.
func (n *Names) Answer(now time.Duration, asked string, addresses []netip.Addr, err error) (changes []Change) {
	n.asking--
	of := n.names[asked]
	if of == nil { // no longer in the document
		return nil
	}
	of.asking = false
	of.next = now + n.around(n.idle())
	if of.lost {
		of.next = now + n.around(of.wait)
		of.wait = min(2*of.wait, lastWait)
	}
	four, six := usable(n.ranges, addresses)
	if problem := of.missing(four, six, err); problem != "" {
		if of.problem == "" {
			of.since = now
		}
		of.problem = problem
	} else {
		of.problem = ""
	}
	for _, p := range of.peers {
		usable := four
		if p.now.Addr().Is6() {
			usable = six
		}
		if len(usable) == 0 || slices.Contains(usable, p.now.Addr()) {
			continue
		}
		p.now, p.changed = netip.AddrPortFrom(usable[0], p.Endpoint.Port()), now
		changes = append(changes, Change{p.Of, p.now})
	}
	return changes
}

// missing says what is wrong with an answer; "": nothing.
func (n *name) missing(four, six []netip.Addr, err error) string {
	if err != nil {
		return err.Error()
	}
	for _, p := range n.peers {
		switch is6 := p.now.Addr().Is6(); {
		case is6 && len(six) == 0:
			return "no IPv6 address at which a host can be"
		case !is6 && len(four) == 0:
			return "no IPv4 address at which a host can be"
		}
	}
	return ""
}

// usable returns the addresses that an endpoint can have, of each family the smallest first.
func usable(ranges network.Ranges, addresses []netip.Addr) (four, six []netip.Addr) {
	for _, a := range addresses {
		switch a = a.Unmap(); {
		case ranges.CheckEndpoint(a) != "":
		case a.Is4():
			four = append(four, a)
		default:
			six = append(six, a)
		}
	}
	slices.SortFunc(four, netip.Addr.Compare)
	slices.SortFunc(six, netip.Addr.Compare)
	return four, six
}

// Report tells about the name of an endpoint; false: it has none.
func (n *Names) Report(of Of) (Report, bool) {
	p := n.peers[of]
	if p == nil {
		return Report{}, false
	}
	name := n.names[p.Name]
	return Report{Name: p.Name, Endpoint: p.now, Changed: p.changed, Problem: name.problem, Since: name.since}, true
}
