// Package healing keeps a working path to every peer: it sends and answers probes on sockets of
// its own, hands what they and the kernel say to package paths, which decides, and has WireGuard
// send where that says. It follows the peers' names and keys, and tells how its paths are.
package healing

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"mobula/helper/internal/bucket"
	"mobula/helper/internal/endpoints"
	"mobula/helper/internal/firstpacket"
	"mobula/helper/internal/mesh"
	"mobula/helper/internal/metrics"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/sourceport"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// Config is what a Healer needs of its host.
type Config struct {
	Log *slog.Logger
	// PrivateKey finds the private half of the host's public key.
	PrivateKey func(public network.Key) (network.Key, error)
	// Names finds the addresses of endpoints that have names.
	Names Resolver
	// About is what the host says of itself besides its ways: its version and its problems; nil:
	// nothing.
	About func() (version string, problems []string)
}

// Healer keeps a working path to every peer of one generation of the namespace.
type Healer struct {
	Config
	kept          *wireguard.Kept
	leaving       *firstpacket.Watcher // nil: the kernel cannot tell
	device        Device
	inside        Socket                         // inside WireGuard
	below         Answering                      // beside it, over IPv4
	below6        Answering                      // and over IPv6; nil: this host does not speak it there
	carrier       *carrier                       // nil: it carries for nobody
	networks      func() ([]netip.Prefix, error) // own addresses, each with its network; nil: nobody knows
	outside6      func() (netip.Addr, error)     // from where it sends over IPv6; nil: nobody knows
	underlay      *string                        // the namespace in which WireGuard's own packets leave; nil: they are nobody's to change
	rewriting     *sourceport.Rewriting          // of their port; only run touches it
	namespace     uint64                         // inode, which tells namespaces of the same name apart
	began         time.Time
	clock         func() time.Time // of the budgets
	session       uint64
	cancel        context.CancelFunc
	ended         sync.WaitGroup
	poke, rotates chan struct{} // the engine is due; the document has hosts with two keys

	mu         sync.Mutex
	change     *store.Change
	generation string
	number     probe.Generation
	self       network.Host
	ranges     network.Ranges
	own        []network.Key // private halves of the host's keys, first the one in use
	engine     *paths.Engine
	peers      map[uint16]*remote
	byKey      map[network.Key]uint16
	insiders   insiders
	names      *endpoints.Names // of the hosts' endpoints
	turns      map[uint16]turn  // of the hosts that have two keys
	followed   time.Time        // when the document came
	askers     map[asked]uint64 // session of the asking agent
	mtus       network.MTUs
	hasIPv6    bool           // the MTUs leave room for it
	unable     bool           // this host relays for nobody
	observe    bool           // the engine wants a look at the kernel
	deafness   deafness       // of a host without an endpoint
	deaf       bool           // it is time for another port
	shakes     bool           // handshakes may have to be tried again soon
	local      []netip.Prefix // the host's own addresses, each with its network
	from6      netip.Addr     // from where it sends to others over IPv6; zero: from nowhere
	tells      []netip.Addr   // those of these that peers are told
	lookedAt   time.Time      // at them
	settings   int            // endpoints set, ever
	echoes     bucket.Bucket
	macs       [sources]bucket.Bucket // of direct messages from where no peer is known to be
	seed       maphash.Seed           // sorts them
	sendFailed time.Time
	refused    metrics.Refused // beyond all bounds, of whoever was a peer

	mesh *mesh.Service // answers other hosts' questions; nil: nothing does
}

// remote is another host's agent.
type remote struct {
	host       network.Host
	secrets    []probe.Secret // of any of its keys with any of our own, first of those in use
	window     probe.Window
	generation probe.Generation
	heard      time.Time
	shaken     time.Time        // last handshake, as seen last
	endpoint   netip.AddrPort   // where it should be: that of its name, else the document's
	others     []netip.AddrPort // its other endpoints, as endpoint is
	announced  announced        // what it says that it has
	telling    telling          // it what this host has
	at         netip.AddrPort   // where the last direct message came from that was the peer's
	ownEchoes  bucket.Bucket
	echoes     bucket.Bucket // beyond them
	macs       bucket.Bucket
	unanswered uint64    // requests beyond the budget of echoes
	unverified uint64    // direct messages from where it is, beyond macs
	ownBytes   int64     // of messages inside WireGuard, as WireGuard counts
	owes       time.Time // the answer to a request inside WireGuard, the first since its last one
	shaking    shaking
}

// New returns a healer that follows nothing yet and does not run, on these sockets in a namespace
// with that inode (0: there is none).
func New(c Config, namespace uint64, inside Socket, below Answering, d Device) *Healer {
	now := time.Now()
	return &Healer{Config: c, inside: inside, below: below, device: d, namespace: namespace, names: endpoints.New(now.UnixNano()), clock: time.Now, began: now, seed: maphash.MakeSeed(), session: uint64(now.UnixNano()),
		poke: make(chan struct{}, 1), rotates: make(chan struct{}, 1), peers: map[uint16]*remote{}, askers: map[asked]uint64{}, engine: paths.New(paths.Config{}, now.UnixNano())}
}

// Start has it run until the context ends or Stop is called.
func (h *Healer) Start(ctx context.Context) {
	ctx, h.cancel = context.WithCancel(ctx)
	h.ended.Add(4)
	if h.mesh != nil {
		h.ended.Add(1)
		go func() {
			defer h.ended.Done()
			h.mesh.Serve()
		}()
	}
	go h.followTurns(ctx)
	go h.followNames(ctx)
	go h.receive(h.inside, h.takeInside)
	h.receiveBelow(h.below)
	if h.below6 != nil {
		h.receiveBelow(h.below6)
	}
	if h.carrier != nil {
		h.carry(ctx, h.carrier)
	}
	go h.run(ctx)
}

func (h *Healer) receiveBelow(at Answering) {
	h.ended.Add(1)
	go h.receive(at, func(b []byte, from netip.AddrPort) { h.takeBelow(at, b, from) })
}

// Stop says goodbye to the peers and waits for the end; nil is stopped.
func (h *Healer) Stop() {
	if h == nil {
		return
	}
	h.cancel()
	h.goodbye() // over what is carried, too
	h.carrier.close()
	if h.mesh != nil {
		h.mesh.Close()
	}
	h.ended.Wait()
	h.keepPort()
	if h.leaving != nil {
		if err := h.leaving.Close(); err != nil {
			h.Log.Warn("ending to watch what leaves", "error", err)
		}
	}
	if h.kept != nil {
		h.kept.Close()
	}
}

// now is the engine's time. It begins at one second, so that zero is never.
func (h *Healer) now() time.Duration { return time.Since(h.began) + time.Second }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
