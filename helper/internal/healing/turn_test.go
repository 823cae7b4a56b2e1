package healing

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// A side is what a look sees of a peer: seconds of its last handshake, bytes,
// and whether it has the allowed IPs.
type side struct {
	handshake int
	bytes     int64
	ips       bool
}

func (s side) state(key byte) wireguard.PeerState {
	p := wireguard.PeerState{PublicKey: network.Key{key}, ReceiveBytes: s.bytes}
	if s.handshake > 0 {
		p.LastHandshake = time.Unix(int64(s.handshake), 0)
	}
	if s.ips {
		p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}
	}
	return p
}

// TestLooksLeaveTheProcessor: looks for turned keys take a tenth of it at most, also
// where they are slow, and nobody waits long for the next one.
func TestLooksLeaveTheProcessor(t *testing.T) {
	for took := 10 * time.Microsecond; took < 50*time.Millisecond; took = took * 3 / 2 {
		wait := untilNextLook(took, true)
		if 10*took > wait || wait > 500*time.Millisecond {
			t.Errorf("after a look of %v: found a wait of %v, wanted ten times that, and at most half a second", took, wait)
		}
	}
	if wait := untilNextLook(time.Millisecond, false); wait < time.Second {
		t.Errorf("in a rotation that was left: found %v, wanted a second", wait)
	}
}

func TestTurn(t *testing.T) {
	type look struct {
		a, b side
		move bool
	}
	for name, looks := range map[string][]look{
		"announced, and nothing happens": {
			{side{100, 5000, true}, side{}, false}, {side{220, 9000, true}, side{}, false}},
		"a handshake begins": {
			{side{100, 5000, true}, side{}, false}, {side{100, 5100, true}, side{0, 148, false}, true},
			// packets of the old session are still on their way
			{side{100, 5200, false}, side{0, 148, true}, false}, {side{100, 5300, false}, side{150, 500, true}, false}},
		"a handshake was missed": {
			{side{100, 5000, true}, side{0, 148, false}, false}, {side{100, 5000, true}, side{150, 300, false}, true}},
		"the agent comes late": {
			{side{100, 5000, true}, side{150, 300, false}, true}, {side{100, 5000, false}, side{150, 300, true}, false}},
		"rolled back": {
			{side{100, 5000, true}, side{}, false}, {side{100, 5000, true}, side{0, 148, false}, true},
			{side{160, 5400, false}, side{150, 600, true}, true}, {side{160, 9000, true}, side{150, 700, false}, false}},
		"rolled back before a packet came": {
			{side{100, 5000, true}, side{}, false}, {side{100, 5000, true}, side{0, 148, false}, true},
			{side{160, 5400, false}, side{0, 148, true}, true}},
		"and again": {
			{side{160, 5000, true}, side{150, 700, false}, false}, {side{160, 5000, true}, side{150, 848, false}, false},
			{side{160, 5000, true}, side{170, 950, false}, true}},
		"the clock is set back": {
			{side{5000, 5000, true}, side{4000, 700, false}, false}, {side{5000, 5000, true}, side{60, 900, false}, true},
			{side{5000, 6000, false}, side{60, 1000, true}, false}},
		"both at once": {
			{side{160, 5000, true}, side{150, 700, false}, false}, {side{180, 5000, true}, side{170, 900, false}, false}},
		"somebody else moves them": {
			{side{100, 5000, true}, side{150, 700, false}, true}, {side{100, 5000, true}, side{150, 700, false}, true}},
		"nobody has them": {
			{side{100, 5000, false}, side{150, 700, false}, false}},
		"both have them, as a look sees that lasts": {
			{side{100, 5000, true}, side{150, 700, true}, false}},
		"the other is made anew": {
			{side{160, 5000, true}, side{150, 700, false}, false}, {side{160, 5000, true}, side{0, 0, false}, false},
			{side{160, 5000, true}, side{0, 148, false}, true}},
		"made anew, and heard before the next look": {
			{side{100, 5000, true}, side{0, 888, false}, false}, {side{100, 5000, true}, side{0, 148, false}, true}},
		"a new host shakes hands with its other key": {
			{side{0, 0, true}, side{0, 0, false}, false}, {side{0, 0, true}, side{0, 148, false}, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var now turn
			for i, l := range looks {
				var move bool
				if now, move = now.next(l.a.state(1), l.b.state(2)); move != l.move {
					t.Fatalf("look %d: moves %v, wanted %v", i, move, l.move)
				}
				active := network.Key{1}
				if l.a.ips == l.move {
					active = network.Key{2}
				}
				if l.a.ips != l.b.ips && now.active != active {
					t.Fatalf("look %d: found %s active, wanted %s", i, now.active, active)
				}
			}
			// The order of the two does not matter.
			now = turn{}
			for i, l := range looks {
				var move bool
				if now, move = now.next(l.b.state(2), l.a.state(1)); move != l.move {
					t.Fatalf("turned around, look %d: moves %v, wanted %v", i, move, l.move)
				}
			}
		})
	}
}

// turningDevice is a device whose peers are given.
type turningDevice struct {
	peers []wireguard.PeerState
	did   []string
}

func (d *turningDevice) Peers() ([]wireguard.PeerState, error) { return d.peers, nil }

func (d *turningDevice) SetEndpoint(k network.Key, e netip.AddrPort) error {
	d.did = append(d.did, fmt.Sprintf("%v at %v", k, e))
	return nil
}

func (d *turningDevice) ShakeAgain(seen []wireguard.PeerState) error {
	for _, s := range seen {
		d.did = append(d.did, fmt.Sprintf("shakes hands with %v", s.PublicKey))
	}
	return nil
}

func (d *turningDevice) GiveAllowedIPs(k network.Key, ips []netip.Prefix) error {
	d.did = append(d.did, fmt.Sprintf("%v has %v", k, ips))
	for i := range d.peers {
		d.peers[i].AllowedIPs = nil
		if d.peers[i].PublicKey == k {
			d.peers[i].AllowedIPs = ips
		}
	}
	return nil
}

// rotating returns two hosts of which the document names two keys each.
func rotating(t *testing.T) (one, two *testHost, other network.Key) {
	t.Helper()
	n := newTestNet(t, 2)
	for _, h := range n.healers {
		h.Stop()
	}
	one, two = n.healers[1], n.healers[2]
	document := *one.change.Document
	document.Hosts = append([]network.Host{}, document.Hosts...)
	private := map[network.Key]network.Key{}
	for i := range document.Hosts {
		h := &document.Hosts[i]
		seed := network.Key{9, byte(i)}
		h.AlsoKey = wireguard.PublicKey(seed)
		private[h.AlsoKey] = seed
		seed = network.Key{7, byte(h.ID)}
		private[h.PublicKey] = seed
	}
	for id, h := range map[uint16]*testHost{1: one, 2: two} {
		h.PrivateKey = func(public network.Key) (network.Key, error) { return private[public], nil }
		if err := h.Follow(&store.Change{HostID: id, Document: &document}); err != nil {
			t.Fatal(err)
		}
	}
	return one, two, document.Hosts[1].AlsoKey
}

func TestAllowedIPsFollowTheKey(t *testing.T) {
	one, two, other := rotating(t)
	first := two.self.PublicKey
	ips := []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}
	d := &turningDevice{peers: []wireguard.PeerState{
		{PublicKey: first, AllowedIPs: ips, LastHandshake: time.Unix(100, 0)}, {PublicKey: other}}}
	one.device = d
	one.lookForTurns()
	d.peers[1].ReceiveBytes = 148
	one.lookForTurns()
	one.lookForTurns()
	if did, want := strings.Join(d.did, "\n"), fmt.Sprintf("%v has %v", other, ips); did != want {
		t.Errorf("found %q, wanted %q", did, want)
	}
	if one.byKey[first] != 2 || one.byKey[other] != 2 {
		t.Errorf("the keys belong to %v", one.byKey)
	}
}

// toldDevice says when allowed IPs have moved.
type toldDevice struct {
	turningDevice
	moved chan network.Key
}

func (d *toldDevice) GiveAllowedIPs(k network.Key, ips []netip.Prefix) error {
	d.moved <- k
	return d.turningDevice.GiveAllowedIPs(k, ips)
}

func TestARotationIsFollowedFromItsDocumentOn(t *testing.T) {
	one, two, other := rotating(t)
	d := &toldDevice{moved: make(chan network.Key, 10)}
	d.peers = []wireguard.PeerState{
		{PublicKey: two.self.PublicKey, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}, LastHandshake: time.Unix(100, 0)},
		{PublicKey: other, LastHandshake: time.Unix(200, 0)}}
	one.device = d
	ctx, cancel := context.WithCancel(context.Background())
	one.ended.Add(1)
	go one.followTurns(ctx)
	defer one.ended.Wait()
	defer cancel()
	select {
	case k := <-d.moved:
		if k != other {
			t.Errorf("found the allowed IPs at %v, wanted them at %v", k, other)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody looked")
	}
}

// TestDirectMessagesUnderAnyKey: hosts that have come to different documents of a
// rotation understand each other.
func TestDirectMessagesUnderAnyKey(t *testing.T) {
	one, two, _ := rotating(t)
	ours, theirs := one.secrets(2), two.secrets(1)
	if len(ours) != 4 || len(theirs) != 4 || ours[0] != theirs[0] {
		t.Fatalf("found %d and %d secrets, wanted 4 each and the first the same", len(ours), len(theirs))
	}
	for _, s := range theirs {
		known := false
		for _, o := range ours {
			known = known || s == o
		}
		if !known {
			t.Error("a secret of the other side is not known")
		}
	}
}
