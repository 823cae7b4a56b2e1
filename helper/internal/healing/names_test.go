package healing

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"mobula/helper/internal/endpoints"
	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// silence is a host whose peers never answer: its sockets, and its WireGuard, which
// has shaken hands with nobody.
type silence struct {
	mu     sync.Mutex
	peers  map[network.Key]netip.AddrPort
	sent   int
	closed chan struct{}
	once   sync.Once
}

func (s *silence) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	<-s.closed
	return 0, netip.AddrPort{}, net.ErrClosed
}

func (s *silence) Answer(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, to)
}

func (s *silence) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	return len(b), nil
}

func (s *silence) Close() error { s.once.Do(func() { close(s.closed) }); return nil }

func (s *silence) SetEndpoint(peer network.Key, endpoint netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[peer] = endpoint
	return nil
}
func (s *silence) ShakeAgain([]wireguard.PeerState) error           { return nil }
func (s *silence) GiveAllowedIPs(network.Key, []netip.Prefix) error { return nil }

func (s *silence) Peers() (all []wireguard.PeerState, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, endpoint := range s.peers {
		all = append(all, wireguard.PeerState{PublicKey: key, Endpoint: endpoint})
	}
	return all, nil
}

// unheard returns a healer of host 1 among hosts that have names and do not answer.
func unheard(t *testing.T, hosts uint16, names Resolver) (*Healer, *silence, *network.Document) {
	t.Helper()
	s := &silence{peers: map[network.Key]netip.AddrPort{}, closed: make(chan struct{})}
	d := &network.Document{Format: network.FormatVersion, UnderlayMTU: 1500}
	var own network.Key
	for id := uint16(1); id <= hosts; id++ {
		seed := [32]byte{7, byte(id)}
		key, err := ecdh.X25519().NewPrivateKey(seed[:])
		if err != nil {
			t.Fatal(err)
		}
		h := network.Host{ID: id, Name: fmt.Sprint(id), Hostname: fmt.Sprintf("h%d.example.com", id), Endpoint: underlay(id),
			EndpointName: fmt.Sprintf("h%d.example.net", id), PublicKey: network.Key(key.PublicKey().Bytes())}
		if d.Hosts = append(d.Hosts, h); id == 1 {
			own = seed
		} else {
			s.peers[h.PublicKey] = h.Endpoint
		}
	}
	h := New(Config{Log: quiet(), PrivateKey: func(network.Key) (network.Key, error) { return own, nil }, Names: names}, 0, s, s, s)
	if err := h.Follow(&store.Change{HostID: 1, Document: d}); err != nil {
		t.Fatal(err)
	}
	return h, s, d
}

// pass lets time pass by the healer's clock.
func (h *Healer) pass(d time.Duration) {
	for ; d > 0; d -= 20 * time.Millisecond {
		h.mu.Lock()
		h.began = h.began.Add(-20 * time.Millisecond)
		h.engine.Tick(h.now())
		h.flush()
		h.mu.Unlock()
		if d%time.Second == 0 {
			h.look()
		}
	}
}

type answers map[string][]netip.Addr

func (a answers) PublicAddresses(_ context.Context, name string) ([]netip.Addr, error) {
	if found := a[name]; found != nil {
		return found, nil
	}
	return nil, errors.New("there is no such name")
}

// askAll looks up what is due.
func (h *Healer) askAll() (asked []string) {
	asked = h.dueNames()
	for _, name := range asked {
		h.lookUp(context.Background(), name)
	}
	return asked
}

// TestALostHostIsSoughtByItsName: WireGuard sends there, messages from there are the
// host's as far as budgets go, and the state tells; of one whose name is gone, too.
func TestALostHostIsSoughtByItsName(t *testing.T) {
	now := netip.MustParseAddr("198.51.100.2")
	h, s, d := unheard(t, 3, answers{"h2.example.net": {now}})
	h.pass(10 * time.Second)
	asked := map[string]bool{}
	for i := 0; i < 5; i++ {
		for _, name := range h.askAll() {
			asked[name] = true
		}
		h.pass(time.Second)
	}
	if len(asked) != 2 || asked["h1.example.net"] {
		t.Errorf("asked for %v, wanted the names of both others", asked)
	}
	moved := netip.AddrPortFrom(now, 51820)
	s.mu.Lock()
	if at := s.peers[d.Hosts[1].PublicKey]; at != moved {
		t.Errorf("WireGuard sends to %v, wanted %v", at, moved)
	}
	if at := s.peers[d.Hosts[2].PublicKey]; at != underlay(3) {
		t.Errorf("WireGuard sends to %v, wanted what the document says", at)
	}
	s.mu.Unlock()
	state := h.state()
	two, three := state.Peers[0].Name, state.Peers[1].Name
	if two == nil || two.Name != "h2.example.net" || two.Endpoint != moved || two.Changed == nil || time.Since(*two.Changed) > time.Minute || two.Problem != "" {
		t.Errorf("host 2: found %+v", two)
	}
	if three == nil || three.Endpoint != underlay(3) || three.Changed != nil || three.Problem != "there is no such name" || three.Since == nil {
		t.Errorf("host 3: found %+v", three)
	}
	h.mu.Lock()
	for i := 0; i < 200; i++ { // more than a source has that is no peer's
		if !h.mayVerify(h.peers[2], moved) {
			t.Errorf("message %d from where host 2 is now was not verified", i)
			break
		}
	}
	h.mu.Unlock()

	d.Hosts[0].Hostname = "other.example.com" // another document, with nothing new about host 2
	if err := h.Follow(&store.Change{HostID: 1, Document: d}); err != nil {
		t.Fatal(err)
	}
	if r := h.peers[2]; r.endpoint != moved {
		t.Errorf("after another document: found %v, wanted %v", r.endpoint, moved)
	}
}

// TestTwoBehindOneAddress: what is verified of one of them takes nothing from the other.
func TestTwoBehindOneAddress(t *testing.T) {
	h, _, d := unheard(t, 3, answers{})
	router := netip.MustParseAddr("203.0.113.7")
	d.Hosts[1].Endpoint, d.Hosts[2].Endpoint = netip.AddrPortFrom(router, 51821), netip.AddrPortFrom(router, 51820)
	d.Hosts[1].WireGuardPort = 51820
	if err := h.Follow(&store.Change{HostID: 1, Document: d}); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = func() time.Time { return h.began }
	for i := 0; i < peerMACsPerSecond; i++ {
		h.mayVerify(h.peers[2], netip.AddrPortFrom(router, 51821))
	}
	if h.mayVerify(h.peers[2], netip.AddrPortFrom(router, 51821)) {
		t.Error("nothing bounds the first")
	}
	if !h.mayVerify(h.peers[3], netip.AddrPortFrom(router, 51820)) {
		t.Error("the second has to pay for it")
	}
}

// stuck is a resolver that never comes back, whatever its context says.
type stuck struct {
	mu    sync.Mutex
	asked int
}

func (s *stuck) PublicAddresses(context.Context, string) ([]netip.Addr, error) {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	select {}
}

// TestAResolverThatHangs holds up neither paths nor the end, and is not asked without end.
func TestAResolverThatHangs(t *testing.T) {
	names := &stuck{}
	h, s, _ := unheard(t, 20, names)
	h.began = h.began.Add(-24 * time.Hour) // all are due
	h.Start(context.Background())
	time.Sleep(4 * time.Second)
	s.mu.Lock()
	before := s.sent
	s.mu.Unlock()
	time.Sleep(2 * time.Second)
	s.mu.Lock()
	if s.sent == before {
		t.Error("no probe is sent any more")
	}
	s.mu.Unlock()
	began := time.Now()
	h.Stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the end took %v", took)
	}
	names.mu.Lock()
	defer names.mu.Unlock()
	if names.asked != endpoints.MaxAsking {
		t.Errorf("asked %d times, wanted %d", names.asked, endpoints.MaxAsking)
	}
}
