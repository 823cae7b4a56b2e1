// Package paths decides by which way the packets for each peer leave: straight
// to it, or through another member that relays. It is pure: time, answers and
// what the kernel says come in, and what is to be sent or set comes out.
//
// All times are durations since some fixed moment before the engine began.
package paths

import (
	"net/netip"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/probe"
)

// Plane is where a probe travels.
type Plane byte

// The planes. Traffic is inside WireGuard and goes where the data goes; Direct
// is between the underlay addresses.
const (
	Traffic Plane = iota
	Direct
)

// How a path is judged.
const (
	// A path is down when downMisses probes in a row are late and the first was
	// sent downAfter ago, or as long ago as an answer can take, but at most
	// mostDownAfter. With 20 % of the packets lost each way, 36 % of the probes
	// are, and a given run of 16 happens by chance once in 10 million.
	downMisses    = 16
	downAfter     = 300 * time.Millisecond
	mostDownAfter = 600 * time.Millisecond
	// fewMisses are enough where each probe counts, because hosts are many or many
	// paths are late at once, and as long as at most strayShare of the probes is lost
	// by chance: then these hardly ever are by chance.
	fewMisses  = 3
	strayShare = 0.01
	// recentlyDown is how long a fallen peer counts when it is found out whether many
	// fell at once, and manyTroubles how many those are.
	recentlyDown = 2 * time.Second
	manyTroubles = 16
	// fullDownAfter is downAfter for probes of full size.
	fullDownAfter = time.Second
	// A path that loses more than lossyShare of lossySamples probes or more,
	// over lossPeriod at least, is left for one that loses less than cleanShare.
	lossyShare   = 0.15
	lossySamples = 60
	cleanShare   = 0.03
	// The direct path is well as long as it loses at most wellShare, half of what
	// makes one leave it, and at most wellMisses probes in a row.
	wellShare  = lossyShare / 2
	wellMisses = 4
	// stallAfter is how late a tick may be before the engine mistrusts its own
	// clock: what it has not read yet may have come long ago.
	// After forgiveAfter it takes nothing that is unanswered for lost.
	stallAfter   = 80 * time.Millisecond
	forgiveAfter = 500 * time.Millisecond
	// leaveFor is how long the silence of an agent that said goodbye, or was not heard
	// yet, says nothing about paths: it begins anew, as all do after a deploy.
	leaveFor = 4 * time.Second
	// answerAge is how old an answered probe may be that a relay vouches with.
	answerAge = 50 * time.Millisecond
)

// How often probes are sent.
const (
	burstInterval  = 20 * time.Millisecond
	activeInterval = 150 * time.Millisecond
	idleInterval   = time.Second
	directInterval = 200 * time.Millisecond // while traffic with the peer is relayed
	fullInterval   = time.Second            // of probes of full size, with traffic
	// Own probes a second that all idle and all active peers share. The other
	// side probes as often, and each probe has an echo: four packets.
	idleProbesPerSecond   = 375
	activeProbesPerSecond = 200
	// fullProbesPerSecond are those of full size for active peers.
	fullProbesPerSecond = 100
	// firstPerSecond are those with which hosts begin that hardly know each other yet.
	firstPerSecond = 80
	// probesPerSecond bounds everything, bursts included, and leaves room for
	// as many echoes.
	probesPerSecond  = 650
	queriesPerSecond = 30
	// checksPerSecond are own probes because others asked.
	checksPerSecond = 300
	// silentPerSecond is what all hosts together may send to one that does not answer.
	silentPerSecond = 600
	// activeFor is how long a peer counts as active after its last traffic, and
	// activeBytes the least traffic a second that is not the agents' own.
	activeFor   = 15 * time.Second
	activeBytes = 500
)

// How long things are held.
const (
	firstHold = 10 * time.Second // the direct path has to be good before it is used again
	mostHold  = 10 * time.Minute
	// settleTime is how long a new path may take to bring the first echo; with
	// rekeyTime if WireGuard has to shake hands first: twice, if the first handshakes cross.
	settleTime = 700 * time.Millisecond
	rekeyTime  = time.Second
	// quickSettles are the ways that are tried one at once after the other, though none of
	// them brings an answer.
	quickSettles = 6
	sessionAge   = 170 * time.Second // WireGuard's own limit is 180 s
	avoidFor     = 10 * time.Second  // a relay that did not work
)

// Peer is another host as the document has it.
type Peer struct {
	ID uint16
	// Endpoint is its underlay endpoint.
	Endpoint netip.AddrPort
	// NoRelay: it has no relay ports there, see network.Document.Relays.
	NoRelay bool
	// Others are its other endpoints.
	Others []netip.AddrPort
}

// Probe is a request to be sent.
type Probe struct {
	Peer     uint16
	Plane    Plane
	Full     bool
	Sequence uint32
	To       netip.AddrPort // underlay, for Direct
}

// Query asks a relay which targets it reaches.
type Query struct {
	Relay    uint16
	Targets  []uint16
	Sequence uint32
}

// Reply answers another host's query.
type Reply struct {
	To, Target uint16
	Sequence   uint32
	Verdict    probe.Verdict
}

// Route is a WireGuard endpoint to be set.
type Route struct {
	Peer     uint16
	Endpoint netip.AddrPort
}

// Event is something to be logged.
type Event struct {
	Peer uint16
	Text string
	Via  uint16 // 0: direct
}

// Output is what the engine wants done: routes first, then the rest.
type Output struct {
	Routes    []Route
	Probes    []Probe
	Queries   []Query
	Replies   []Reply
	Sightings []Sighting
	// Distrusted are endpoints (Carried) from which nothing is to be taken for a while.
	Distrusted []netip.AddrPort
	Events     []Event
	// Observe asks for a fresh look at the kernel.
	Observe bool
}

// Kernel is what WireGuard knows of a peer.
type Kernel struct {
	Peer                        uint16
	Endpoint                    netip.AddrPort
	ReceiveBytes, TransmitBytes int64
	// HandshakeAge is the time since the last handshake; negative: never.
	HandshakeAge time.Duration
	// OwnBytes are those of the agents' own messages, both ways, ever.
	OwnBytes int64
}

// relayEndpoint is where a relay takes packets for the target.
func relayEndpoint(relay Peer, target uint16) netip.AddrPort {
	port := network.RelayPort(network.Host{Endpoint: relay.Endpoint}, target)
	return netip.AddrPortFrom(relay.Endpoint.Addr(), port)
}
