package wireguard_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// keys are private keys by their public ones.
type keys map[network.Key]network.Key

func (k keys) PrivateKey(public network.Key) (network.Key, error) {
	private, known := k[public]
	if !known {
		return network.Key{}, fmt.Errorf("no private key for %s", public)
	}
	return private, nil
}

// create makes a key.
func (k keys) create(t *testing.T) network.Key {
	t.Helper()
	private, err := wireguard.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public := wireguard.PublicKey(private)
	k[public] = private
	return public
}

type bench struct {
	*testing.T
	kernel *wireguardtest.Kernel
	device *wireguard.Device
	keys   keys
	own    network.Key
}

func newBench(t *testing.T) *bench {
	t.Helper()
	kernel, all := &wireguardtest.Kernel{Link: func() any { return 1 }}, keys{}
	return &bench{t, kernel, wireguard.On(kernel, spec.WireLink, all), all, all.create(t)}
}

// plan returns the WireGuard part of host 1 in a network with the others.
func (b *bench) plan(change func([]network.Host), others ...uint16) *spec.Host {
	b.Helper()
	self := plantest.Host(1)
	self.PublicKey = b.own
	hosts := []network.Host{self}
	for _, id := range others {
		hosts = append(hosts, plantest.Host(id))
	}
	if change != nil {
		change(hosts)
	}
	h, err := plan.Build(plantest.Canonical(network.Document{Format: 1, UnderlayMTU: 1500, Hosts: hosts,
		Clients: []network.Client{{Address: netip.MustParseAddr("10.30.128.1"), PublicKey: plantest.Key(1000)}}}), 1, *plantest.Facts())
	if err != nil {
		b.Fatal(err)
	}
	return h
}

// bring changes the device and returns what it did and how many peers that
// interrupted.
func (b *bench) bring(want, previous *spec.Host) (string, int) {
	b.Helper()
	ops, err := b.device.Diff(context.Background(), want, previous)
	if err != nil {
		b.Fatal(err)
	}
	var lines []string
	for _, op := range ops {
		lines = append(lines, op.String())
		for twice := 0; twice < 2; twice++ { // a repetition succeeds
			if err := op.Do(context.Background()); err != nil {
				b.Fatalf("%s: %v", op, err)
			}
		}
	}
	if again, err := b.device.Diff(context.Background(), want, want); err != nil || len(again) > 0 {
		b.Fatalf("a second look finds %v, %v", again, err)
	}
	return strings.Join(lines, "\n"), reconcile.Interrupted(ops)
}

func TestDiff(t *testing.T) {
	at := func(hosts []network.Host, i int, endpoint string) {
		hosts[i].Endpoint = netip.MustParseAddrPort(endpoint)
	}
	roamed := netip.MustParseAddrPort("203.0.113.77:1234")
	cases := []struct {
		name        string
		damage      func(*bench)
		want        func(*bench) *spec.Host
		blind       bool // what was there before is not known
		did         string
		interrupted int
	}{
		{name: "nothing", did: ""},
		{name: "another host", want: func(b *bench) *spec.Host { return b.plan(nil, 2, 3, 4) },
			did: "+ peer h4.example.com: endpoint 198.51.0.4:51820, allowed IPs 10.30.0.4/32"},
		{name: "a host less", want: func(b *bench) *spec.Host { return b.plan(nil, 2) }, did: "- peer h3.example.com", interrupted: 1},
		{name: "a host less, name unknown", want: func(b *bench) *spec.Host { return b.plan(nil, 2) }, blind: true,
			did: "- peer " + plantest.Key(3).String(), interrupted: 1},
		{name: "endpoint changed", want: func(b *bench) *spec.Host {
			return b.plan(func(h []network.Host) { at(h, 1, "203.0.113.2:51820") }, 2, 3)
		}, did: "~ peer h2.example.com: endpoint 198.51.0.2:51820 → 203.0.113.2:51820", interrupted: 1},
		{name: "roamed", damage: func(b *bench) { b.kernel.Roam(plantest.Key(2), roamed) }, did: ""},
		{name: "roamed, before unknown", damage: func(b *bench) { b.kernel.Roam(plantest.Key(2), roamed) }, blind: true, did: ""},
		{name: "roamed to where the document sends it", damage: func(b *bench) { b.kernel.Roam(plantest.Key(2), roamed) },
			want: func(b *bench) *spec.Host {
				return b.plan(func(h []network.Host) { at(h, 1, roamed.String()) }, 2, 3)
			}, did: ""},
		{name: "roamed and changed", damage: func(b *bench) { b.kernel.Roam(plantest.Key(2), roamed) },
			want: func(b *bench) *spec.Host {
				return b.plan(func(h []network.Host) { at(h, 1, "203.0.113.2:51820") }, 2, 3)
			}, did: "~ peer h2.example.com: endpoint 203.0.113.77:1234 → 203.0.113.2:51820", interrupted: 1},
		{name: "another key of a host", want: func(b *bench) *spec.Host {
			return b.plan(func(h []network.Host) { h[1].PublicKey = plantest.Key(99) }, 2, 3)
		}, did: "+ peer h2.example.com: endpoint 198.51.0.2:51820, allowed IPs 10.30.0.2/32\n- peer h2.example.com", interrupted: 1},
		{name: "hosts change their IDs", want: func(b *bench) *spec.Host {
			return b.plan(func(h []network.Host) { h[1].ID, h[2].ID = 3, 2 }, 2, 3)
		}, did: "~ peer h3.example.com: allowed IPs 10.30.0.3/32 → 10.30.0.2/32\n~ peer h2.example.com: allowed IPs 10.30.0.2/32 → 10.30.0.3/32", interrupted: 2},
		{name: "keepalive", want: func(b *bench) *spec.Host {
			h := b.plan(nil, 2, 3)
			h.WireGuard.Peers[0].KeepaliveSeconds = 0
			return h
		}, did: "~ peer h2.example.com: keepalive 25s → 0s"},
		{name: "port", want: func(b *bench) *spec.Host {
			return b.plan(func(h []network.Host) { h[0].Endpoint = netip.MustParseAddrPort("198.51.0.1:51821") }, 2, 3)
		}, did: "~ WireGuard port: 51820 → 51821", interrupted: 3},
		{name: "without Mobula", want: func(*bench) *spec.Host { return plan.Without(*plantest.Facts()) }, did: ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			built := b.plan(nil, 2, 3)
			b.bring(built, nil)
			if c.damage != nil {
				c.damage(b)
			}
			want, previous := built, built
			if c.want != nil {
				want = c.want(b)
			}
			if c.blind {
				previous = nil
			}
			if did, interrupted := b.bring(want, previous); did != c.did || interrupted != c.interrupted {
				t.Errorf("did\n%s\nand interrupted %d, wanted\n%s\nand %d", did, interrupted, c.did, c.interrupted)
			}
		})
	}
}

func TestFreshDevice(t *testing.T) {
	b := newBench(t)
	did, interrupted := b.bring(b.plan(nil, 2), nil)
	want := "~ WireGuard key: now " + b.own.String() + "\n~ WireGuard port: 0 → 51820\n" +
		"+ peer h2.example.com: endpoint 198.51.0.2:51820, allowed IPs 10.30.0.2/32\n+ peer client 10.30.128.1: allowed IPs 10.30.128.1/32"
	if did != want || interrupted != 0 {
		t.Errorf("did\n%s\nand interrupted %d, wanted\n%s", did, interrupted, want)
	}
	peers, err := b.device.Peers()
	if err != nil || len(peers) != 2 {
		t.Errorf("%v, %v", peers, err)
	}
}

// TestAnyEndpoint holds that after an interrupted change the document's endpoint
// is set wherever the peer was sent.
func TestAnyEndpoint(t *testing.T) {
	b := newBench(t)
	want := b.plan(nil, 2)
	b.bring(want, nil)
	b.kernel.Roam(plantest.Key(2), netip.MustParseAddrPort("203.0.113.9:1"))
	before := b.plan(nil, 2)
	before.WireGuard.Peers[0].Endpoint = spec.AnyEndpoint
	if did, _ := b.bring(want, before); did != "~ peer h2.example.com: endpoint 203.0.113.9:1 → 198.51.0.2:51820" {
		t.Errorf("did %s", did)
	}
	if did, _ := b.bring(want, before); did != "" {
		t.Errorf("then did %s", did)
	}
}

func TestNoDevice(t *testing.T) {
	b := newBench(t)
	b.kernel.Link = func() any { return nil }
	if peers, err := b.device.Peers(); peers != nil || err != nil {
		t.Errorf("%v, %v", peers, err)
	}
	ops, err := b.device.Diff(context.Background(), b.plan(nil, 2), nil)
	if err != nil || len(ops) != 4 {
		t.Fatalf("%v, %v", ops, err)
	}
	if err := ops[0].Do(context.Background()); err == nil {
		t.Error("configured a device that is not there")
	}
}

func TestSetEndpoint(t *testing.T) {
	b := newBench(t)
	want := b.plan(nil, 2)
	b.bring(want, nil)
	to := netip.MustParseAddrPort("203.0.113.9:40002")
	if err := b.device.SetEndpoint(plantest.Key(2), to); err != nil {
		t.Fatal(err)
	}
	if err := b.device.SetEndpoint(plantest.Key(77), to); err != nil {
		t.Fatal(err)
	}
	peers, err := b.device.Peers()
	if err != nil || len(peers) != 2 || peers[0].Endpoint != to {
		t.Errorf("%v, %v", peers, err)
	}
	if did, _ := b.bring(want, want); did != "" {
		t.Errorf("took it back: %s", did)
	}
}

// TestShakeAgain: what is silent is made anew, where it is and with all that it has; what
// was heard since it was seen stays, and so does what carries other addresses now.
func TestShakeAgain(t *testing.T) {
	b := newBench(t)
	preshared := func(hosts []network.Host) {
		for i := range hosts {
			hosts[i].PresharedKeys = true
		}
	}
	b.bring(b.plan(preshared, 2, 3, 4), nil)
	if err := b.device.SetEndpoint(plantest.Key(2), netip.MustParseAddrPort("203.0.113.9:40002")); err != nil {
		t.Fatal(err)
	}
	seen, err := b.device.Peers()
	if err != nil {
		t.Fatal(err)
	}
	for i := range seen {
		if seen[i].PublicKey == plantest.Key(4) {
			seen[i].ReceiveBytes = -148
		}
	}
	if err := b.device.GiveAllowedIPs(plantest.Key(3), []netip.Prefix{netip.MustParsePrefix("10.30.0.9/32")}); err != nil {
		t.Fatal(err)
	}
	before := b.kernel.String()
	b.kernel.Woken = nil
	if err := b.device.ShakeAgain(append(seen, wireguard.PeerState{PublicKey: plantest.Key(77)})); err != nil {
		t.Fatal(err)
	}
	for _, p := range seen {
		woken := false
		for _, k := range b.kernel.Woken {
			woken = woken || k == p.PublicKey
		}
		if woken != (p.PublicKey == plantest.Key(2)) {
			t.Errorf("%s was made anew: %v", p.PublicKey, woken)
		}
	}
	if after := b.kernel.String(); after != before {
		t.Errorf("found\n%swanted\n%s", after, before)
	}
}
