package links_test

import (
	"context"
	"fmt"
	"math/rand"
	"net/netip"
	"sort"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// steps is the length of a random walk.
const steps = 400

// anyDocument returns a random network in which the host itself has some of the
// given IDs.
func anyDocument(r *rand.Rand) (*network.Document, uint16) {
	self := plantest.Host([]uint16{1, 1, 1, 256}[r.Intn(4)])
	self.ManualAccess = r.Intn(3) == 0
	if r.Intn(3) == 0 {
		self.Publish = []network.Port{{Protocol: "tcp", Number: uint16(1 + r.Intn(1000))}}
	}
	hosts := []network.Host{self}
	for id := uint16(2); id < 6; id++ {
		if r.Intn(2) == 0 {
			hosts = append(hosts, plantest.Host(id))
		}
	}
	d := plantest.Document(hosts...)
	d.UnderlayMTU = []int{1500, 1400, 9000}[r.Intn(3)]
	return d, self.ID
}

// TestWalk goes through random desired states, back to none now and then. Each
// is reached in one pass, and a second look finds nothing to do (see bring).
func TestWalk(t *testing.T) {
	for seed := int64(1); seed <= 6; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewSource(seed))
			facts := []*spec.Facts{plantest.Facts(), manyAddresses(), plantest.FactsWithAll()}[seed%3]
			b := newBench(t, facts)
			original := b.kernel.String()
			var previous *spec.Host
			for i := 0; i < steps; i++ {
				if r.Intn(8) == 0 {
					b.bring(plan.Without(*facts), previous)
					if after := b.kernel.String(); after != original {
						t.Fatalf("step %d: after:\n%s\nbefore:\n%s", i, after, original)
					}
					previous = nil
					continue
				}
				d, id := anyDocument(r)
				want := forwarding(mustBuild(t, d, id, facts), "eth9")
				if r.Intn(2) == 0 {
					want = underlaid(want)
				}
				b.bring(want, previous)
				// The way there must not show.
				fresh := newBench(t, facts)
				fresh.bring(want, nil)
				if got, wanted := b.kernel.String(), fresh.kernel.String(); got != wanted {
					t.Fatalf("step %d: on this way\n%s\ndirectly\n%s", i, got, wanted)
				}
				previous = want
			}
		})
	}
}

// damage is something that a careless hand does to a host.
type damage struct {
	text string
	do   func() error
}

func (b *bench) damages(want *spec.Host) []damage {
	state, err := b.kernel.Observe([]string{spec.Namespace}, spec.RouteTable, want.Settings)
	if err != nil {
		b.Fatal(err)
	}
	var all []damage
	add := func(text string, do func() error) { all = append(all, damage{text, do}) }
	for key, link := range state.Links {
		key, link := key, link.Link
		if key.Name == "lo" {
			continue
		}
		add("down "+key.Name, func() error { b.kernel.SetDown(key); return nil })
		if link.Kind == spec.Physical {
			add("move "+key.Name, func() error { return b.kernel.SetLink(spec.Link{Name: key.Name, Kind: spec.Physical}) })
			continue
		}
		add("delete "+key.Name, func() error { return b.kernel.DeleteLink(key) })
		if link.Kind != spec.Internal {
			link.MTU, link.Down = 1000, true
			add("MTU of "+key.Name, func() error { return b.kernel.SetLink(link) })
		}
	}
	for a := range state.Addresses {
		if a.Link != "lo" {
			add("delete "+a.Prefix.String(), func() error { return b.kernel.DeleteAddress(a) })
		}
	}
	add("strange address", func() error {
		return b.kernel.AddAddress(spec.Address{NS: spec.Namespace, Link: spec.ExternalLink, Prefix: netip.MustParsePrefix("192.0.2.99/24")})
	})
	for _, route := range state.Routes {
		add("delete route "+route.To.String(), func() error { return b.kernel.DeleteRoute(route) })
	}
	for rule := range state.Rules {
		add(fmt.Sprint("delete rule ", rule.Priority), func() error { return b.kernel.DeleteRule(rule) })
		other := rule
		if other.Priority += 50; other.Specific { // others may have such, too, but not there
			other.Priority = spec.MaxRulePriority
		}
		add(fmt.Sprint("strange rule ", other.Priority), func() error { return b.kernel.AddRule(other) })
	}
	for _, s := range want.Settings {
		s.Value = "7"
		if s.NIC != "eth9" { // it is nowhere
			add("set "+s.Key, func() error { return b.kernel.Set(s) })
		}
	}
	add("delete the namespace", func() error { return b.kernel.DeleteNamespace(spec.Namespace) })
	sort.Slice(all, func(i, j int) bool { return all[i].text < all[j].text })
	return all
}

// anyOrder renders the kernel with each link's addresses in an order that says
// nothing: one that was deleted and put back stands behind the others.
func anyOrder(k fmt.Stringer) string {
	lines := strings.Split(k.String(), "\n")
	for i, line := range lines {
		parts := strings.Split(line, " inet ")
		for j, part := range parts {
			parts[j] = strings.TrimSuffix(part, " secondary")
		}
		sort.Strings(parts[1:])
		lines[i] = strings.Join(parts, " inet ")
	}
	return strings.Join(lines, "\n")
}

// TestDamageIsRepaired does every damage alone, and many at a time. The host is
// afterwards what it was, and what was fine has not been made anew.
func TestDamageIsRepaired(t *testing.T) {
	facts := manyAddresses()
	b := newBench(t, facts)
	want := forwarding(underlaid(mustBuild(t, plantest.Document(plantest.Host(1), plantest.Host(2)), 1, facts)), "eth9")
	b.bring(want, nil)
	good := anyOrder(b.kernel)
	count := len(b.damages(want))
	for i := 0; i < count; i++ {
		d := b.damages(want)[i]
		t.Run(strings.ReplaceAll(d.text, "/", "-"), func(t *testing.T) {
			before := b.identities(want)
			if err := d.do(); err != nil {
				t.Fatal(err)
			}
			damaged := b.identities(want)
			did := b.repair(want)
			if got := anyOrder(b.kernel); got != good {
				t.Errorf("repaired:\n%s\nwas:\n%s", got, good)
			}
			after := b.identities(want)
			for name := range before {
				if damaged[name] != nil && damaged[name] != after[name] {
					t.Errorf("%s was fine and was made anew by\n%s", name, strings.Join(did, "\n"))
				}
			}
			if damaged[spec.WireLink] != nil && len(did) > 12 {
				t.Errorf("did too much:\n%s", strings.Join(did, "\n"))
			}
		})
	}
	r := rand.New(rand.NewSource(1))
	for i := 0; i < 200; i++ {
		var did []string
		for n := 1 + r.Intn(5); n > 0; n-- {
			all := b.damages(want)
			d := all[r.Intn(len(all))]
			did = append(did, d.text)
			_ = d.do() // cannot be done to what another one has deleted
		}
		b.repair(want)
		if got := anyOrder(b.kernel); got != good {
			t.Fatalf("after %v:\n%s\nwas:\n%s", did, got, good)
		}
	}
}

func (b *bench) identities(want *spec.Host) map[string]any {
	all := map[string]any{}
	for _, link := range want.Links {
		all[link.Name] = b.kernel.Identity(link.NS, link.Name)
	}
	return all
}

// repair may need a second pass: what is wrong can hide what else is wrong.
func (b *bench) repair(want *spec.Host) []string {
	b.Helper()
	ops, err := b.hands.Plan(context.Background(), want, want)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.hands.Insist(context.Background(), want, want); err != nil {
		b.Fatalf("%v\nat\n%s", err, b.kernel)
	}
	return texts(ops)
}

func TestRulesOfOnePriority(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	want := mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts)
	b.bring(want, nil)
	stray := want.Rules[0]
	stray.From = netip.MustParsePrefix("10.30.0.9/32")
	if err := b.kernel.AddRule(stray); err != nil {
		t.Fatal(err)
	}
	did := b.bring(want, want)
	if wanted := "- rule from 10.30.0.9/32 to table 1030"; len(did) != 1 || did[0] != wanted {
		t.Errorf("did %v, wanted %q", did, wanted)
	}
}

// TestRoutesOfOneKeyKeepTheirOrder: of several default routes of one metric the first
// one counts. Whichever are lost, or were put back by somebody else, and are then
// in front, the order is again what it was.
func TestRoutesOfOneKeyKeepTheirOrder(t *testing.T) {
	facts := plantest.Facts()
	facts.Routes = nil
	for _, via := range []string{"192.0.2.61", "192.0.2.62", "192.0.2.60"} {
		facts.Routes = append(facts.Routes, spec.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(via), Link: facts.Uplink})
	}
	b := newBench(t, facts)
	want := mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts)
	b.bring(want, nil)
	good := b.kernel.String()
	var stack []spec.Route
	for _, r := range want.Routes {
		if r.NS == spec.Namespace && r.Table == 0 && r.To.Bits() == 0 {
			stack = append(stack, r)
		}
	}
	if len(stack) != 3 {
		t.Fatalf("found %d default routes, wanted 3", len(stack))
	}
	for lost := 1; lost < 8; lost++ {
		for _, putBack := range []bool{false, true} {
			for i, r := range stack {
				if lost>>i&1 == 0 {
					continue
				}
				if err := b.kernel.DeleteRoute(r); err != nil {
					t.Fatal(err)
				}
				if !putBack {
					continue
				}
				if err := b.kernel.AddRoute(r); err != nil {
					t.Fatal(err)
				}
			}
			did := b.bring(want, want)
			if got := b.kernel.String(); got != good {
				t.Fatalf("lost %03b, put back %v; did\n%s\nfound\n%s\nwanted\n%s", lost, putBack, strings.Join(did, "\n"), got, good)
			}
		}
	}
}
