package firewall

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// The relay is the test's own namespace, 192.0.2.1. Behind a router are alice and bob,
// carol is on a link of its own, whose packets are shorter.
const (
	alice, bob, carol          = "198.51.100.2", "203.0.113.2", "10.9.0.3"
	toAlice, toBob, toCarol    = "192.0.2.1:32770", "192.0.2.1:32771", "192.0.2.1:32772"
	byAlice, byBob, byCarol    = "192.0.2.1:32770", "192.0.2.1:32771", "192.0.2.1:32772"
	carolsMTU, headers, fullIP = 1400, 28, 1500 // bytes
)

// relayDoorway is the relay's plan: it knows three hosts, whose WireGuards have ports of
// their own.
func relayDoorway() *spec.Doorway {
	d := &spec.Doorway{HostID: 1, Direct: spec.DirectHost, Access: spec.AccessLink, Outside: []string{"eth0", "gone0"}, Endpoint: netip.MustParseAddr("192.0.2.1")}
	for i, endpoint := range []string{alice + ":51820", bob + ":443", carol + ":51820"} {
		id := uint16(i + 2)
		d.Relays = append(d.Relays, spec.Relay{HostID: id, Port: network.RelayPort(network.Host{}, id), Endpoint: netip.MustParseAddrPort(endpoint)})
	}
	return d
}

// relayWorld builds them around a relay that forwards nothing and lets nothing in.
func relayWorld(t *testing.T) bool {
	t.Helper()
	if !netnstest.Alone(t) {
		return false
	}
	for _, ns := range []string{"router", "alice", "bob", "carol"} {
		netnstest.Namespace(t, ns)
	}
	sh(t, "", `sysctl -qw net.ipv4.ip_forward=0
ip link add eth0 type veth peer name relay netns router; ip link set eth0 up; ip addr add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254
ip link add eth1 mtu 1400 type veth peer name eth0 netns carol; ip link set eth1 up; ip addr add 10.9.0.1/24 dev eth1
nft 'table inet others { chain f { type filter hook forward priority filter; policy drop; }; chain i { type filter hook input priority filter; policy drop; }; chain c { type filter hook prerouting priority 0; ct state new accept; }; }'`)
	sh(t, "router", `sysctl -qw net.ipv4.ip_forward=1
ip link set relay up; ip addr add 192.0.2.254/24 dev relay; ip addr add 192.0.2.253/24 dev relay
for n in alice:198.51.100 bob:203.0.113; do ip link add ${n%:*} type veth peer name eth0 netns ${n%:*}; ip link set ${n%:*} up; ip addr add ${n#*:}.254/24 dev ${n%:*}; done`)
	for _, n := range [][3]string{{"alice", alice, "198.51.100.254"}, {"bob", bob, "203.0.113.254"}, {"carol", carol, "10.9.0.1"}} {
		sh(t, n[0], fmt.Sprintf("ip link set eth0 up; ip addr add %s/24 dev eth0; ip route add default via %s", n[1], n[2]))
	}
	return true
}

// relayed puts the table there and returns its hand.
func relayed(t *testing.T) *Relaying {
	t.Helper()
	r := NewRelaying(t.TempDir(), links.Onward)
	putRight(t, r, true)
	return r
}

// putRight does what differs, of which there is something or nothing, and looks again.
func putRight(t *testing.T, r *Relaying, something bool) {
	t.Helper()
	want := &spec.Host{Doorway: relayDoorway()}
	ops, err := r.Diff(context.Background(), want, want)
	if err != nil || len(ops) > 0 != something {
		t.Fatalf("found %v, %v, wanted something to do: %v", ops, err, something)
	}
	for _, op := range ops {
		if err := op.Do(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if ops, err := r.Diff(context.Background(), want, want); err != nil || len(ops) > 0 {
		t.Fatalf("once it is done: found %v, %v", ops, err)
	}
	if stale, err := r.Stale(want.Doorway); err != nil || stale || r.Unable() != "" {
		t.Fatalf("once it is done: stale %v, %v, unable %q", stale, err, r.Unable())
	}
}

// carries holds that what is sent arrives from there.
func carries(t *testing.T, when string, from, at *net.UDPConn, to, as, text string) {
	t.Helper()
	send(t, from, to, text)
	if got, by := hear(t, at); got != text || by.String() != as {
		t.Errorf("%s: found %q from %s, wanted %q from %s", when, got, by, text, as)
	}
}

// TestRelaying: each of the three reaches the others by the relay and is answered, over
// whichever interfaces, though the relay's own firewall forbids all and nothing is
// forwarded; no connection is tracked for it.
func TestRelaying(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	relayed(t)
	a, b, c := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443"), udp(t, "carol", carol+":51820")
	carries(t, "alice to bob", a, b, toBob, byAlice, "one")
	carries(t, "bob to alice", b, a, toAlice, byBob, "two")
	carries(t, "alice to carol", a, c, toCarol, byAlice, "three")
	carries(t, "carol to alice", c, a, toAlice, byCarol, "four")
	carries(t, "carol to bob", c, b, toBob, byCarol, "five")
	if got := sh(t, "", "cat /proc/net/nf_conntrack 2>/dev/null | grep -c dport=327 || true"); got != "0" && got != "" {
		t.Errorf("%s connections are tracked", got)
	}
	if got := sh(t, "", "nft list counter netdev mobula relayed"); !strings.Contains(got, "packets 5 ") {
		t.Errorf("counted %s", got)
	}
}

// TestRelayingWhole: what arrives is what was sent, with checksums that hold, whether cards
// make them or not (CHECKSUM_PARTIAL is how a machine on the same computer sends), without
// one, and in a burst that the kernel has not cut up yet.
func TestRelayingWhole(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	relayed(t)
	a, b := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443")
	big := strings.Repeat("x", 90)
	carries(t, "with a card's checksum", a, b, toBob, byAlice, big)
	withoutChecksums(t, "eth0")
	carries(t, "with one that the relay makes", a, b, toBob, byAlice, big)
	aliceRaw := rawUDP(t, "alice")
	aliceRaw.send(t, 51820, toBob, "none")
	if got, by := hear(t, b); got != "none" || by.String() != byAlice {
		t.Errorf("without a checksum: found %q from %s", got, by)
	}
	control(t, a, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 40) })
	send(t, a, toBob, big)
	for _, want := range []int{40, 40, 10} {
		if got, by := hear(t, b); len(got) != want || by.String() != byAlice {
			t.Errorf("of a burst: found %q from %s, wanted %d bytes", got, by, want)
		}
	}
}

// TestRelayingBounds: the longest packets that the way on takes pass, and longer ones,
// fragments and what has no hops left do not; each hop counts.
func TestRelayingBounds(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	relayed(t)
	a, b, c := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443"), udp(t, "carol", carol+":51820")
	ttl := func(n int) {
		control(t, a, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, n) })
	}
	for _, one := range []struct {
		what    string
		at      *net.UDPConn
		to      string
		bytes   int
		ttl     int
		arrives bool
	}{
		{"a full packet", b, toBob, fullIP - headers, 64, true},
		{"fragments", b, toBob, fullIP - headers + 1, 64, false},
		{"a full packet on the other link", c, toCarol, carolsMTU - headers, 64, true},
		{"a longer one there", c, toCarol, carolsMTU - headers + 1, 64, false},
		{"two hops, alice's router and the relay", c, toCarol, 9, 3, true},
		{"one hop", c, toCarol, 9, 2, false},
		{"one hop less than to bob", b, toBob, 9, 3, false},
	} {
		ttl(one.ttl)
		if one.bytes > fullIP-headers {
			control(t, a, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			})
		}
		send(t, a, one.to, strings.Repeat("x", one.bytes))
		most := quiet
		if one.arrives {
			most = patience
		}
		if text, _ := hearFor(t, one.at, most); (text != "") != one.arrives {
			t.Errorf("%s: arrived %v, wanted %v", one.what, text != "", one.arrives)
		}
	}
	if got := sh(t, "", "nft list counter netdev mobula stranded"); !strings.Contains(got, "packets 1 ") {
		t.Errorf("counted %s", got)
	}
}

// TestRelayingForMembersOnly: nobody but the documented endpoints is served, at no other
// address, and the host's own connections are its own, whatever ports they have.
func TestRelayingForMembersOnly(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	sh(t, "", "nft delete table inet others; ip addr add 203.0.113.77/32 dev lo")
	relayed(t)
	a, b := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443")
	sh(t, "alice", "ip addr add 198.51.100.3/24 dev eth0")
	for what, from := range map[string]*net.UDPConn{"another port of hers": udp(t, "alice", alice+":51821"), "another host": udp(t, "alice", "198.51.100.3:51820")} {
		send(t, from, toBob, "stranger")
		if text, by := hearFor(t, b, quiet); text != "" {
			t.Errorf("%s: bob hears %q from %s", what, text, by)
		}
	}
	sh(t, "router", "ip route add 203.0.113.77 via 192.0.2.1")
	own, elsewhere := udp(t, "", "192.0.2.1:32773"), udp(t, "", "203.0.113.77:32771")
	carries(t, "a port that is no relay's", a, own, "192.0.2.1:32773", alice+":51820", "own")
	carries(t, "an address that nobody knows", a, elsewhere, "203.0.113.77:32771", alice+":51820", "elsewhere")
	client, server := udp(t, "", "192.0.2.1:32771"), udp(t, "alice", alice+":53")
	carries(t, "a question of the host's", client, server, alice+":53", "192.0.2.1:32771", "question")
	carries(t, "its answer", server, client, "192.0.2.1:32771", alice+":53", "answer")
}

// TestRelayingFollowsRoutes: the table is made anew when a route, an address or an
// interface changes, and is put back when somebody takes it away; other routes are no
// reason.
func TestRelayingFollowsRoutes(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	r := relayed(t)
	a, b := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443")
	pass := func(when string) { t.Helper(); carries(t, when, a, b, toBob, byAlice, when) }
	for _, change := range []struct {
		what, script string
		something    bool
	}{
		{"a route of somebody else's", "ip route add 172.30.0.0/16 via 192.0.2.9", false},
		{"another gateway", "ip route replace default via 192.0.2.253", true},
		{"a way of bob's own", "ip route add 203.0.113.2 via 192.0.2.254", true},
		{"carol is unreachable", "ip route add unreachable 10.9.0.3", true},
		{"she is not any more", "ip route del unreachable 10.9.0.3", true},
		{"the table is gone", "nft delete table netdev mobula", true},
		{"all rules are gone", "nft flush ruleset", true},
		{"somebody's rule", "nft insert rule netdev mobula onward drop", true},
		{"carol's link is gone", "ip link del eth1", true},
		{"the NIC is another one", `ip link del eth0; ip link add eth0 type veth peer name relay netns router; ip link set eth0 up
ip netns exec router ip link set relay up; ip netns exec router ip addr add 192.0.2.254/24 dev relay
ip addr add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254`, true},
	} {
		sh(t, "", change.script)
		t.Log(change.what)
		putRight(t, r, change.something)
		pass(change.what)
	}
	sh(t, "", "ip route del default")
	want := &spec.Host{Doorway: relayDoorway()}
	ops, err := r.Diff(context.Background(), want, want)
	if err != nil || len(ops) != 1 || ops[0].Do(context.Background()) != nil || r.Unable() == "" {
		t.Errorf("without a way: found %v, %v, unable %q", ops, err, r.Unable())
	}
	if ops, err := r.Diff(context.Background(), want, want); err != nil || len(ops) > 0 {
		t.Errorf("without a way there is something to do: %v, %v", ops, err)
	}
	sh(t, "", "ip route add default via 192.0.2.254")
	putRight(t, r, true)
	pass("the way is back")
	ops, err = r.Diff(context.Background(), &spec.Host{}, want)
	if err != nil || len(ops) != 1 || ops[0].Do(context.Background()) != nil || sh(t, "", "nft list tables") != "" {
		t.Errorf("found %v, %v, left %q", ops, err, sh(t, "", "nft list tables"))
	}
}

// TestRelayingByAnyInterface: a way on that has no Ethernet, as PPP or a VPN has none, is
// one, too, and so is a way in.
func TestRelayingByAnyInterface(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	tunnel, err := unix.Open("/dev/net/tun", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tunnel)
	request, err := unix.NewIfreq("vpn0")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tunnel, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	sh(t, "", "sysctl -qw net.ipv6.conf.vpn0.disable_ipv6=1 || true; ip link set vpn0 up; ip addr add 172.16.0.1 peer 172.16.0.2 dev vpn0; ip route add 203.0.113.0/24 dev vpn0")
	relayed(t)
	a := udp(t, "alice", alice+":51820")
	send(t, a, toBob, "by a tunnel")
	packet := make([]byte, 2000)
	n, err := unix.Read(tunnel, packet)
	if err != nil || n < headers || !bytes.Equal(packet[12:24], []byte{192, 0, 2, 1, 203, 0, 113, 2, 32770 >> 8, 32770 & 0xff, 443 >> 8, 443 & 0xff}) {
		t.Fatalf("the tunnel carries %x, %v", packet[:n], err)
	}
	// Bob's answer takes the same way: addresses and ports change places.
	answer := append([]byte{}, packet[:n]...)
	copy(answer[12:16], packet[16:20])
	copy(answer[16:20], packet[12:16])
	copy(answer[20:22], packet[22:24])
	copy(answer[22:24], packet[20:22])
	if _, err := unix.Write(tunnel, answer); err != nil {
		t.Fatal(err)
	}
	if text, by := hear(t, a); text != "by a tunnel" || by.String() != byBob {
		t.Errorf("alice hears %q from %s", text, by)
	}
}

// TestRelayingOfAnAddressBehindARouter: where others know an address of a router's, each
// of the host's own serves, with the way that its rules give it.
func TestRelayingOfAnAddressBehindARouter(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	sh(t, "", `ip addr add 192.0.2.10/24 dev eth0
ip rule add from 192.0.2.10 lookup 77; ip route add default via 192.0.2.253 table 77; ip route add 192.0.2.0/24 dev eth0 table 77`)
	d := relayDoorway()
	d.Endpoint = netip.MustParseAddr("192.0.2.200")
	onward, err := links.Onward(d)
	if err != nil {
		t.Fatal(err)
	}
	text := RenderRelays(d, onward)
	for _, want := range []string{"192.0.2.1 : goto way_2, 192.0.2.10 : goto way_1", "fwd ip to 192.0.2.253 device \"eth0\"", "192.0.2.1 . 10.9.0.3 : goto way_3"} {
		if !strings.Contains(text, want) {
			t.Errorf("wanted %q in\n%s", want, text)
		}
	}
	if err := NewRelaying(t.TempDir(), links.Onward).load(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	a, b := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443")
	carries(t, "by the second address", a, b, "192.0.2.10:32771", "192.0.2.10:32770", "second")
}

// TestRelayingAmongMany: the largest networks are loaded in a moment.
func TestRelayingAmongMany(t *testing.T) {
	if !relayWorld(t) {
		return
	}
	d := relayDoorway()
	for id := uint16(10); id < 3010; id++ {
		d.Relays = append(d.Relays, spec.Relay{HostID: id, Port: 32768 + id, Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 64, byte(id >> 8), byte(id)}), 51820)})
	}
	r := NewRelaying(t.TempDir(), links.Onward)
	begun := time.Now()
	onward, err := links.Onward(d)
	looked := time.Since(begun)
	if err != nil || len(onward.Ways) != len(d.Relays) {
		t.Fatalf("found %d ways, %v", len(onward.Ways), err)
	}
	begun = time.Now()
	if err := r.load(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts: %v to look, %v to look and load %d bytes", len(d.Relays), looked, time.Since(begun), len(RenderRelays(d, onward)))
	if r.Unable() != "" {
		t.Errorf("unable: %s", r.Unable())
	}
	a, b := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443")
	carries(t, "among many", a, b, toBob, byAlice, "text")
}

// withoutChecksums has the kernel make the checksums of what leaves by an interface
// (ETHTOOL_STXCSUM).
func withoutChecksums(t *testing.T, name string) {
	t.Helper()
	const setTxChecksum = 0x17
	value := struct{ command, data uint32 }{setTxChecksum, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		t.Fatal(errno)
	}
}

// control sets something of a socket.
func control(t *testing.T, conn *net.UDPConn, set func(fd int) error) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if outer := raw.Control(func(fd uintptr) { err = set(int(fd)) }); outer != nil || err != nil {
		t.Fatal(outer, err)
	}
}
