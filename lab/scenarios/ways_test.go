//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// otherEndpoint is erin's second address, to which grace has a route on the link.
const otherEndpoint = "198.51.7.5"

// oneOfTwoEndpoints: erin has two endpoints. What goes between the first and grace is
// dropped while grace sends to her: the other one is taken, not a relay.
func oneOfTwoEndpoints(t *testing.T, w *world) {
	erin, grace := w.Host("erin"), w.Host("grace")
	w.on(t, "erin", "ip addr add "+otherEndpoint+"/32 dev ens3")
	w.on(t, "grace", "ip netns exec mobula ip route add "+otherEndpoint+"/32 dev mo-ext-gw")
	w.on(t, "erin", "ip addr add "+erin.IPv6Address()+"/64 dev "+lab.SecondNIC+" nodad") // in heidi's network
	w.extra["erin"] = fmt.Sprintf("      open_firewall: true\n      endpoints: [%s, %s, '%s']\n", lab.MovingName, otherEndpoint, erin.IPv6Address())
	before, heidi := w.extra["heidi"], w.Host("heidi")
	w.extra["heidi"] = strings.Replace(before, fmt.Sprintf("endpoint: %s:%d", lab.SitePublicAddress, heidi.SitePort()),
		fmt.Sprintf("endpoints: ['%s:%d', '[%s]:51820']", lab.SitePublicAddress, heidi.SitePort(), heidi.IPv6Address()), 1)
	heidiByIPv4 = before
	w.inventory(t)
	w.deploy(t)
	byHerselfAgain(t, w)
	eventually(t, time.Minute, "grace knows that both work", func() error {
		if said := w.on(t, "grace", "mobula status"); !strings.Contains(said, "direct (LAN)") || !strings.Contains(said, "also "+otherEndpoint) {
			return fmt.Errorf("found %s", said)
		}
		return nil
	})
	arrived := w.sendingTo(t, "grace", erin)
	restore := w.dropBetween(t, erin.Address, grace.Address)
	answered := arrived("erin without the first of two endpoints")
	if answered < 85 { // 3 s
		t.Errorf("%d of 100 packets were answered", answered)
	}
	w.seesAt(t, "grace", erin, otherEndpoint)
	restore()
}

// heidiByIPv4 is what hosts.yml says of heidi before and after.
var heidiByIPv4 string

// overIPv6: erin and heidi have a network in common in which they speak IPv6 alone, which heidi
// takes before the way over her router. Frames of full size pass there. When IPv6 is dropped
// while erin sends, they go on over IPv4, and the other way round. Grace, whose NIC has moved,
// stays with IPv4.
func overIPv6(t *testing.T, w *world) {
	erin, heidi := w.Host("erin"), w.Host("heidi")
	defer w.dropInside(t)()
	w.seesWithin(t, 2*time.Minute, "heidi", erin, erin.IPv6Address()) // it is tested, and well for 10 s
	w.seesAt(t, "erin", heidi, heidi.IPv6Address())
	if said := w.on(t, "erin", "mobula status"); !strings.Contains(said, "direct (LAN, IPv6)") {
		t.Errorf("erin says %s", said)
	}
	if at := w.sees(t, "grace", heidi); !at.Addr().Is4() {
		t.Errorf("grace has heidi at %s", at)
	}
	const mtu = 1366
	for host, other := range map[string]*lab.Host{"erin": heidi, "heidi": erin, "grace": heidi} {
		if got := w.on(t, host, "cat /sys/class/net/veth_fac0/mtu"); got != fmt.Sprint(mtu) {
			t.Errorf("%s: found an MTU of %s bytes, wanted %d", host, got, mtu)
		}
		w.on(t, host, fmt.Sprintf("ping -q -c 3 -W 5 -M do -s %d %s", mtu-28, other.AccessAddress()))
	}
	inVLAN := func(host *lab.Host) {
		w.on(t, host.Name, fmt.Sprintf("ip link add link veth_fac0 name lab.7 type vlan id 7; ip link set lab.7 up; ip addr add 172.31.7.%d/24 dev lab.7", host.ID%250))
		t.Cleanup(func() { w.on(t, host.Name, "ip link del lab.7") })
	}
	inVLAN(erin)
	inVLAN(heidi)
	w.on(t, "erin", fmt.Sprintf("ping -q -c 3 -W 5 -M do -s %d 172.31.7.%d", mtu-28, heidi.ID%250))
	w.seesAt(t, "erin", heidi, heidi.IPv6Address())

	arrived := w.sendingTo(t, "erin", heidi)
	restore := w.filterFrames(t, "lab-ipv6", `	chain forward {
		type filter hook forward priority 0
		meta l4proto udp ip6 version 6 drop
	}
`)
	if answered := arrived("heidi without IPv6"); answered < 85 { // 3 s
		t.Errorf("%d of 100 packets were answered", answered)
	}
	w.seesAt(t, "erin", heidi, lab.SitePublicAddress)
	restore()

	eventually(t, time.Minute, "erin knows that heidi answers over IPv6 again", func() error {
		said := w.on(t, "erin", "mobula status")
		if _, also, found := strings.Cut(said, "["+heidi.IPv6Address()+"]:51820 (LAN): "); found && strings.HasPrefix(also, "no answer") {
			return fmt.Errorf("found %s", said)
		}
		return nil
	})
	arrived = w.sendingTo(t, "erin", heidi)
	restore = w.dropBetween(t, erin.Address, lab.SitePublicAddress)
	if answered := arrived("heidi without IPv4"); answered < 85 { // 3 s
		t.Errorf("%d of 100 packets were answered", answered)
	}
	w.seesAt(t, "erin", heidi, heidi.IPv6Address())
	restore()
}

// firstEndpointAgain comes later, as a path stays with what it had to take for a while: the
// first endpoint counts again, as it is in a network of grace's own.
func firstEndpointAgain(t *testing.T, w *world) {
	w.seesAt(t, "grace", w.Host("erin"), w.Host("erin").Address)
	w.extra["erin"], w.extra["heidi"] = erinByName, heidiByIPv4
	w.inventory(t)
	w.deploy(t)
	w.on(t, "erin", "ip addr del "+otherEndpoint+"/32 dev ens3; ip addr del "+w.Host("erin").IPv6Address()+"/64 dev "+lab.SecondNIC)
	w.on(t, "grace", "ip netns exec mobula ip route del "+otherEndpoint+"/32 dev mo-ext-gw")
	w.reachEachOther(t)
}

// seesAt waits until a host has another one at an address.
func (w *world) seesAt(t *testing.T, host string, other *lab.Host, wanted string) {
	t.Helper()
	w.seesWithin(t, time.Minute, host, other, wanted)
}

// seesWithin is seesAt with another time.
func (w *world) seesWithin(t *testing.T, most time.Duration, host string, other *lab.Host, wanted string) {
	t.Helper()
	found := false
	defer func() {
		if !found { // what both thought of it
			for _, name := range []string{host, other.Name} {
				t.Logf("%s: %s", name, w.on(t, name, "mobula status; journalctl -o short-precise --no-hostname -u mobula-agent -n 25"))
			}
		}
	}()
	eventually(t, most, host+" has "+other.Name+" at "+wanted, func() error {
		if at := w.sees(t, host, other).Addr().String(); at != wanted {
			return fmt.Errorf("found %s", at)
		}
		found = true
		return nil
	})
}

// dropBetween has the lab drop datagrams between two addresses.
func (w *world) dropBetween(t *testing.T, a, b string) (undo func()) {
	t.Helper()
	return w.filterFrames(t, "lab-between", fmt.Sprintf(`	chain forward {
		type filter hook forward priority 0
		meta l4proto udp ip saddr %[1]s ip daddr %[2]s drop
		meta l4proto udp ip saddr %[2]s ip daddr %[1]s drop
	}
`, a, b))
}

// dropInside has no WireGuard pass over IPv4 between hosts of the site.
func (w *world) dropInside(t *testing.T) (undo func()) {
	t.Helper()
	return w.filterFrames(t, "lab-inside", fmt.Sprintf(`	chain forward {
		type filter hook forward priority 0
		ip saddr %[1]s ip daddr %[1]s udp dport 51820 drop
	}
`, lab.SiteNetwork))
}

// mesh is what a host says of the network (docs/mesh.schema.json).
type mesh struct {
	Hosts []struct{ Name, Answer string }
}

// saysHowTheNetworkIs: any host tells of all, also of one that is down.
func (w *world) saysHowTheNetworkIs(t *testing.T, host, down string) {
	t.Helper()
	eventually(t, 20*time.Second, host+" tells of all hosts", func() error {
		var m mesh
		mustJSON(t, w.on(t, host, "mobula status --mesh --json"), &m)
		if len(m.Hosts) != len(w.hosts) {
			return fmt.Errorf("found %+v, wanted %d hosts", m, len(w.hosts))
		}
		for _, h := range m.Hosts {
			want := "yes"
			if strings.HasPrefix(h.Name, down+".") {
				want = "unreachable"
			}
			if h.Answer != want {
				return fmt.Errorf("%s: found %q, wanted %q", h.Name, h.Answer, want)
			}
		}
		if said := w.on(t, host, "mobula status --mesh"); (down != "") != strings.Contains(said, "* "+down+".example.com is unreachable") {
			return fmt.Errorf("it says %s", said)
		}
		return nil
	})
}
