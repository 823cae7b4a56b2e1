package wireguard_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// otherKey is that of host 2 while it rotates.
var otherKey = plantest.Key(22)

// phase returns what host 2 has in a phase of its rotation.
func (b *bench) phase(public, also network.Key) *spec.Host {
	b.Helper()
	return b.plan(func(h []network.Host) { h[1].PublicKey, h[1].AlsoKey = public, also }, 2, 3)
}

// holder returns which keys have the allowed IPs of host 2.
func (b *bench) holder() string {
	b.Helper()
	peers, err := b.device.Peers()
	if err != nil {
		b.Fatal(err)
	}
	names := map[network.Key]string{plantest.Key(2): "old", otherKey: "new"}
	var all []string
	for _, p := range peers {
		if len(p.AllowedIPs) == 1 && p.AllowedIPs[0] == netip.MustParsePrefix("10.30.0.2/32") {
			all = append(all, names[p.PublicKey])
		}
	}
	return strings.Join(all, " ")
}

func TestPhasesOfARotation(t *testing.T) {
	old, none := plantest.Key(2), network.Key{}
	const add = "+ peer h2.example.com (other key): endpoint 198.51.0.2:51820, allowed IPs none"
	for _, turned := range []bool{false, true} { // the agent, when host 2 has switched
		t.Run(fmt.Sprint(turned), func(t *testing.T) {
			b := newBench(t)
			before := b.phase(old, none)
			b.bring(before, nil)
			announced, switched, forgotten := b.phase(old, otherKey), b.phase(otherKey, old), b.phase(otherKey, none)
			if did, interrupted := b.bring(announced, before); did != add || interrupted != 0 || b.holder() != "old" {
				t.Errorf("announced: did %s, interrupted %d, %s has the allowed IPs", did, interrupted, b.holder())
			}
			if did, _ := b.bring(switched, announced); did != "" || b.holder() != "old" {
				t.Errorf("switched: did %s, %s has the allowed IPs", did, b.holder())
			}
			want, interrupts := "~ peer h2.example.com: allowed IPs none → 10.30.0.2/32\n- peer h2.example.com (other key)", 1
			if turned {
				if err := b.device.GiveAllowedIPs(otherKey, []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}); err != nil {
					t.Fatal(err)
				}
				want, interrupts = "- peer h2.example.com (other key)", 0
			}
			for _, either := range []*spec.Host{announced, switched} {
				if did, _ := b.bring(either, switched); did != "" {
					t.Errorf("either may have the allowed IPs: did %s", did)
				}
			}
			if did, interrupted := b.bring(forgotten, switched); did != want || interrupted != interrupts || b.holder() != "new" {
				t.Errorf("forgotten: did %s, interrupted %d, %s has the allowed IPs", did, interrupted, b.holder())
			}
		})
	}
}

// TestAnyMixtureOfPhases: a host comes from any document of a rotation to any
// other, whichever key has the allowed IPs; in the end exactly one has.
func TestAnyMixtureOfPhases(t *testing.T) {
	old, none := plantest.Key(2), network.Key{}
	phases := map[string][2]network.Key{"before": {old, none}, "announce": {old, otherKey}, "switch": {otherKey, old}, "forget": {otherKey, none}}
	for from, a := range phases {
		for to, c := range phases {
			for _, key := range []network.Key{old, otherKey} {
				b := newBench(t)
				before := b.phase(a[0], a[1])
				b.bring(before, nil)
				if err := b.device.GiveAllowedIPs(key, []netip.Prefix{netip.MustParsePrefix("10.30.0.2/32")}); err != nil {
					t.Fatal(err)
				}
				b.bring(b.phase(c[0], c[1]), before)
				if h := b.holder(); h != "old" && h != "new" || c[1] == none && h != map[network.Key]string{old: "old", otherKey: "new"}[c[0]] {
					t.Errorf("from %s to %s: %q has the allowed IPs", from, to, h)
				}
			}
		}
	}
}

// TestOtherKeyIsReachedWhereTheHostIs: over a relay, for example.
func TestOtherKeyIsReachedWhereTheHostIs(t *testing.T) {
	b := newBench(t)
	before := b.phase(plantest.Key(2), network.Key{})
	b.bring(before, nil)
	b.kernel.Roam(plantest.Key(2), netip.MustParseAddrPort("203.0.113.3:32770"))
	did, _ := b.bring(b.phase(plantest.Key(2), otherKey), before)
	if want := "+ peer h2.example.com (other key): endpoint 203.0.113.3:32770, allowed IPs none"; did != want {
		t.Errorf("did %s, wanted %s", did, want)
	}
}

// TestSwitch: the host's own key changes. Whoever knows it already is made to
// shake hands, first under the key in use; the host with the lower ID tries both.
func TestSwitch(t *testing.T) {
	for _, c := range []struct {
		id    uint16
		woken []int
	}{{2, []int{1, 3, 33}}, {1, []int{2, 3, 22, 33}}, {3, []int{1, 2}}} {
		t.Run(fmt.Sprint(c.id), func(t *testing.T) {
			b := newBench(t)
			old, fresh := b.own, b.keys.create(t)
			document := func(public, also network.Key) *spec.Host {
				var hosts []network.Host
				for id := uint16(1); id <= 3; id++ {
					h := plantest.Host(id)
					if h.AlsoKey = plantest.Key(11 * int(id)); h.ID == c.id {
						h.PublicKey, h.AlsoKey = public, also
					}
					if h.ID == 1 && c.id != 1 {
						h.AlsoKey = network.Key{}
					}
					hosts = append(hosts, h)
				}
				p, err := plan.Build(plantest.Canonical(network.Document{Format: 1, UnderlayMTU: 1500, Hosts: hosts,
					Clients: []network.Client{{Address: netip.MustParseAddr("10.30.128.1"), PublicKey: plantest.Key(1000)}}}), c.id, *plantest.Facts())
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			announced := document(old, fresh)
			b.bring(announced, nil)
			b.kernel.Woken = nil
			did, interrupted := b.bring(document(fresh, old), announced)
			if want := "~ WireGuard key: now " + fresh.String(); did != want || interrupted != 1 { // the client has to be told
				t.Errorf("did %s and interrupted %d, wanted %s and 1", did, interrupted, want)
			}
			var want []network.Key
			for _, n := range append(c.woken, c.woken...) { // bring does everything twice
				want = append(want, plantest.Key(n))
			}
			if fmt.Sprint(b.kernel.Woken) != fmt.Sprint(want) {
				t.Errorf("woken were %v, wanted %v", b.kernel.Woken, want)
			}
		})
	}
}

// TestPresharedKeysComeBeforeTheKey: nobody shakes hands under the new key without
// the preshared key that goes with it, however many messages the peers take.
func TestPresharedKeysComeBeforeTheKey(t *testing.T) {
	for _, hosts := range []uint16{2, 31, 32, 100} {
		b := newBench(t)
		fresh := b.keys.create(t)
		var others []uint16
		for id := uint16(2); id < 2+hosts; id++ {
			others = append(others, id)
		}
		document := func(public, also network.Key) *spec.Host {
			return b.plan(func(hosts []network.Host) {
				for i := range hosts {
					hosts[i].PresharedKeys = true
				}
				hosts[0].PublicKey, hosts[0].AlsoKey = public, also
			}, others...)
		}
		announced := document(b.own, fresh)
		b.bring(announced, nil)
		shook := map[wgtypes.Key]wgtypes.Key{} // preshared key by peer
		b.kernel.Shakes = func(peers []wgtypes.Peer) {
			for _, p := range peers {
				if _, before := shook[p.PublicKey]; !before { // bring does everything twice
					shook[p.PublicKey] = p.PresharedKey
				}
			}
		}
		b.bring(document(fresh, b.own), announced)
		after, err := b.kernel.Device(spec.WireLink)
		if err != nil {
			t.Fatal(err)
		}
		if len(shook) != len(after.Peers) {
			t.Fatalf("%d peers when the key was set, wanted %d", len(shook), len(after.Peers))
		}
		for _, p := range after.Peers {
			if shook[p.PublicKey] != p.PresharedKey {
				t.Errorf("of %d hosts: peer %s has its preshared key only after the private key", hosts, p.PublicKey)
				break
			}
		}
	}
}

// TestPresharedKeys: both ends derive the same, every pair another one, it goes
// with the keys, and nothing of it shows.
func TestPresharedKeys(t *testing.T) {
	all := keys{}
	public := []network.Key{all.create(t), all.create(t), all.create(t)}
	fresh := all.create(t)
	hosts := func(preshared ...bool) []network.Host {
		var hosts []network.Host
		for i, key := range public {
			h := plantest.Host(uint16(i + 1))
			h.PublicKey, h.PresharedKeys = key, preshared[i]
			hosts = append(hosts, h)
		}
		return hosts
	}
	// on returns what hosts 1 to 3 do, and the device of each.
	var benches []*bench
	for range public {
		kernel := &wireguardtest.Kernel{Link: func() any { return 1 }}
		benches = append(benches, &bench{t, kernel, wireguard.On(kernel, spec.WireLink, all), all, network.Key{}})
	}
	previous := make([]*spec.Host, len(public))
	bring := func(hosts []network.Host) string {
		t.Helper()
		var did []string
		for i, b := range benches {
			p, err := plan.Build(plantest.Document(hosts...), uint16(i+1), *plantest.Facts())
			if err != nil {
				t.Fatal(err)
			}
			lines, _ := b.bring(p, previous[i])
			did, previous[i] = append(did, lines), p
		}
		return strings.Join(did, "\n")
	}
	of := func(a, b int) network.Key { return benches[a-1].kernel.Preshared(public[b-1]) }
	check := func(what string, pairs map[[2]int]bool) map[network.Key]bool {
		t.Helper()
		different := map[network.Key]bool{}
		for pair, wanted := range pairs {
			one, two := of(pair[0], pair[1]), of(pair[1], pair[0])
			if one != two || one.IsZero() == wanted {
				t.Errorf("%s: hosts %v have equal keys %v, some %v, wanted some %v", what, pair, one == two, !one.IsZero(), wanted)
			}
			if different[one] && wanted {
				t.Errorf("%s: hosts %v have the key of another pair", what, pair)
			}
			different[one] = true
		}
		return different
	}
	everybody := map[[2]int]bool{{1, 2}: true, {1, 3}: true, {2, 3}: true}
	bring(hosts(false, false, false))
	check("off", map[[2]int]bool{{1, 2}: false, {1, 3}: false, {2, 3}: false})
	did := bring(hosts(true, true, false))
	if want := "~ peer h2.example.com: preshared key added\n~ peer h1.example.com: preshared key added\n"; did != want {
		t.Errorf("did\n%s\nwanted\n%s", did, want)
	}
	check("two of three", map[[2]int]bool{{1, 2}: true, {1, 3}: false, {2, 3}: false})
	bring(hosts(true, true, true))
	first := check("all", everybody)

	announced := hosts(true, true, true)
	announced[0].AlsoKey = fresh
	bring(announced)
	switched := hosts(true, true, true)
	switched[0].PublicKey, switched[0].AlsoKey = fresh, public[0]
	if did := bring(switched); did != "~ WireGuard key: now "+fresh.String()+"\n\n" {
		t.Errorf("switched: did %s", did)
	}
	public[0] = fresh
	second := check("switched", everybody)
	for key := range second {
		if key != of(2, 3) && first[key] {
			t.Error("a preshared key stayed though a host has another key")
		}
	}
	bring(hosts(true, true, true))
	check("forgotten", everybody)
	if did := bring(hosts(true, false, true)); !strings.Contains(did, "preshared key removed") {
		t.Errorf("did %s", did)
	}
	check("one leaves", map[[2]int]bool{{1, 2}: false, {1, 3}: true, {2, 3}: false})
}
