package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// relaysForBoth is the firewall of host 1 with two more members, 5 and 6, behind the one
// address of a router.
func relaysForBoth(id uint16) *spec.Firewall {
	f := firewallOf(id)
	for other, endpoint := range map[uint16]string{5: "192.0.2.5:51821", 6: "192.0.2.5:51820"} {
		m := netip.MustParseAddrPort(endpoint)
		f.Members = append(f.Members, m)
		f.Relays = append(f.Relays, spec.Relay{HostID: other, Port: network.RelayPort(network.Host{Endpoint: members[id-1]}, other), Endpoint: m})
	}
	return f
}

// TestRelayToHostsBehindOneAddress: both listen on the same port, and a router forwards
// one of its own to each. A relay tells them apart by those, and knows their answers;
// what they begin themselves comes from ports that the router chooses.
func TestRelayToHostsBehindOneAddress(t *testing.T) {
	if !worldWith(t, relaysForBoth) {
		return
	}
	const router = "router"
	netnstest.Namespace(t, router)
	sh(t, router, `sysctl -qw net.ipv4.ip_forward=1
ip link add out type veth peer name router netns outside; ip link set out up; ip addr add 192.0.2.5/24 dev out
ip link add inside type bridge; ip link set inside up; ip addr add 10.99.0.1/24 dev inside
nft -f - <<END
table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname out udp dport 51821 dnat to 10.99.0.105:51820
		iifname out udp dport 51820 dnat to 10.99.0.106:51820
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		oifname out masquerade
	}
}
END`)
	sh(t, outside, "ip link set router master net up")
	for _, id := range []int{5, 6} {
		behind := fmt.Sprint("behind", id)
		netnstest.Namespace(t, behind)
		sh(t, router, fmt.Sprintf("ip link add port%d type veth peer name eth0 netns %s; ip link set port%[1]d master inside up", id, behind))
		sh(t, behind, fmt.Sprintf("ip link set eth0 up; ip addr add 10.99.0.10%d/24 dev eth0; ip route add default via 10.99.0.1", id))
	}
	third, fourth := udp(t, outside, "192.0.2.3:51820"), udp(t, outside, "192.0.2.4:51820")
	five, six := udp(t, "behind5", "10.99.0.105:51820"), udp(t, "behind6", "10.99.0.106:51820")
	for id, host := range map[int]*net.UDPConn{5: five, 6: six} {
		name, to, hop := fmt.Sprint("host ", id), fmt.Sprint("192.0.2.1:", 32768+id), "192.0.2.1:32771"
		send(t, third, to, "to "+name)
		text, from := hear(t, host)
		if text != "to "+name || from.String() != hop {
			t.Fatalf("%s hears %q from %s, wanted it from %s", name, text, from, hop)
		}
		send(t, host, hop, "from "+name)
		if text, from := hear(t, third); text != "from "+name || from.String() != to {
			t.Errorf("the sender hears %q from %s, wanted the answer of %s from %s", text, from, name, to)
		}
	}

	send(t, six, "192.0.2.1:32772", "six")
	text, from := hear(t, fourth)
	if text != "six" || from.String() != "192.0.2.1:32774" {
		t.Errorf("host 4 hears %q from %s, wanted it from the port of host 6", text, from)
	}
	send(t, five, "192.0.2.1:32772", "five")
	text, other := hear(t, fourth)
	if text != "five" || other == from {
		t.Errorf("host 4 hears %q from %s, wanted it from another port than host 6's", text, other)
	}
	send(t, fourth, other.String(), "to five")
	send(t, fourth, from.String(), "to six")
	if text, _ := hear(t, five); text != "to five" {
		t.Errorf("host 5 hears %q", text)
	}
	if text, _ := hear(t, six); text != "to six" {
		t.Errorf("host 6 hears %q", text)
	}
}
