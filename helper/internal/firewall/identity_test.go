package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
)

// TestGuestTakesNoService: what a guest sends to a host inside comes from a port at
// which nobody asks its own host, and so takes no entry that the other host's
// questions, or a tunnel's frames, would need.
func TestGuestTakesNoService(t *testing.T) {
	if !world(t) {
		return
	}
	first, second := udp(t, hostOf(1), "10.30.0.1:5405"), udp(t, hostOf(2), "10.30.0.2:5405")
	guest := udp(t, guestOf(1), "10.31.200.1:5405")
	send(t, guest, "10.30.0.2:5405", "guest")
	text, from := hear(t, second)
	if text != "guest" || from.Port() < 61000 {
		t.Errorf("the guest comes as %q from %s, wanted a port that is nobody's", text, from)
	}
	send(t, second, "10.30.0.1:5405", "from host to host")
	if text, _ := hear(t, first); text != "from host to host" {
		t.Errorf("host 1 hears %q of host 2's question", text)
	}
	send(t, second, from.String(), "answer")
	if text, _ := hear(t, guest); text != "answer" {
		t.Errorf("the guest hears %q, wanted its answer", text)
	}
	// The tunnel's socket hears members only.
	tunnel, echo := udp(t, gateway(1), "10.30.0.0:6254"), udp(t, hostOf(2), "10.30.0.2:7")
	send(t, udp(t, guestOf(1), "10.31.200.1:6254"), "10.30.0.2:7", "a frame")
	if text, from := hear(t, echo); text == "" {
		t.Error("the guest does not reach the service")
	} else {
		send(t, echo, from.String(), text)
	}
	send(t, udp(t, hostOf(2), "10.30.0.2:7001"), "10.30.0.1:6254", "a frame of the host itself")
	if text, from := hearFor(t, tunnel, quiet); text != "" {
		t.Errorf("the tunnel hears %q from %s", text, from)
	}
}

// TestClientTakesNoServiceOfTheGateway: machines on the access network see clients and
// hosts as the gateway, but never at the ports where it serves.
func TestClientTakesNoServiceOfTheGateway(t *testing.T) {
	if !world(t) {
		return
	}
	// A client of host 1: here it sits beside host 2's gateway.
	sh(t, gateway(2), `ip addr add 10.30.128.1/32 dev lo; ip rule add from 10.30.128.1 lookup 77; ip route add 10.31.200.1 dev mo-wg-gw table 77
nft 'table ip client { chain out { type filter hook output priority raw; ip saddr 10.30.128.1 notrack; }; }'`)
	guest := udp(t, guestOf(1), "10.31.200.1:40000")
	send(t, udp(t, gateway(2), "10.30.128.1:53"), "10.31.200.1:40000", "an answer that nobody gave")
	text, from := hear(t, guest)
	if text == "" || from.Addr().String() != "10.31.0.1" || from.Port() < 61000 {
		t.Errorf("the client comes as %q from %s, wanted the gateway and a port that is nobody's", text, from)
	}
}

// TestGuestIsNotItsHost: a guest that says that it is its own host is to that host's
// services what guests are, and gets nothing of the cloud's by way of the host.
func TestGuestIsNotItsHost(t *testing.T) {
	if !world(t) {
		return
	}
	at := udp(t, hostOf(1), "10.30.0.1:443")
	send(t, udp(t, hostOf(1), "10.30.0.1:9"), "192.0.2.1:443", "itself")
	if text, from := hear(t, at); text != "itself" || from.Addr().String() != "10.30.0.0" {
		t.Errorf("the host comes to its own public address as %q from %s, wanted 10.30.0.0", text, from)
	}
	// With access_address: manual the host may have another address, and forward.
	sh(t, hostOf(1), "ip addr flush dev veth_fac0; ip addr add 10.31.200.99/16 dev veth_fac0; sysctl -qw net.ipv4.ip_forward=1; ip route replace default via 10.30.0.0 dev mo-dir-hs onlink src 10.30.0.1")
	sh(t, guestOf(1), "ip addr flush dev eth0; ip addr add 10.31.128.1/16 dev eth0; ip route add default via 10.31.0.1; ip route add 169.254.169.254 via 10.31.200.99")
	send(t, udp(t, guestOf(1), "10.31.128.1:9"), "192.0.2.1:443", "guest")
	if text, from := hear(t, at); text != "guest" || from.Addr().String() != "10.31.0.1" || from.Port() < 61000 {
		t.Errorf("a guest that says that it is the host comes as %q from %s, wanted the gateway's access address", text, from)
	}
	sh(t, gateway(1), "sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true") // the real switch knows nothing of it
	serve(t, outside, "169.254.169.254:80")
	if got := ask(hostOf(1), "169.254.169.254:80"); got != "192.0.2.1" {
		t.Errorf("the host is answered %q by its cloud, wanted its public address", got)
	}
	if got := askFor(guestOf(1), "169.254.169.254:80", quiet); got != "" {
		t.Errorf("a guest is answered %q by its host's cloud", got)
	}
}

// TestAllGuestsLeaveRoom: all guests together, under whatever Ethernet addresses and
// also under the host's own address, leave the host its connections.
func TestAllGuestsLeaveRoom(t *testing.T) {
	if !world(t) {
		return
	}
	const small = 0 // bytes of memory
	if err := New(gateway(1), t.TempDir()).load(context.Background(), Render(firewallOf(1), small)); err != nil {
		t.Fatal(err)
	}
	serve(t, outside, "198.51.100.1:80")
	sh(t, gateway(1), "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600")
	for n, address := range []string{"10.31.201.1", "10.31.201.2", "10.31.128.1"} {
		sh(t, guestOf(1), fmt.Sprintf(`ip link set eth0 down; ip link set eth0 address 02:00:00:00:07:%02x; ip addr flush dev eth0
ip addr add %s/16 dev eth0; ip link set eth0 up; ip route add default via 10.31.0.1
python3 -c "
import socket
for port in range(2000, 2100):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('%[2]s', port)); s.sendto(b'x', ('198.51.100.1', 7))
    s.close()
"`, n, address))
	}
	most := guestEntries(small)
	if n, err := strconv.Atoi(sh(t, gateway(1), "conntrack -C")); err != nil || n < most || n > most+10 {
		t.Errorf("guests that began 300 connections have %d (%v), wanted %d", n, err, most)
	}
	sh(t, gateway(1), "ip neigh flush dev ovsbr-mobula")
	if got := ask(hostOf(1), "198.51.100.1:80"); got == "" {
		t.Error("the host gets no connection to the outside")
	}
	at, stranger := udp(t, hostOf(1), "10.30.0.1:443"), udp(t, outside, "198.51.100.1:9")
	send(t, stranger, "192.0.2.1:443", "from outside")
	if text, from := hear(t, at); text != "from outside" || from != netip.MustParseAddrPort("198.51.100.1:9") {
		t.Errorf("the host hears %q from %s", text, from)
	}
}
