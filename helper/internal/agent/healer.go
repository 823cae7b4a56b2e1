package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"mobula/helper/internal/endpoints"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/rawudp"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

const (
	// shortestSleep bounds how often the engine is served.
	shortestSleep = 5 * time.Millisecond
)

// healer keeps a working path to every peer of one generation of the namespace.
type healer struct {
	log           *slog.Logger
	privateKey    func(public network.Key) (network.Key, error)
	kept          *wireguard.Kept
	device        device
	inside, below socket // inside WireGuard, and beside it
	resolver      resolver
	namespace     uint64 // inode, which tells namespaces of the same name apart
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
	names      *endpoints.Names // of the hosts' endpoints
	turns      map[uint16]turn  // of the hosts that have two keys
	followed   time.Time        // when the document came
	askers     map[asked]uint64 // session of the asking agent
	mtus       network.MTUs
	unable     bool // this host relays for nobody
	observe    bool // the engine wants a look at the kernel
	settings   int  // endpoints set, ever
	echoes     bucket
	macs       [sources]bucket // of direct messages from where no peer is known to be
	unverified uint64          // of these, beyond their budget
	seed       maphash.Seed    // sorts them
	sendFailed time.Time
}

// device is what the healer needs of WireGuard.
type device interface {
	SetEndpoint(peer network.Key, endpoint netip.AddrPort) error
	ShakeAgain(seen []wireguard.PeerState) error
	GiveAllowedIPs(peer network.Key, ips []netip.Prefix) error
	Peers() ([]wireguard.PeerState, error)
}

// socket is what the healer needs of a UDP socket.
type socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

// remote is another host's agent.
type remote struct {
	host       network.Host
	secrets    []probe.Secret // of any of its keys with any of our own, first of those in use
	window     probe.Window
	generation probe.Generation
	heard      time.Time
	endpoint   netip.AddrPort // where it should be: that of its name, else the document's
	at         netip.AddrPort // where the last direct message came from that was the peer's
	ownEchoes  bucket
	echoes     bucket // beyond them
	macs       bucket
	unanswered uint64    // requests beyond the budget of echoes
	unverified uint64    // direct messages from where it is, beyond macs
	ownBytes   int64     // of messages inside WireGuard, as WireGuard counts
	owes       time.Time // the answer to a request inside WireGuard, the first since its last one
	shaking    shaking
}

func (h *healer) stop() {
	if h == nil {
		return
	}
	h.cancel()
	h.goodbye()
	h.ended.Wait()
	if h.kept != nil {
		h.kept.Close()
	}
}

// serveHealing makes the healer follow what runs.
func (a *Agent) serveHealing(ctx context.Context, current *healer, running *store.Change, names resolver) *healer {
	if running == nil || running.Document == nil {
		current.stop()
		return nil
	}
	self, ok := running.Document.Host(running.HostID)
	inode := namespaceInode()
	if current != nil && current.namespace == inode && current.self.ListenPort() == self.ListenPort() && current.self.ID == self.ID && current.ranges == running.Document.Ranges &&
		underlayNamespace(current.self) == underlayNamespace(self) {
		if err := current.follow(running); err != nil {
			a.Log.Warn("following the network document", "error", err)
		}
		return current
	}
	current.stop()
	if !ok || inode == 0 {
		return nil
	}
	h, err := a.startHealing(ctx, running, self, inode, names)
	if err != nil {
		a.Log.Warn("starting to watch paths", "error", err)
		return nil
	}
	a.Log.Info("watching paths", "peers", len(h.peers), "generation", h.generation)
	return h
}

// namespaceInode identifies the gateway's namespace; 0: there is none.
func namespaceInode() uint64 {
	file, err := netns.Open(plan.Namespace)
	if err != nil {
		return 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// underlayNamespace names the network namespace that WireGuard's encrypted packets
// come to, where direct probes go beside them; "" is the host's own.
func underlayNamespace(self network.Host) string {
	if self.SharedUplink {
		return ""
	}
	return plan.Namespace
}

func (a *Agent) startHealing(ctx context.Context, running *store.Change, self network.Host, inode uint64, names resolver) (*healer, error) {
	inside, err := listen(fmt.Sprintf("%s:%d", running.Document.DirectGateway(), plan.ProbeUDPPort))
	if err != nil {
		return nil, err
	}
	below, err := rawudp.Listen(underlayNamespace(self), self.ListenPort(), probe.Magic)
	if err != nil {
		inside.Close()
		return nil, err
	}
	kept, err := wireguard.Keep(plan.Namespace)
	if err != nil {
		return nil, errors.Join(err, inside.Close(), below.Close())
	}
	h := newHealer(a.Log, a.PrivateKey, inside, below, wireguard.On(kept, plan.WireLink, nil), names)
	h.kept, h.namespace = kept, inode
	if err := h.follow(running); err != nil {
		return nil, errors.Join(err, inside.Close(), below.Close(), kept.Close())
	}
	h.start(ctx)
	return h, nil
}

// newHealer returns a healer that does not run yet.
func newHealer(log *slog.Logger, privateKey func(network.Key) (network.Key, error), inside, below socket, d device, names resolver) *healer {
	now := time.Now()
	return &healer{log: log, privateKey: privateKey, inside: inside, below: below, device: d, resolver: names, names: endpoints.New(now.UnixNano()), clock: time.Now, began: now, seed: maphash.MakeSeed(), session: uint64(now.UnixNano()),
		poke: make(chan struct{}, 1), rotates: make(chan struct{}, 1), peers: map[uint16]*remote{}, askers: map[asked]uint64{}, engine: paths.New(paths.Config{}, now.UnixNano())}
}

func (h *healer) start(ctx context.Context) {
	ctx, h.cancel = context.WithCancel(ctx)
	h.ended.Add(5)
	go h.followTurns(ctx)
	go h.followNames(ctx)
	go h.receive(h.inside, h.takeInside)
	go h.receive(h.below, h.takeBelow)
	go h.run(ctx)
}

// follow takes over another document.
func (h *healer) follow(running *store.Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.change == running {
		return nil
	}
	generation := running.Generation()
	self, ok := running.Document.Host(running.HostID)
	if !ok {
		return errors.New("this host is not in the document")
	}
	var own []network.Key
	for _, public := range self.Keys() {
		private, err := h.privateKey(public)
		switch {
		case err == nil:
			own = append(own, private)
		case public == self.PublicKey:
			return err
		}
	}
	h.change, h.generation, h.own, h.self, h.mtus = running, generation, own, self, running.Document.MTUs()
	h.ranges = running.Document.Ranges
	h.followed = time.Now()
	if b, err := hex.DecodeString(generation); err == nil && len(b) == len(h.number) {
		h.number = probe.Generation(b)
	}
	old, turns := h.peers, h.turns
	h.peers, h.byKey, h.turns = map[uint16]*remote{}, map[network.Key]uint16{}, map[uint16]turn{}
	var all []paths.Peer
	relays := running.Document.Relays()
	for _, host := range running.Document.Hosts {
		if host.ID == self.ID || host.PublicKey.IsZero() {
			continue
		}
		r := old[host.ID]
		if r == nil || !haveOneKeyInCommon(r.host, host) {
			r = &remote{}
		}
		r.host, r.secrets = host, nil
		h.peers[host.ID] = r
		for _, key := range host.Keys() {
			h.byKey[key] = host.ID
		}
		if !host.AlsoKey.IsZero() {
			h.turns[host.ID] = turns[host.ID]
		}
		all = append(all, paths.Peer{ID: host.ID, Endpoint: host.Endpoint, NoRelay: !relays[host.ID]})
	}
	h.engine.SetPeers(h.now(), paths.Config{Self: self.ID, Relays: h.relays()}, all)
	h.followNamed(running.Document.Hosts)
	h.observe = true
	wake(h.poke)
	if len(h.turns) > 0 {
		wake(h.rotates)
	}
	return nil
}

// setUnable has a host that keeps its NIC relay for nobody, or for others again.
func (h *healer) setUnable(unable bool) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if unable = unable && h.self.SharedUplink; unable != h.unable {
		h.unable = unable
		h.engine.SetRelays(h.relays())
	}
}

// relays are the hosts that this one forwards to.
func (h *healer) relays() map[uint16]bool {
	all := map[uint16]bool{}
	if !h.unable {
		for _, r := range plan.Relays(h.change.Document, h.self.ID) {
			all[r.HostID] = true
		}
	}
	return all
}

func haveOneKeyInCommon(a, b network.Host) bool {
	for _, k := range a.Keys() {
		if k == b.PublicKey || k == b.AlsoKey {
			return true
		}
	}
	return false
}

// now is the engine's time. It begins at one second, so that zero is never.
func (h *healer) now() time.Duration { return time.Since(h.began) + time.Second }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the engine's clock.
func (h *healer) run(ctx context.Context) {
	defer h.ended.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextLook, noSooner time.Duration
	for {
		h.mu.Lock()
		now := h.now()
		if due := h.engine.Next(); due <= now {
			h.engine.Tick(now)
			h.flush()
		}
		sleep := h.engine.Next() - now
		look := now >= nextLook || h.observe && now >= noSooner
		h.observe = h.observe && !look
		peers := len(h.peers)
		h.mu.Unlock()
		if look {
			h.look()
			nextLook = now + time.Second*time.Duration(1+peers/500)
			noSooner = now + 50*time.Millisecond + time.Duration(peers)*100*time.Microsecond
			continue
		}
		if sleep < shortestSleep {
			sleep = shortestSleep
		}
		if most := nextLook - now; sleep > most {
			sleep = most
		}
		timer.Reset(sleep)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.poke:
			if !timer.Stop() {
				select {
				case <-timer.C:
				default:
				}
			}
		}
	}
}

// look hands the kernel's view of the peers to the engine. What was read before
// an endpoint was set meanwhile is worthless.
func (h *healer) look() {
	h.mu.Lock()
	settings := h.settings
	h.mu.Unlock()
	states, err := h.device.Peers()
	if err != nil {
		return // the device is gone; the repair will say so
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if settings != h.settings {
		h.observe = true
		return
	}
	byHost := h.byHost(states)
	all := make([]paths.Kernel, 0, len(byHost))
	for id, peers := range byHost {
		s := peers[0]
		for _, other := range peers[1:] {
			s = s.Join(other)
		}
		age := time.Duration(-1)
		if !s.LastHandshake.IsZero() {
			age = time.Since(s.LastHandshake)
		}
		all = append(all, paths.Kernel{Peer: id, Endpoint: s.Endpoint, ReceiveBytes: s.ReceiveBytes, TransmitBytes: s.TransmitBytes,
			HandshakeAge: age, OwnBytes: h.peers[id].ownBytes})
	}
	h.engine.Observe(h.now(), all)
	h.flush()
	for id := range h.turns {
		delete(byHost, id) // they are looked at more often
	}
	h.shakeAgain(time.Now(), byHost)
}
