//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// reachability: every pair, on every network.
func reachability(t *testing.T, w *world) {
	everyPair(t, w)
	// No NAT between hosts: the sender's own intrawire address arrives.
	w.on(t, "bob", "systemd-run --quiet --collect --unit lab-who timeout 60 tcpdump -ni mo-dir-hs -c 1 -w /tmp/who.pcap icmp[icmptype]=icmp-echo; sleep 2")
	w.on(t, "alice", "ping -q -c 3 10.30.0.2")
	if seen := w.on(t, "bob", "tcpdump -nr /tmp/who.pcap 2>/dev/null"); !strings.Contains(seen, "10.30.0.1 > 10.30.0.2") {
		t.Errorf("bob sees %q, wanted 10.30.0.1", seen)
	}
	// One hop between every pair on the access network: the TTL is untouched.
	if out := w.on(t, "alice", "ping -c 1 10.31.128.2"); !strings.Contains(out, "ttl=64") {
		t.Errorf("not one hop on the access network: %s", out)
	}
}

// everyPair pings on all networks and by name, and asks a service.
func everyPair(t *testing.T, w *world) {
	t.Helper()
	err := w.each(w.members(), func(from *lab.Host) error {
		var script strings.Builder
		for _, to := range w.members() {
			if to == from {
				continue
			}
			for _, address := range []string{to.IntrawireAddress(), to.GatewayAddress(), to.AccessAddress(), to.FQDN()} {
				fmt.Fprintf(&script, "ping -q -c 2 -i 0.3 -W 5 %s >/dev/null || echo %s; ", address, address)
			}
			// A service bound to the intrawire address sees who really asks.
			fmt.Fprintf(&script, "ssh-keyscan -T 10 %s 2>/dev/null | grep -q ssh- || echo ssh %[1]s; ", to.IntrawireAddress())
		}
		script.WriteString("ping -q -c 2 -W 5 198.51.100.1 >/dev/null || echo outside")
		missing, err := from.Run(w.ctx, script.String())
		if err == nil && missing != "" {
			err = fmt.Errorf("%s does not reach %s", from.Name, strings.ReplaceAll(missing, "\n", ", "))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func dns(t *testing.T, w *world) {
	for _, c := range []struct{ question, want string }{
		{"bob.example.com A", "10.31.128.2"},
		{"BOB.Example.COM A", "10.31.128.2"},
		{"alice.example.com A", "10.31.128.1"},
		{"nas.example.com A", "10.31.0.254"},
		{"-x 10.31.128.2", "bob.example.com."},
		{"-x 10.31.0.254", "nas.example.com."},
		{"bob.example.com AAAA", ""},
		{"bob.example.com MX", ""},
		{"outside.example.net A", "198.51.100.1"},
		{"+tcp bob.example.com A", "10.31.128.2"},
		{"+tcp outside.example.net A", "198.51.100.1"},
		{"alias.example.net A", "outside.example.net.\n198.51.100.1"},
	} {
		eventually(t, 30*time.Second, c.question, func() error {
			if got := w.on(t, "alice", "dig +short +time=3 @10.31.0.1 "+c.question); got != c.want {
				return fmt.Errorf("found %q, wanted %q", got, c.want)
			}
			return nil
		})
	}
	if status := w.on(t, "alice", "dig +time=3 @10.31.0.2 bob.example.com MX | grep status:"); !strings.Contains(status, "NOERROR") {
		t.Errorf("a type that is not there: %s, wanted NOERROR", status)
	}
	queries, err := w.Queries()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.ToLower(queries), "bob.example.com") {
		t.Error("a private name was forwarded")
	}
	// The cache: the same question again does not leave.
	n := strings.Count(queries, "outside.example.net")
	w.on(t, "alice", "dig +short @10.31.0.1 outside.example.net; dig +short @10.31.0.1 outside.example.net")
	if queries, _ = w.Queries(); strings.Count(queries, "outside.example.net") != n {
		t.Error("a cached name was forwarded again")
	}
	if out, err := w.Outside(w.ctx, "dig", "+short", "+time=2", "+tries=1", "@192.0.2.1", "bob.example.com"); err == nil {
		t.Errorf("DNS answers outside: %s", out)
	}
}

// vlan: the largest frames of the access network also pass inside a VLAN, in one
// piece.
func vlan(t *testing.T, w *world) {
	setup := func(host string, n int) {
		w.on(t, host, fmt.Sprintf("ip link add link veth_fac0 name lab.7 type vlan id 7; ip link set lab.7 up; ip addr add 172.31.7.%[1]d/24 dev lab.7; ip addr add fd00:7::%[1]d/64 dev lab.7 nodad", n))
	}
	setup("alice", 1)
	setup("bob", 2)
	defer w.on(t, "alice", "ip link del lab.7")
	defer w.on(t, "bob", "ip link del lab.7")
	mtu := w.on(t, "alice", "cat /sys/class/net/lab.7/mtu")
	if mtu != "1386" {
		t.Errorf("MTU in the VLAN: %s, wanted 1386", mtu)
	}
	w.on(t, "alice", "ping -q -c 3 -W 5 -M do -s $((1386-28)) 172.31.7.2")
	w.on(t, "alice", "ping -q -c 3 -W 5 -M do -s $((1386-28)) 10.31.128.2")
	w.on(t, "alice", "ping -q -c 3 -W 5 -M do -s $((1386-48)) fd00:7::2") // which is looked for by multicast
	if _, err := w.Host("alice").Run(w.ctx, "ping -q -c 1 -W 2 -M do -s $((1387-28)) 172.31.7.2"); err == nil {
		t.Error("a frame that is too long passed: somewhere it was fragmented")
	}
	if frags := w.on(t, "alice", "ip netns exec mobula nstat -az IpFragCreates | awk '/IpFrag/ {print $2}'"); frags != "0" {
		t.Errorf("%s fragments were made", frags)
	}
}

// guest: a machine bridged to carol's veth_fac0 with any free address reaches all
// hosts, all gateways, and through a gateway the outside. It may use any gateway.
func guest(t *testing.T, w *world) {
	w.on(t, "carol", `ip link add lab-br type bridge; ip link set veth_fac0 master lab-br; ip link set lab-br up
ip netns add guest; ip link add lab-g type veth peer name eth0 netns guest; ip link set lab-g master lab-br up
ip -n guest link set eth0 mtu 1386 up; ip -n guest addr add 10.31.200.7/16 dev eth0; ip -n guest route add default via 10.31.0.2`)
	const leave = "ip netns del guest; ip link set veth_fac0 nomaster; ip link del lab-br"
	t.Cleanup(func() {
		if t.Failed() { // or it would be in the way of all that follows
			_, _ = w.Host("carol").Run(w.ctx, leave)
		}
	})
	in := "ip netns exec guest "
	for _, address := range []string{"10.31.128.1", "10.31.128.2", "10.31.0.1", "10.31.0.2", "10.31.1.0", "10.30.0.1", "10.30.1.0", "198.51.100.1"} {
		w.on(t, "carol", in+"ping -q -c 2 -i 0.3 -W 5 "+address)
	}
	if from := w.on(t, "carol", in+"python3 -c \"import urllib.request; print(urllib.request.urlopen('http://198.51.100.1/', timeout=10).read().decode())\""); !strings.Contains(from, "192.0.2.2") {
		t.Errorf("the outside sees the guest as %q, wanted bob's public address", from)
	}
	w.on(t, "alice", "ping -q -c 2 -W 5 10.31.200.7")
	// A service on an intrawire address sees that it is not bob who asks.
	w.on(t, "alice", "systemd-run --quiet --collect --unit lab-who timeout 60 tcpdump -ni mo-dir-hs -c 1 -w /tmp/who.pcap icmp[icmptype]=icmp-echo; sleep 2")
	w.on(t, "carol", in+"ping -q -c 3 10.30.0.1")
	if seen := w.on(t, "alice", "tcpdump -nr /tmp/who.pcap 2>/dev/null"); !strings.Contains(seen, "10.31.0.2 > 10.30.0.1") {
		t.Errorf("alice sees %q, wanted bob's gateway", seen)
	}
	// What a cloud tells a host, the host is told, and the guest is not.
	w.on(t, "bob", "ping -q -c 2 -i 0.3 -W 5 169.254.169.254")
	if _, err := w.Host("carol").Run(w.ctx, in+"ping -q -c 2 -i 0.3 -W 1 169.254.169.254"); err == nil {
		t.Error("the guest reaches the metadata of bob's cloud")
	}
	if out := w.on(t, "bob", "mobula status"); !strings.Contains(out, "packets of guests or clients were refused: host's metadata") {
		t.Errorf("status does not tell of it:\n%s", out)
	}
	if meters := w.on(t, "carol", "env OVS_RUNDIR=/run/mobula/ovs ip netns exec mobula ovs-ofctl -O OpenFlow14 dump-meters ovsbr-mobula; mobula status --json"); strings.Contains(meters, "floods_unbounded") || !strings.Contains(meters, "meter=1 pktps") {
		t.Errorf("the kernel's Open vSwitch bounds no floods:\n%s", meters)
	}
	// Any layer 2 frame passes, BPDUs of the guest's own bridges among them.
	w.on(t, "alice", "systemd-run --quiet --collect --unit lab-bpdu timeout 60 tcpdump -ni veth_fac0 -c 1 -w /tmp/bpdu.pcap ether dst 01:80:c2:00:00:00; sleep 2")
	w.on(t, "carol", in+`python3 -c "
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
for i in range(3): s.send(bytes.fromhex('0180c2000000' + '020000000007' + '0026424203') + bytes(60))"; sleep 2`)
	if seen := w.on(t, "alice", "tcpdump -nr /tmp/bpdu.pcap 2>/dev/null | wc -l"); seen != "1" {
		t.Error("a BPDU did not pass")
	}
	w.on(t, "carol", leave)
}

// conntrack: under load on the access network there is not one entry for Geneve.
func conntrack(t *testing.T, w *world) {
	w.on(t, "bob", "systemd-run --quiet --collect --unit lab-iperf iperf3 -s; sleep 2")
	defer w.on(t, "bob", "systemctl stop lab-iperf")
	w.on(t, "alice", "iperf3 -c 10.31.128.2 -t 4 -P 8 >/dev/null")
	for _, host := range []string{"alice", "bob"} {
		if found := w.on(t, host, "ip netns exec mobula conntrack -L -p udp 2>/dev/null | grep -c 'port=6254' || true"); found != "0" {
			t.Errorf("%s: %s conntrack entries for Geneve", host, found)
		}
	}
}

func newClient(t *testing.T, w *world, number int) *lab.Client {
	t.Helper()
	client, err := w.NewClient(w.ctx, number)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// connect gives a client one host as its way in.
func connect(t *testing.T, w *world, client *lab.Client, address, through string) {
	t.Helper()
	key := w.status(t, through).PublicKey
	if err := client.Connect(w.ctx, address, key, w.Host(through).Address+":51820"); err != nil {
		t.Fatal(err)
	}
}

// extrawire: a client that knows one host reaches all of them, through any.
func extrawire(t *testing.T, w *world) {
	client := w.client
	for _, through := range w.members() {
		connect(t, w, client, "10.30.128.1", through.Name)
		for _, to := range w.members() {
			for _, address := range []string{to.IntrawireAddress(), to.GatewayAddress(), to.AccessAddress()} {
				if out, err := client.Run(w.ctx, "ping", "-q", "-c", "2", "-i", "0.3", "-W", "5", address); err != nil {
					t.Errorf("through %s the client does not reach %s of %s: %s", through.Name, address, to.Name, out)
				}
			}
		}
	}
	if out, err := client.Run(w.ctx, "dig", "+short", "+time=3", "@10.31.0.1", "bob.example.com"); err != nil || strings.TrimSpace(out) != "10.31.128.2" {
		t.Errorf("DNS for the client: %q %v", out, err)
	}
}
