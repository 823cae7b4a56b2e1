package healing

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// notForLong is less than what WireGuard waits by itself, 5 s, and more than what the
// agents take where nothing else gets lost.
const notForLong = 4 * time.Second

// heardSoon fails if the two hosts are silent to each other, either way, for notForLong.
func (n *liveNet) heardSoon(a, b uint16) {
	n.t.Helper()
	for end := n.hosts[a].sent.Load() + int64(notForLong/n.dataEvery); n.hosts[a].sent.Load() < end; {
		time.Sleep(n.dataEvery)
	}
	for _, way := range [][2]*liveHost{{n.hosts[a], n.hosts[b]}, {n.hosts[b], n.hosts[a]}} {
		if silence := way[1].silence(way[0].id); silence >= notForLong {
			n.t.Errorf("host %d heard nothing of host %d for %v", way[1].id, way[0].id, silence)
		} else {
			n.t.Logf("host %d heard nothing of host %d for %v", way[1].id, way[0].id, silence)
		}
	}
}

// TestHandshakesOfARotationGetLost: all of those that either host, or both, begin when
// they take their new keys.
func TestHandshakesOfARotationGetLost(t *testing.T) {
	t.Parallel()
	for _, switching := range [][]uint16{{1}, {2}, {1, 2}} {
		t.Run(fmt.Sprint(switching), func(t *testing.T) {
			t.Parallel()
			n := newLiveNet(t, 2*time.Millisecond, 1, 2)
			var losing atomic.Bool
			n.underlay.Lost = func(_, _ netip.AddrPort, m wireguardtest.Message) bool {
				return losing.Load() && m != wireguardtest.Data
			}
			n.begin(n.phase(n.first, n.other))
			losing.Store(true)
			uses := map[uint16]network.Key{1: n.first[1], 2: n.first[2]}
			for _, id := range switching {
				uses[id] = n.other[id]
				n.hosts[id].become(n.phase(n.other, n.first))
			}
			time.Sleep(200 * time.Millisecond)
			losing.Store(false)
			n.heardSoon(1, 2)
			for id, h := range n.hosts {
				h.Healer.mu.Lock()
				found := h.turns[3-id].active
				h.Healer.mu.Unlock()
				if want := uses[3-id]; found != want {
					t.Errorf("host %d sends to the key %v, wanted %v", id, found, want)
				}
			}
		})
	}
}

// TestHandshakesCross: two hosts that never talked begin at the same moment, with their
// only keys. Neither has a session then.
func TestHandshakesCross(t *testing.T) {
	t.Parallel()
	n := newLiveNet(t, 100*time.Millisecond, 1, 2)
	began := map[netip.AddrPort]bool{} // until the first answer
	var answered, crossed atomic.Bool
	n.underlay.Lost = func(from, _ netip.AddrPort, m wireguardtest.Message) bool {
		switch {
		case m == wireguardtest.Initiation && !answered.Load():
			began[from] = true
		case m == wireguardtest.Response && !answered.Swap(true):
			crossed.Store(len(began) == 2)
		}
		return false
	}
	d := n.phase(n.first, nil)
	for _, h := range n.hosts {
		h.become(d)
	}
	for _, h := range n.hosts {
		h.Start(context.Background())
		go h.talk()
	}
	n.heardSoon(1, 2)
	if !crossed.Load() {
		t.Error("nothing crossed: this tests nothing")
	}
}

// TestWhatIsShakenHandsWithAgain: looks at one host, 100 ms apart, which say what was
// received under its keys, the first of which is in use.
func TestWhatIsShakenHandsWithAgain(t *testing.T) {
	const every, first, pause = 100 * time.Millisecond, 600 * time.Millisecond, time.Second
	old, fresh := time.Now().Add(-20*time.Second), time.Now().Add(-10*time.Second)
	over := time.Now().Add(-sessionFor)
	peer := func(key byte, handshake time.Time, bytes int64) wireguard.PeerState {
		p := wireguard.PeerState{PublicKey: network.Key{key}, LastHandshake: handshake, ReceiveBytes: bytes, Own: network.Key{99}, Endpoint: plantest.Host(2).Endpoint}
		if key == 1 {
			p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}
		}
		return p
	}
	type look = []wireguard.PeerState
	for name, c := range map[string]struct {
		owes bool
		at   func(n int) look // the n-th
		want string           // which keys, and at which look
	}{
		"all is well":                  {false, func(int) look { return look{peer(1, old, 500), peer(2, old, 700)} }, ""},
		"only its agent is silent":     {true, func(n int) look { return look{peer(1, old, int64(500+n)), peer(2, time.Time{}, 0)} }, ""},
		"it sends under its other key": {true, func(n int) look { return look{peer(1, old, 500), peer(2, old, int64(n))} }, ""},
		"nothing comes":                {true, func(int) look { return look{peer(1, old, 500), peer(2, time.Time{}, 0)} }, "6[2] 16[2] 26[2] 36[2]"},
		"neither key has a session": {true, func(int) look { return look{peer(1, time.Time{}, 0), peer(2, time.Time{}, 0)} },
			"6[2] 16[2] 26[2 1] 36[2 1]"},
		"a handshake under the key in use did not end": {true, func(n int) look {
			return look{peer(1, time.Time{}, 148*int64(min(n/10, 1))), peer(2, time.Time{}, 0)}
		}, "6[2] 16[2 1] 26[2 1] 36[2 1]"},
		"the own key changed": {true, func(n int) look {
			l := look{peer(1, old, 500), peer(2, old, 700)}
			if n >= 3 {
				l[0].Own = network.Key{98}
			}
			return l
		}, "6[2] 16[2] 26[2 1] 36[2 1]"},
		"the own key changed, and there was a handshake since": {true, func(n int) look {
			l := look{peer(1, old, 500), peer(2, old, 700)}
			if n >= 3 {
				l[0].Own = network.Key{98}
			}
			if n >= 4 {
				l[0].LastHandshake = fresh
			}
			return l
		}, "6[2] 16[2] 26[2] 36[2]"},
		"one key, with a session":        {true, func(int) look { return look{peer(1, old, 500)} }, ""},
		"one key, whose session is over": {true, func(int) look { return look{peer(1, over, 500)} }, "6[1] 16[1] 26[1] 36[1]"},
		"one key, and nobody knows where": {true, func(int) look {
			p := peer(1, time.Time{}, 0)
			p.Endpoint = netip.AddrPort{}
			return look{p}
		}, ""},
		"one key, and never a session":   {true, func(int) look { return look{peer(1, time.Time{}, 0)} }, "6[1] 16[1] 26[1] 36[1]"},
		"somebody moves the addresses":   {true, func(int) look { return look{peer(3, old, 500), peer(2, old, 700)} }, ""},
		"the addresses are seen at both": {true, func(int) look { return look{peer(1, old, 500), peer(1, old, 700)} }, ""},
		"answers come again at look ten": {false, func(int) look { return look{peer(1, time.Time{}, 0)} }, "6[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			var s shaking
			var found []string
			for n := 0; n < 40; n++ {
				owes := began
				if !c.owes && (c.want == "" || n >= 10) {
					owes = time.Time{}
				}
				var again look
				if s, again = s.next(began.Add(time.Duration(n)*every), owes, first, pause, c.at(n)); len(again) > 0 {
					var keys []byte
					for _, p := range again {
						keys = append(keys, p.PublicKey[0])
					}
					found = append(found, fmt.Sprintf("%d%v", n, keys))
				}
			}
			if got := strings.Join(found, " "); got != c.want {
				t.Errorf("found %q, wanted %q", got, c.want)
			}
		})
	}
}

// TestAHostThatIsDownIsLeftAlone: it is tried ever less often, and no more when the
// rotation was left.
func TestAHostThatIsDownIsLeftAlone(t *testing.T) {
	began := time.Now()
	down := []wireguard.PeerState{{PublicKey: network.Key{1}, Endpoint: plantest.Host(2).Endpoint, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}}, {PublicKey: network.Key{2}}}
	var s shaking
	tries := 0
	for at := time.Duration(0); at < hasteFor; at += 50 * time.Millisecond {
		var again []wireguard.PeerState
		if s, again = s.next(began.Add(at), began, firstShake, pauseShakes, down); len(again) > 0 {
			tries++
		}
	}
	if tries < 10 || tries > 13 {
		t.Errorf("found %d tries in %v, wanted about a dozen", tries, hasteFor)
	}

	one, two, other := rotating(t)
	d := &turningDevice{peers: []wireguard.PeerState{{PublicKey: two.self.PublicKey, Endpoint: down[0].Endpoint, AllowedIPs: down[0].AllowedIPs}, {PublicKey: other}}}
	one.device = d
	one.lookForTurns()
	one.peers[2].owes = time.Now().Add(-time.Hour)
	one.peers[2].shaking.heard = time.Now().Add(-time.Hour)
	one.followed = time.Now().Add(-hasteFor - time.Second)
	if one.lookForTurns(); len(d.did) > 0 {
		t.Errorf("long after the document came: found %q, wanted nothing", d.did)
	}
	one.followed = time.Now()
	one.lookForTurns()
	if got, want := strings.Join(d.did, "\n"), fmt.Sprintf("shakes hands with %v", other); got != want {
		t.Errorf("found %q, wanted %q", got, want)
	}
}

// TestTheHostWithTheHigherIDTriesLater, also when nothing is heard of many at once.
func TestTheHostWithTheHigherIDTriesLater(t *testing.T) {
	one, _, _ := unheard(t, 101, nobody{})
	one.self.ID = 20
	delete(one.peers, 20)
	d := &turningDevice{}
	one.device = d
	now := time.Now()
	states := map[uint16][]wireguard.PeerState{}
	for id, r := range one.peers {
		r.owes = now.Add(-firstShake - laterShake/2 - 2*one.engine.RTT(id))
		r.shaking = shaking{heard: r.owes}
		states[id] = []wireguard.PeerState{{PublicKey: r.host.PublicKey, Endpoint: r.host.Endpoint, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}}}
	}
	one.shakeAgain(now, states)
	if len(d.did) != mostShakes {
		t.Errorf("found %d at once, wanted %d", len(d.did), mostShakes)
	}
	one.shakeAgain(now, states)
	if want := 81; len(d.did) != want {
		t.Errorf("found %d of the hosts, wanted the %d with higher IDs", len(d.did), want)
	}
	for _, r := range one.peers {
		if tried := r.shaking.tries > 0; tried != (r.host.ID > 20) {
			t.Errorf("host %d: tried %v", r.host.ID, tried)
		}
	}
}

// TestLedElsewhereIsTriedAtOnce: a host that nobody could send to is where its packets are
// carried from now on. What was tried in vain before does not hold that up.
func TestLedElsewhereIsTriedAtOnce(t *testing.T) {
	at := time.Now()
	const every = 100 * time.Millisecond
	p := []wireguard.PeerState{{PublicKey: network.Key{1}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}, Endpoint: plantest.Host(2).Endpoint}}
	owes := at
	look := func(s shaking, until time.Duration) (shaking, int) {
		tries := 0
		for end := at.Add(until); at.Before(end); at = at.Add(every) {
			var again []wireguard.PeerState
			if s, again = s.next(at, owes, firstShake, pauseShakes, p); len(again) > 0 {
				tries++
			}
		}
		return s, tries
	}
	s, _ := look(shaking{}, 2*time.Minute)
	if s.waits(at, owes) {
		t.Error("it is looked at often, though nothing came of four tries")
	}
	if _, tries := look(s, 2*time.Second); tries > 0 {
		t.Fatal("it is tried often for ever: this tests nothing")
	}
	s = s.lead(at)
	if !s.waits(at, owes) {
		t.Error("it is not looked at often when it is led elsewhere")
	}
	if _, tries := look(s, 2*time.Second); tries != 2 {
		t.Errorf("found %d tries in the first two seconds, wanted 2", tries)
	}
}

// TestLedHereAndThereIsTriedNoMore: nothing is received of the host, wherever its packets go.
func TestLedHereAndThereIsTriedNoMore(t *testing.T) {
	at, p := time.Now(), wireguard.PeerState{PublicKey: network.Key{1}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}, Endpoint: plantest.Host(2).Endpoint}
	owes, tries := at, 0
	var s shaking
	minutes := func(n int) {
		tries = 0
		for end := at.Add(time.Duration(n) * time.Minute); at.Before(end); at = at.Add(time.Second) {
			if at.Unix()%10 == 0 {
				s = s.lead(at)
			}
			var again []wireguard.PeerState
			if s, again = s.next(at, owes, firstShake, pauseShakes, []wireguard.PeerState{p}); len(again) > 0 {
				tries++
			}
		}
	}
	if minutes(5); tries > 40 {
		t.Errorf("found %d tries in the first five minutes", tries)
	}
	if minutes(5); tries > 5 || s.waits(at, owes) {
		t.Errorf("found %d tries in the next five minutes", tries)
	}
	p.ReceiveBytes += 148
	if minutes(1); tries < 5 {
		t.Errorf("found %d tries when it was heard again", tries)
	}
}

// TestSessionsAreKnownLongAfterTheDocumentCame: a probe to a host that has one needs no look.
func TestSessionsAreKnownLongAfterTheDocumentCame(t *testing.T) {
	one, _, _ := unheard(t, 2, nobody{})
	one.device = &turningDevice{}
	one.followed = time.Now().Add(-hasteFor - time.Second)
	r := one.peers[2]
	began := time.Now()
	for at := began; at.Before(began.Add(10 * time.Minute)); at = at.Add(10 * time.Second) {
		shaken := began.Add(at.Sub(began).Truncate(2 * time.Minute)) // as WireGuard does
		one.shakeAgain(at, map[uint16][]wireguard.PeerState{2: {{PublicKey: r.host.PublicKey, Own: network.Key{99}, LastHandshake: shaken, Endpoint: r.host.Endpoint,
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}}}})
		if !r.shaking.session(at) {
			t.Fatalf("after %v it has no session", at.Sub(began))
		}
	}
	one.shakes = false
	if one.sendProbe(paths.Probe{Peer: 2, Sequence: 1}); one.shakes {
		t.Error("a probe to a host that has a session asks for a look")
	}
	r.owes, r.shaking = time.Time{}, shaking{}
	if one.sendProbe(paths.Probe{Peer: 2, Sequence: 2}); !one.shakes {
		t.Error("a probe to a host that has none asks for no look: this tests nothing")
	}
}
