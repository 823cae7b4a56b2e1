//go:build kernel

package healing

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/rawudp"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// place is where a host of the grid is. What is not public has no endpoint.
type place struct {
	id      uint16
	kind    string
	routers []string // in front of it, the host's own first; none: it is outside
	six     bool     // it has an IPv6 address as well, which the router guards and does not translate
}

// grid has hosts behind all kinds of what the kernel's connection tracking makes: it lets in
// what answers to exactly what went out, whether it translates or not.
var grid = []place{
	{1, "public", nil, true},
	{2, "firewall", nil, false},
	{3, "keeps ports", []string{"r3"}, false}, {4, "keeps ports", []string{"r4"}, true},
	{5, "random ports", []string{"r5"}, true},
	{6, "two in a row", []string{"r6", "r3"}, false},
	{7, "random ports", []string{"r7"}, true}, {8, "random ports", []string{"r7"}, false}, // which has both
}

// outer is the last router; "": there is none.
func (p place) outer() string {
	if len(p.routers) == 0 {
		return ""
	}
	return p.routers[len(p.routers)-1]
}

// wanted is by what two hosts of the grid reach each other in the end: where one chooses a port
// for each flow, the other would have to take what comes from any.
func wanted(a, b place) string {
	random := func(p place) bool { return p.kind == "random ports" }
	public := func(p place) bool { return p.kind == "public" }
	switch {
	case len(a.routers) > 0 && slices.Equal(a.routers, b.routers):
		return "direct (LAN)"
	case public(a) || public(b):
		return "direct"
	case a.six && b.six:
		return "direct (punched)"
	case random(a) || random(b), a.outer() != "" && a.outer() == b.outer(): // which does not lead back inside
		return "carried"
	}
	return "direct (punched)"
}

// TestNATGrid: hosts behind NATs that the kernel makes, with the agent's own sockets there, and
// WireGuard: from the start, when all NATs forget their flows, when one gives other ports, and
// when a host moves into another's network.
func TestNATGrid(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	n := newGrid(t)
	began := time.Now()
	n.begin(n.phase(n.first, nil))
	n.logTalk(began)
	n.wantWays("from the start")
	n.outage("all NATs have forgotten their flows", func() {
		for _, r := range n.routers {
			netnstest.Run(t, r, "conntrack", "-F")
		}
	})
	n.outage("the NAT of host 4 gives other ports", func() {
		netnstest.Run(t, "r4", "nft", "flush chain ip nat post; add rule ip nat post oifname out meta l4proto udp masquerade to :41820")
		netnstest.Run(t, "r4", "conntrack", "-F")
	})
	n.wantWays("other ports")
	n.deadFlows()
	n.outage("host 5 moves into the network of host 3", func() {
		n.attach("h5", "r3", 5)
		grid[4].kind, grid[4].routers, grid[4].six = "keeps ports", []string{"r3"}, false
	})
	n.wantWays("after the move")
}

// deadFlows has the address of the NAT of host 6 become another, and the flows that it knows sent by
// the old one, where no answer comes back: what keeps them alive is what the host sends.
func (n *gridNet) deadFlows() {
	n.t.Helper()
	translates := func(address string) {
		netnstest.Run(n.t, "r6", "nft", "flush chain ip nat post; add rule ip nat post oifname out snat to "+address)
	}
	translates("192.168.3.6")
	netnstest.Run(n.t, "r6", "conntrack", "-F")
	n.wantWays("flows of the old address")
	began := time.Now()
	translates("192.168.3.66")
	netnstest.Run(n.t, "r6", "sh", "-ec", "ip addr del 192.168.3.6/24 dev out; ip addr add 192.168.3.66/24 dev out; ip route replace default via 192.168.3.1")
	netnstest.Run(n.t, "r3", "ip", "neigh", "flush", "to", "192.168.3.6")
	for deadline := began.Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		silent := 0
		for _, p := range grid {
			if p.id != 6 && max(n.hosts[6].silent(p.id), n.hosts[p.id].silent(6)) > time.Second {
				silent++
			}
		}
		if silent == 0 && time.Since(began) > portAfter {
			break
		}
		if time.Now().After(deadline) {
			n.t.Errorf("a NAT sends by an address that it no longer has: after 2 minutes host 6 talks with %d less than all", silent)
			return
		}
	}
	n.t.Logf("a NAT sends by an address that it no longer has: host 6 talks with all again after %.1f s", time.Since(began).Seconds())
}

// logTalk says when hosts heard each other for the first time.
func (n *gridNet) logTalk(began time.Time) {
	n.t.Helper()
	var all []time.Duration
	_, lines := worst(func(by, of uint16) time.Duration {
		all = append(all, n.hosts[by].since[of].Sub(began))
		return all[len(all)-1]
	})
	slices.Sort(all)
	n.t.Logf("they talk after %.1f s (p50), %.1f s (p90), %.1f s (all)\n%s", all[len(all)/2].Seconds(), all[len(all)*9/10].Seconds(), all[len(all)-1].Seconds(), lines)
}

// worst has each host measured with each other one, and returns the most of each pair of kinds.
func worst(measure func(by, of uint16) time.Duration) (most map[string]time.Duration, lines string) {
	most = map[string]time.Duration{}
	for _, a := range grid {
		for _, b := range grid {
			if a.id != b.id {
				pair := a.kind + " from " + b.kind
				most[pair] = max(most[pair], measure(a.id, b.id))
			}
		}
	}
	var said []string
	for pair, d := range most {
		said = append(said, fmt.Sprintf("%-40s %5.2f s", pair, d.Seconds()))
	}
	slices.Sort(said)
	return most, strings.Join(said, "\n")
}

type gridNet struct {
	*liveNet
	routers []string
}

func newGrid(t *testing.T) *gridNet {
	var ids []uint16
	for _, p := range grid {
		ids = append(ids, p.id)
	}
	n := &gridNet{liveNet: emptyLiveNet(t, 2*time.Millisecond, ids...)}
	n.second = map[uint16]netip.AddrPort{1: netip.MustParseAddrPort("[2001:db8::1]:51820")} // so that MTUs have room for it
	n.hidden, n.dataEvery = map[uint16]bool{}, 200*time.Millisecond
	n.shifts = map[uint16]uint16{5: 5, 6: 6, 8: 8} // of two hosts with one port a NAT keeps one's
	netnstest.Namespace(t, "outside")
	netnstest.Run(t, "outside", "ip", "link", "add", "lan", "up", "type", "bridge")
	const random = " random,fully-random"
	for r, how := range map[string]string{"r3": "", "r4": "", "r5": random, "r6": "", "r7": random} {
		n.routers = append(n.routers, r)
		n.router(r, how)
	}
	for _, r := range n.routers {
		if r != "r6" {
			n.connect(r, "out", "outside", "198.51.0.10"+r[1:]+"/24", "")
		}
	}
	n.connect("r6", "out", "r3", "192.168.3.6/24", "192.168.3.1") // two in a row
	for _, p := range grid {
		name := fmt.Sprintf("h%d", p.id)
		netnstest.Namespace(t, name)
		if n.hidden[p.id] = p.kind != "public"; len(p.routers) == 0 {
			n.connect(name, "up", "outside", plantest.Host(p.id).Endpoint.Addr().String()+"/24", "")
		} else {
			n.attach(name, p.routers[0], p.id)
		}
		if p.six {
			n.attach6(p)
		}
		if p.kind == "firewall" {
			netnstest.Run(t, name, "nft", "add table inet f; add chain inet f in { type filter hook input priority 0; policy drop; }; add rule inet f in iifname lo accept; add rule inet f in ct state established,related accept")
		}
		n.host(p.id, name)
	}
	return n
}

// host gives a host its device and its agent in a namespace.
func (n *gridNet) host(id uint16, namespace string) {
	t, h := n.t, n.newHost(id)
	inside, carried := &liveSocket{newTestQueue(), h, true, false}, &liveSocket{newTestQueue(), h, true, false}
	live, err := wireguardtest.NewLiveIn(namespace, func(packet []byte) { h.take(inside, carried, packet) })
	if err != nil {
		t.Fatal(err)
	}
	port := 51820 + n.shifts[id]
	below, err := rawudp.Listen(namespace, port, probe.Magic)
	if err != nil {
		t.Fatal(err)
	}
	h.begins(live, inside, carried, below, openLocal(namespace, port))
	if grid[id-1].six {
		if h.below6, err = rawudp.Listen6(namespace, port, probe.Magic); err != nil {
			t.Fatal(err)
		}
		h.outside6 = func() (netip.Addr, error) { return links.Outside6(namespace) }
	}
	h.networks = func() ([]netip.Prefix, error) { return links.Nearby(namespace) }
	h.underlay = &namespace
}

// router makes a NAT with a network inside. It drops what nobody inside
// has asked for: what its own system would be given, and refuse, took the port of a flow from
// inside that is about to begin.
func (n *gridNet) router(name, how string) {
	netnstest.Namespace(n.t, name)
	netnstest.Run(n.t, name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	netnstest.Run(n.t, name, "ip", "link", "add", "lan", "up", "type", "bridge")
	netnstest.Run(n.t, name, "ip", "addr", "add", "192.168."+name[1:]+".1/24", "dev", "lan")
	netnstest.Run(n.t, name, "nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname out masquerade"+how+
		"; add chain ip nat fw { type filter hook forward priority 0; policy drop; }; add rule ip nat fw iifname lan accept; add rule ip nat fw ct state established accept"+
		"; add chain ip nat in { type filter hook input priority 0; }; add rule ip nat in iifname out drop")
}

// attach gives a host an address in the network of a router, and takes the one that it had.
func (n *gridNet) attach(host, router string, id uint16) {
	network := "192.168." + router[1:]
	n.connect(host, "up", router, fmt.Sprintf("%s.%d/24", network, 100+id), network+".1")
}

// attach6 gives a host an IPv6 address, and the router in front of it one and a firewall. Outside
// the hosts that have one are in one network.
func (n *gridNet) attach6(p place) {
	at := func(format string) string { return fmt.Sprintf(format, p.id) }
	if len(p.routers) == 0 {
		netnstest.Run(n.t, at("h%d"), "ip", "addr", "add", at("2001:db8::%d/64"), "dev", "up", "nodad")
		netnstest.Run(n.t, at("h%d"), "ip", "route", "add", "2001:db8::/32", "dev", "up")
		return
	}
	r := p.routers[0]
	netnstest.Run(n.t, r, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.out.proxy_ndp=1")
	netnstest.Run(n.t, r, "ip", "addr", "add", at("2001:db8:%d::1/64"), "dev", "lan", "nodad")
	netnstest.Run(n.t, r, "ip", "route", "add", "2001:db8::/32", "dev", "out")
	netnstest.Run(n.t, r, "ip", "neigh", "add", "proxy", at("2001:db8:%d::7"), "dev", "out")
	netnstest.Run(n.t, r, "nft", "add table ip6 f; add chain ip6 f fw { type filter hook forward priority 0; policy drop; }; add rule ip6 f fw iifname lan accept; add rule ip6 f fw ct state established accept")
	netnstest.Run(n.t, at("h%d"), "ip", "addr", "add", at("2001:db8:%d::7/64"), "dev", "up", "nodad")
	netnstest.Run(n.t, at("h%d"), "ip", "route", "add", "default", "via", at("2001:db8:%d::1"))
}

// connect puts a link of a namespace into the network of another one.
func (n *gridNet) connect(namespace, link, to, address, gateway string) {
	run := func(namespace, command string) {
		netnstest.Run(n.t, namespace, strings.Fields(command)...)
	}
	port := namespace + link
	netnstest.Run(n.t, namespace, "sh", "-c", "ip link del dev "+link+" 2>/dev/null || true")
	run(to, fmt.Sprintf("ip link add %s up master lan type veth peer name %s netns %s", port, link, namespace))
	run(namespace, fmt.Sprintf("ip addr add %s dev %s", address, link))
	run(namespace, fmt.Sprintf("ip link set dev %s up", link))
	if gateway != "" {
		run(namespace, "ip route add default via "+gateway)
	}
}

// ways says by what each host reaches each other one.
func (n *gridNet) ways() map[[2]uint16]string {
	all := map[[2]uint16]string{}
	for _, a := range grid {
		for _, p := range n.hosts[a.id].state().Peers {
			b, way := grid[p.HostID-1], "direct"
			switch {
			case p.State != paths.StateUp:
				way = p.State
			case p.Carried:
				way = "carried"
			case p.Via != 0:
				way = "relayed"
			case p.Local && len(a.routers) > 0: // all routers are in the network of those that have none
				way = "direct (LAN)"
			case p.Punched:
				way = "direct (punched)"
			}
			all[[2]uint16{a.id, b.id}] = way
		}
	}
	return all
}

// wantWays waits until all reach each other as they can, and says when they did.
func (n *gridNet) wantWays(when string) {
	n.t.Helper()
	began, after := time.Now(), map[string]time.Duration{}
	var wrong []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		wrong = nil
		ways := n.ways()
		for _, a := range grid {
			for _, b := range grid {
				if a.id == b.id {
					continue
				}
				pair := fmt.Sprintf("%s to %s: %s", a.kind, b.kind, wanted(a, b))
				if got := ways[[2]uint16{a.id, b.id}]; got != wanted(a, b) {
					wrong = append(wrong, fmt.Sprintf("%s: %d reaches %d %s, wanted %s", when, a.id, b.id, got, wanted(a, b)))
					after[pair] = time.Since(began)
				} else if after[pair] == 0 {
					after[pair] = 0
				}
			}
		}
		if wrong == nil {
			break
		}
	}
	for _, w := range wrong {
		n.t.Error(w)
	}
	var lines []string
	for pair, d := range after {
		lines = append(lines, fmt.Sprintf("%-60s after %4.1f s", pair, d.Seconds()))
	}
	slices.Sort(lines)
	n.t.Logf("%s:\n%s", when, strings.Join(lines, "\n"))
}

// outage has something happen, and says how long at most one host heard nothing of another.
func (n *gridNet) outage(what string, do func()) {
	n.t.Helper()
	for _, h := range n.hosts {
		h.mu.Lock()
		clear(h.gaps)
		h.mu.Unlock()
	}
	do()
	time.Sleep(8 * time.Second)
	most, lines := worst(func(by, of uint16) time.Duration { return n.hosts[by].silence(of) })
	for pair, d := range most {
		if d > 7*time.Second {
			n.t.Errorf("%s: %s heard nothing for %v", what, pair, d)
		}
	}
	n.t.Logf("%s:\n%s", what, lines)
}
