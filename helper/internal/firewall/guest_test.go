package firewall

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
)

// TestMetadata: what a cloud tells the host, its credentials among it, is for
// the host alone.
func TestMetadata(t *testing.T) {
	if !world(t) {
		return
	}
	const metadata = "169.254.169.254:80"
	serve(t, outside, metadata)
	serve(t, outside, "198.51.100.1:80")
	if got := ask(hostOf(1), metadata); got != "192.0.2.1" {
		t.Errorf("the host is answered %q, wanted its public address", got)
	}
	for _, ns := range []string{hostOf(1), guestOf(1)} {
		if got := ask(ns, "198.51.100.1:80"); got != "192.0.2.1" {
			t.Errorf("%s is answered %q by the outside, wanted the public address", ns, got)
		}
	}
	if got := askFor(guestOf(1), metadata, quiet); got != "" {
		t.Errorf("a guest is answered %q", got)
	}
	// Another host's gateway, and a guest that says that it is the host.
	sh(t, guestOf(1), "ip route add 169.254.169.254 via 10.31.0.2; ip route flush cache")
	if got := askFor(guestOf(1), metadata, quiet); got != "" {
		t.Errorf("a guest is answered %q by way of another gateway", got)
	}
	sh(t, guestOf(1), "ip addr flush dev eth0; ip addr add 10.31.128.1/16 dev eth0; ip route add default via 10.31.0.1")
	sh(t, gateway(1), "ip neigh replace 10.31.128.1 lladdr "+sh(t, guestOf(1), "cat /sys/class/net/eth0/address")+" dev ovsbr-mobula")
	if got := askFor(guestOf(1), metadata, quiet); got != "" {
		t.Errorf("a guest with the host's address is answered %q", got)
	}
	// A host's own routes of other links come first.
	sh(t, hostOf(1), "ip link add other type veth peer name bmc; ip link set other up; ip link set bmc up; ip addr add 169.254.95.118/24 dev other")
	if got := sh(t, hostOf(1), "ip route get 169.254.95.120 | grep -o 'dev [^ ]*'"); got != "dev other" {
		t.Errorf("the host's other link-local network is reached by %s", got)
	}
	refused, err := New(gateway(1), t.TempDir()).Refused(context.Background())
	if err != nil || len(refused) != 1 || refused[0].What != "host's metadata" || refused[0].Packets < 2 {
		t.Errorf("counted %+v (%v), wanted the guest's attempts", refused, err)
	}
}

// TestForgedSource: what no machine of the access network may say it is.
func TestForgedSource(t *testing.T) {
	if !world(t) {
		return
	}
	at := udp(t, outside, "198.51.100.1:9")
	for _, source := range []string{"10.30.0.1", "10.30.0.2", "10.30.128.1", "203.0.113.9", "169.254.169.254"} {
		sh(t, guestOf(1), "ip addr add "+source+"/32 dev eth0")
		send(t, udp(t, guestOf(1), source+":9"), "198.51.100.1:9", source)
		if text, from := hearFor(t, at, quiet); text != "" {
			t.Errorf("%s passed as %s", text, from)
		}
	}
	send(t, udp(t, guestOf(1), "10.31.200.1:9"), "198.51.100.1:9", "itself")
	if text, _ := hear(t, at); text != "itself" {
		t.Error("a guest's own address does not pass")
	}
}

// TestGuestTakesNoPort: a guest whose packets come from a port at which others
// look for the host gets another one, and takes no packet away from the host.
func TestGuestTakesNoPort(t *testing.T) {
	if !world(t) {
		return
	}
	wireGuard, service := udp(t, gateway(1), "192.0.2.1:51820"), udp(t, hostOf(1), "10.30.0.1:443")
	third, fourth := udp(t, outside, "192.0.2.3:51820"), udp(t, outside, "192.0.2.4:51820")
	stranger := udp(t, outside, "198.51.100.1:51820")
	for _, c := range []struct {
		port     string
		to, from string
	}{
		{"51820", "192.0.2.3:51820", "WireGuard's"}, {"51820", "198.51.100.1:51820", "WireGuard's"},
		{"32772", "192.0.2.3:51820", "a relay's"}, {"443", "198.51.100.1:51820", "a service's"},
	} {
		at := third
		if c.to != "192.0.2.3:51820" {
			at = stranger
		}
		guest := udp(t, guestOf(1), "10.31.200.1:"+c.port)
		send(t, guest, c.to, "guest")
		text, from := hear(t, at)
		if text != "guest" || from.Port() < 1024 || from.Port() >= 32768 {
			t.Errorf("%s port: the guest's packet came as %q from %s, wanted a port that is nobody's", c.from, text, from)
		}
		send(t, at, from.String(), "answer")
		if text, _ := hear(t, guest); text != "answer" {
			t.Errorf("%s port: the guest hears %q, wanted its answer", c.from, text)
		}
		guest.Close()
	}
	send(t, third, "192.0.2.1:51820", "to WireGuard")
	if text, from := hear(t, wireGuard); text != "to WireGuard" || from.String() != "192.0.2.3:51820" {
		t.Errorf("WireGuard hears %q from %s", text, from)
	}
	send(t, stranger, "192.0.2.1:443", "to the service")
	if text, _ := hear(t, service); text != "to the service" {
		t.Errorf("the service hears %q", text)
	}
	send(t, third, "192.0.2.1:32772", "to be relayed")
	text, from := hear(t, fourth)
	if text != "to be relayed" || from.String() != "192.0.2.1:32771" {
		t.Fatalf("the other member hears %q from %s", text, from)
	}
	send(t, fourth, from.String(), "relayed answer")
	if text, from := hear(t, third); text != "relayed answer" || from.String() != "192.0.2.1:32772" {
		t.Errorf("the first member hears %q from %s", text, from)
	}
	// Other ports stay: by them guests meet others behind NATs.
	send(t, udp(t, guestOf(1), "10.31.200.1:50000"), "198.51.100.1:51820", "as before")
	if text, from := hear(t, stranger); text != "as before" || from.Port() != 50000 {
		t.Errorf("port 50000 came as %q from %s", text, from)
	}
}

// TestWireGuardIsUntracked: WireGuard's own packets make no entry that could be
// taken or that would fill the table.
func TestWireGuardIsUntracked(t *testing.T) {
	if !world(t) {
		return
	}
	wireGuard, third := udp(t, gateway(1), "192.0.2.1:51820"), udp(t, outside, "192.0.2.3:51820")
	send(t, wireGuard, "192.0.2.3:51820", "out")
	send(t, third, "192.0.2.1:51820", "in")
	if text, _ := hear(t, wireGuard); text != "in" {
		t.Errorf("WireGuard hears %q", text)
	}
	if text, from := hear(t, third); text != "out" || from.Port() != 51820 {
		t.Errorf("the peer hears %q from %s", text, from)
	}
	send(t, udp(t, guestOf(1), "10.31.200.1:9"), "192.0.2.3:51820", "guest")
	if entries := sh(t, gateway(1), "conntrack -L -p udp 2>/dev/null | grep -c '' || true"); entries != "1" {
		t.Errorf("%s entries of UDP, wanted the guest's alone", entries)
	}
}

// TestBehindAHost: a service on an intrawire address can tell another host from
// what stands behind that host, whose gateway's address it sees.
func TestBehindAHost(t *testing.T) {
	if !world(t) {
		return
	}
	const service = "10.30.0.2:80"
	serve(t, hostOf(2), service)
	at := udp(t, hostOf(2), "10.30.0.2:9")
	check := func(when, ofHost, ofGuest string) {
		t.Helper()
		if got := ask(hostOf(1), service); got != ofHost {
			t.Errorf("%s: a host comes as %q, wanted %q", when, got, ofHost)
		}
		if got := ask(guestOf(1), service); got != ofGuest {
			t.Errorf("%s: a guest comes as %q, wanted %q", when, got, ofGuest)
		}
	}
	check("both know the mark", "10.30.0.1", "10.31.0.1")
	// The host is what it is, whatever it writes into its packets; and so is the guest.
	for ns, want := range map[string]string{hostOf(1): "10.30.0.1", guestOf(1): "10.31.0.1"} {
		for _, dscp := range []int{0x2b, 0, 46} {
			sh(t, ns, fmt.Sprintf("printf x | python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 1, %d); s.sendto(b'x', ('10.30.0.2', 9))\"", dscp<<2))
			if text, from := hear(t, at); text != "x" || from.Addr().String() != want {
				t.Errorf("%s with DSCP %d comes as %q from %s, wanted %s", ns, dscp, text, from, want)
			}
		}
	}
	// A client of host 1: here it sits beside host 2's gateway.
	sh(t, gateway(2), `ip addr add 10.30.128.1/32 dev lo; ip rule add from 10.30.128.1 lookup 77; ip route add 10.30.0.2 dev mo-wg-gw table 77
nft 'table ip client { chain out { type filter hook output priority raw; ip saddr 10.30.128.1 notrack; }; }'`)
	client := udp(t, gateway(2), "10.30.128.1:9")
	send(t, client, "10.30.0.2:9", "client")
	text, from := hear(t, at)
	if text != "client" || from.Addr().String() != "10.31.0.1" {
		t.Errorf("a client comes as %q from %s, wanted 10.31.0.1", text, from)
	}
	// Hosts are upgraded one by one.
	without := func(id uint16, rule string) {
		text := Render(firewallOf(id), plenty)
		var lines []string
		for _, line := range strings.Split(text, "\n") {
			if !strings.Contains(line, rule) {
				lines = append(lines, line)
			}
		}
		if err := New(gateway(id), t.TempDir()).load(context.Background(), strings.Join(lines, "\n")); err != nil {
			t.Fatal(err)
		}
	}
	without(1, "dscp set")
	check("only the receiver knows the mark", "10.30.0.1", "10.30.0.1")
	without(1, "no such rule")
	without(2, "snat ip prefix")
	check("only the sender knows the mark", "10.30.0.1", "10.30.0.1")
}

// TestGuestFillsNoTable: one guest has at most so many connections at a time, and
// asks for at most so many addresses that nobody has; another one, and the host,
// notice nothing. Addresses that it invents help it nothing.
func TestGuestFillsNoTable(t *testing.T) {
	if !world(t) {
		return
	}
	serve(t, outside, "198.51.100.1:80")
	netnstest.Namespace(t, "other")
	sh(t, gateway(1), "ip link add port2 type veth peer name eth0 netns other; ip link set port2 master ovsbr-mobula up")
	sh(t, "other", "ip link set eth0 up; ip addr add 10.31.200.77/16 dev eth0; ip route add default via 10.31.0.1")
	entries := func() int {
		n, err := strconv.Atoi(sh(t, gateway(1), "conntrack -C"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sh(t, gateway(1), "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600") // however long this takes
	sh(t, guestOf(1), "for n in $(seq 1 5); do ip addr add 10.31.201.$n/32 dev eth0; done")
	sh(t, guestOf(1), `python3 -c "
import socket
for n in range(1, 6):
    for port in range(2000, 2500):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(('10.31.201.%d' % n, port)); s.sendto(b'x', ('198.51.100.1', 7))
        s.close()
"`)
	if n := entries(); n < maxConnections || n > maxConnections+20 {
		t.Errorf("a guest that began 2500 connections has %d, wanted %d", n, maxConnections)
	}
	if got := askFor(guestOf(1), "198.51.100.1:80", quiet); got != "" {
		t.Errorf("it gets another one, and is answered %q", got)
	}
	for _, ns := range []string{"other", hostOf(1)} {
		if got := ask(ns, "198.51.100.1:80"); got == "" {
			t.Errorf("%s gets no connection", ns)
		}
	}
	began := time.Now()
	sh(t, "other", `ip route add 10.31.77.0/24 via 10.31.0.1; python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(1, 255): s.sendto(b'x', ('10.31.77.%d' % n, 7))
"`)
	may := 101 + int(20*time.Since(began).Seconds())
	if n, err := strconv.Atoi(sh(t, gateway(1), "ip neigh show dev ovsbr-mobula | grep -c '^10.31.77.'")); err != nil || n > may {
		t.Errorf("%d neighbors were looked for that nobody is, wanted at most %d", n, may)
	}
	if got := ask("other", "198.51.100.1:80"); got == "" {
		t.Error("it gets no connection to the outside any more")
	}
	// Many connections to one address are no many addresses.
	sh(t, "other", "ip route add 10.31.201.1 via 10.31.0.1; sleep 0.3")
	at := udp(t, guestOf(1), "10.31.201.1:7")
	for i := 0; i < 150; i++ {
		send(t, udp(t, "other", "10.31.200.77:0"), "10.31.201.1:7", "x")
	}
	for heard := 0; heard < 150; heard++ {
		if text, _ := hear(t, at); text == "" {
			t.Fatalf("of 150 connections to one address %d passed", heard)
		}
	}
	f := New(gateway(1), t.TempDir())
	refused, err := f.Refused(context.Background())
	if err != nil || len(refused) != 2 || refused[0].Packets < 400 || refused[1].Packets < 1 {
		t.Errorf("counted %+v (%v), wanted both kinds", refused, err)
	}
	// What packets put into sets is no change of the rules.
	if listing, err := f.list(context.Background()); err != nil || strings.Count(listing, "elements = {") != 3 {
		t.Errorf("%v, %s", err, listing)
	}
}
