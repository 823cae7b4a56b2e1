package firewall

import (
	"context"
	"strings"
	"testing"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/spec"
)

// sharedWorld is world in which host 1 keeps its NIC.
func sharedWorld(t *testing.T) bool {
	t.Helper()
	if !worldWith(t, sharedFirewallOf) {
		return false
	}
	openDoorway(t, doorwayOf(1))
	return true
}

// openDoorway loads a host's own table, of which it returns the hand.
func openDoorway(t *testing.T, d *spec.Doorway) *Firewall {
	t.Helper()
	f := NewDoorway(t.TempDir())
	f.namespace = hostOf(d.HostID)
	if err := f.load(context.Background(), RenderDoorway(d)); err != nil {
		t.Fatal(err)
	}
	return f
}

// machineBehind makes a machine behind host 1, on a link of the host's with an address.
func machineBehind(t *testing.T, name, link, address, own string) {
	t.Helper()
	netnstest.Namespace(t, name)
	via, _, _ := strings.Cut(address, "/")
	sh(t, name, "ip link add eth0 type veth peer name "+link+" netns "+hostOf(1))
	sh(t, hostOf(1), "ip link set "+link+" up; ip addr add "+address+" dev "+link)
	sh(t, name, "ip link set eth0 up; ip addr add "+own+" dev eth0; ip route add default via "+via)
}

// TestSharedWayOutside: who asks outside by the host comes from its address, and never
// from its WireGuard's port.
func TestSharedWayOutside(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	serve(t, outside, "198.51.100.1:80")
	for _, ns := range []string{hostOf(1), guestOf(1), gateway(1)} {
		if got := ask(ns, "198.51.100.1:80"); got != "192.0.2.1" {
			t.Errorf("%s is answered %q by the outside, wanted the host's address there", ns, got)
		}
	}
	wireGuard, third, stranger := udp(t, hostOf(1), "192.0.2.1:51820"), udp(t, outside, "192.0.2.3:51820"), udp(t, outside, "198.51.100.1:51820")
	for _, c := range []struct {
		port string
		stay bool
	}{{"51820", false}, {"50000", true}, {"443", false}} {
		guest := udp(t, guestOf(1), "10.31.200.1:"+c.port)
		send(t, guest, "198.51.100.1:51820", "guest")
		text, from := hear(t, stranger)
		if text != "guest" || from.Addr().String() != "192.0.2.1" || from.Port() == 51820 || (from.String() == "192.0.2.1:"+c.port) != c.stay {
			t.Errorf("from port %s the guest comes as %q from %s", c.port, text, from)
			continue
		}
		send(t, stranger, from.String(), "answer")
		if text, _ := hear(t, guest); text != "answer" {
			t.Errorf("from port %s the guest hears %q, wanted its answer", c.port, text)
		}
		guest.Close()
	}
	for _, port := range []string{"32770", "51820"} { // a relay's, and WireGuard's before the host has sent anything
		guest := udp(t, guestOf(1), "10.31.200.1:"+port)
		send(t, guest, "192.0.2.3:51820", "guest")
		text, from := hear(t, third)
		if text != "guest" || from.Addr().String() != "192.0.2.1" || from.Port() < 32773 || from.Port() == 51820 {
			t.Errorf("to a member the guest comes as %q from %s, wanted a client's port that is no relay's", text, from)
		}
		send(t, third, from.String(), "answer")
		if text, _ := hear(t, guest); text != "answer" {
			t.Errorf("from a member the guest hears %q, wanted its answer", text)
		}
	}
	send(t, third, "192.0.2.1:51820", "to WireGuard")
	if text, from := hear(t, wireGuard); text != "to WireGuard" || from.String() != "192.0.2.3:51820" {
		t.Errorf("WireGuard hears %q from %s", text, from)
	}
	send(t, wireGuard, "192.0.2.3:51820", "of WireGuard")
	if text, from := hear(t, third); text != "of WireGuard" || from.String() != "192.0.2.1:51820" {
		t.Errorf("the peer hears %q from %s", text, from)
	}
}

// TestSharedClientsAndMembers: clients get outside by the host, other members do not.
func TestSharedClientsAndMembers(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	at := udp(t, outside, "198.51.100.1:9")
	// Of host 1; here they sit beside host 2's gateway.
	sh(t, gateway(2), `ip route add 198.51.100.1 dev mo-wg-gw table 77; ip route add 192.0.2.1 dev mo-wg-gw table 77
nft 'table ip client { chain out { type filter hook output priority raw; oifname "mo-wg-gw" notrack; }; }'
for a in 10.30.128.1 10.30.77.1; do ip addr add $a/32 dev lo; ip rule add from $a lookup 77; done`)
	send(t, udp(t, gateway(2), "10.30.77.1:9"), "198.51.100.1:9", "member")
	send(t, udp(t, gateway(2), "10.30.128.1:9"), "198.51.100.1:9", "client")
	if text, from := hear(t, at); text != "client" || from.Addr().String() != "192.0.2.1" {
		t.Errorf("the outside hears %q from %s, wanted the client from the host's address", text, from)
	}
	if text, _ := hearFor(t, at, quiet); text != "" {
		t.Errorf("the outside hears %q", text)
	}
	service := udp(t, hostOf(1), "192.0.2.1:9")
	for _, from := range []string{"10.30.77.1:10", "10.30.128.1:10"} {
		send(t, udp(t, gateway(2), from), "192.0.2.1:9", from)
	}
	if text, from := hearFor(t, service, quiet); text != "" {
		t.Errorf("the host's address outside hears %q from %s", text, from)
	}
}

// TestSharedInside: inside all is as on a host whose NIC is in the gateway.
func TestSharedInside(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	serve(t, hostOf(1), "10.30.0.1:80")
	serve(t, hostOf(2), "10.30.0.2:80")
	for _, c := range []struct{ from, to, as string }{
		{hostOf(2), "10.30.0.1:80", "10.30.0.2"}, {guestOf(2), "10.30.0.1:80", "10.31.0.2"}, {guestOf(1), "10.30.0.1:80", "10.31.200.1"},
		{hostOf(1), "10.30.0.2:80", "10.30.0.1"}, {guestOf(1), "10.30.0.2:80", "10.31.0.1"},
	} {
		if got := ask(c.from, c.to); got != c.as {
			t.Errorf("%s comes to %s as %q, wanted %q", c.from, c.to, got, c.as)
		}
	}
	at := udp(t, hostOf(1), "10.30.0.1:443")
	sh(t, guestOf(1), "ip addr flush dev eth0; ip addr add 10.31.128.1/16 dev eth0; ip route add default via 10.31.0.1")
	send(t, udp(t, guestOf(1), "10.31.128.1:9"), "10.30.0.1:443", "guest")
	if text, from := hear(t, at); text != "guest" || from.Addr().String() != "10.31.0.1" || from.Port() < 61000 {
		t.Errorf("a guest that says that it is the host comes as %q from %s, wanted the gateway's access address", text, from)
	}
}

// TestSharedHostsServices: at its addresses outside a host has no services for guests.
func TestSharedHostsServices(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	f := openDoorway(t, doorwayOf(1))
	serve(t, hostOf(1), "0.0.0.0:8080")
	for _, c := range []struct{ from, to, as string }{
		{outside, "192.0.2.1:8080", "192.0.2.3"}, {hostOf(2), "10.30.0.1:8080", "10.30.0.2"}, {guestOf(1), "10.31.128.1:8080", "10.31.200.1"},
	} {
		if got := ask(c.from, c.to); got != c.as {
			t.Errorf("%s comes to %s as %q, wanted %q", c.from, c.to, got, c.as)
		}
	}
	sh(t, hostOf(1), "ip addr add 203.0.113.1/32 dev lo")
	for _, to := range []string{"192.0.2.1:8080", "203.0.113.1:8080"} {
		if got := askFor(guestOf(1), to, quiet); got != "" {
			t.Errorf("a guest is answered %q by %s", got, to)
		}
	}
	refused, err := f.Refused(context.Background())
	if err != nil || len(refused) != 1 || refused[0].What != "host's addresses outside" || refused[0].Packets < 2 {
		t.Errorf("counted %+v (%v), wanted the guest's attempts", refused, err)
	}
}

// TestSharedFromOutside: nobody outside begins anything inside, nor speaks for who is.
func TestSharedFromOutside(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	for ns, at := range map[string]string{hostOf(1): "0.0.0.0:80", guestOf(1): "10.31.200.1:80"} {
		serve(t, ns, at)
	}
	sh(t, outside, "ip route add 10.30.0.0/16 via 192.0.2.1; ip route add 10.31.0.0/16 via 192.0.2.1")
	for _, to := range []string{"10.30.0.1:80", "10.31.128.1:80", "10.31.200.1:80", "10.31.0.1:53", "10.30.0.0:53"} {
		if got := askFor(outside, to, quiet); got != "" {
			t.Errorf("the outside is answered %q by %s", got, to)
		}
	}
	at := udp(t, hostOf(1), "0.0.0.0:9")
	sh(t, outside, "ip addr add 10.31.77.1/32 dev lo; ip addr add 10.30.0.2/32 dev lo")
	for _, from := range []string{"10.31.77.1:9", "10.30.0.2:9"} {
		send(t, udp(t, outside, from), "192.0.2.1:9", from)
		if text, _ := hearFor(t, at, quiet); text != "" {
			t.Errorf("the host hears %q from outside", text)
		}
	}
	// By a host that lets everything pass to its gateway.
	guest, names := udp(t, guestOf(1), "10.31.200.1:9"), udp(t, gateway(1), "10.30.0.0:53")
	sh(t, hostOf(1), `for a in 203.0.113.9 10.31.77.1 10.30.0.2; do ip addr add $a/32 dev lo; done; ip route add 10.31.200.1 via 10.30.0.0 dev mo-dir-hs onlink`)
	for _, from := range []string{"203.0.113.9:10", "10.31.77.1:10", "10.30.0.2:10"} {
		forged := udp(t, hostOf(1), from)
		send(t, forged, "10.31.200.1:9", from)
		send(t, forged, "10.30.0.0:53", from)
	}
	if text, from := hearFor(t, guest, quiet); text != "" {
		t.Errorf("the guest hears %q from %s", text, from)
	}
	if text, from := hearFor(t, names, quiet); text != "" {
		t.Errorf("the nameserver hears %q from %s", text, from)
	}
	send(t, udp(t, hostOf(1), "10.30.0.1:9000"), "10.30.0.0:53", "host")
	if text, _ := hear(t, names); text != "host" {
		t.Error("the host itself does not reach its nameserver")
	}
}

// TestSharedHostIsNoRouter: a NIC that forwards for the gateway forwards for nobody else,
// unless it did before.
func TestSharedHostIsNoRouter(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	machineBehind(t, "lan", "eth1", "203.0.113.1/24", "203.0.113.2/24")
	sh(t, hostOf(1), "sysctl -qw net.ipv4.conf.eth1.forwarding=1")
	sh(t, outside, "ip route add 203.0.113.0/24 via 192.0.2.1")
	serve(t, "lan", "203.0.113.2:80")
	if got := askFor(outside, "203.0.113.2:80", quiet); got != "" {
		t.Errorf("a host that never forwarded does: its LAN answers %q", got)
	}
	before := doorwayOf(1)
	before.Opened = nil
	openDoorway(t, before)
	if got := ask(outside, "203.0.113.2:80"); got != "192.0.2.3" {
		t.Errorf("a host that forwarded does no more: its LAN answers %q", got)
	}
}

// TestSharedMetadata: what a cloud tells the host is for the host, but names are for all.
func TestSharedMetadata(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	const metadata = "169.254.169.254:80"
	serve(t, outside, metadata)
	if got := ask(hostOf(1), metadata); got != "192.0.2.1" {
		t.Errorf("the host is answered %q by its cloud, wanted its address outside", got)
	}
	for _, ns := range []string{guestOf(1), gateway(1)} { // the second as if the gateway's table were not there
		if got := askFor(ns, metadata, quiet); got != "" {
			t.Errorf("%s is answered %q by its host's cloud", ns, got)
		}
	}
	resolver := udp(t, outside, "169.254.169.254:53")
	send(t, udp(t, guestOf(1), "10.31.200.1:9"), "169.254.169.254:53", "guest")
	send(t, udp(t, gateway(1), "10.30.0.0:9"), "169.254.169.254:53", "gateway")
	if text, _ := hear(t, resolver); text != "gateway" {
		t.Errorf("the cloud's resolver hears %q, wanted the gateway", text)
	}
}
