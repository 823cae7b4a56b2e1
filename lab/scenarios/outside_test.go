//go:build lab

package scenarios

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// published are the ports of alice that outside finds, from the fresh deploy on.
const published = "      publish: [8080, 'udp/8053']\n"

// outside: of 65535 ports of the public address, TCP and UDP, a stranger finds
// SSH and what is published, and is never answered by WireGuard, a relay or the
// nameserver. Inside addresses lead nowhere.
func outside(t *testing.T, w *world) {
	w.on(t, "alice", "cat >/run/lab-listen.py <<'P'\n"+listeners+"\nP\nsystemd-run --quiet --collect --unit lab-listen python3 /run/lab-listen.py")
	defer w.on(t, "alice", "systemctl stop lab-listen; rm /run/lab-listen.py; ip netns exec mobula nft delete table inet lab")
	// What a stranger sends with an inside source, or to an inside address.
	router := strings.TrimSuffix(w.OutsideNamespace(), "outside") + "router"
	route := func(verb string) {
		for namespace, via := range map[string]string{w.OutsideNamespace(): "198.51.100.254", router: "192.0.2.1"} {
			if out, err := lab.Command(w.ctx, namespace, "ip", "route", verb, "10.30.0.0/15", "via", via).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	route("add")
	defer route("del")
	w.on(t, "alice", `ip netns exec mobula nft -f - <<'N'
table inet lab {
	chain in { type filter hook prerouting priority -400; iifname mo-ext-gw udp dport 53 @th,64,16 0x7767 counter comment "came"; }
	chain passed { type filter hook input priority 10; iifname mo-ext-gw udp dport 53 counter comment "passed"; }
}
N
for i in 1 2 3 4 5 6 7 8 9 10; do ss -ltn | grep -q :8081 && break; sleep 0.3; done`)
	packets := func() int {
		n, err := strconv.Atoi(w.on(t, "alice", "ip netns exec mobula cat /sys/class/net/ens3/statistics/rx_packets"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var out string
	// An emulated NIC drops what comes too fast, and a port that was not asked proves nothing.
	for rate, whole := 3000, false; !whole; rate /= 2 {
		before, began := packets(), time.Now()
		var err error
		if out, err = w.Outside(w.ctx, "python3", "-c", scan, strconv.Itoa(rate)); err != nil {
			t.Fatal(err)
		}
		came := packets() - before
		whole = came >= 2*65535
		t.Logf("scan of %.1f s, %d packets came: %s", time.Since(began).Seconds(), came, out)
		if !whole && rate < 1000 {
			t.Fatalf("alice received %d packets of the scan, wanted at least %d", came, 2*65535)
		}
	}
	var found struct {
		TCPOpen    []int    `json:"tcp_open"`
		TCPRefused []int    `json:"tcp_refused"`
		UDP        []int    `json:"udp_answers"`
		ICMP       []string `json:"icmp"`
		Inside     []string `json:"inside"`
	}
	mustJSON(t, out, &found)
	if got := fmt.Sprint(found.TCPOpen, found.TCPRefused, found.UDP, found.ICMP, found.Inside); got != "[22 8080] [] [8053] [] []" {
		t.Errorf("open, refused, UDP, ICMP, inside: found %s, wanted [22 8080] [] [8053] [] []", got)
	}
	after := w.on(t, "alice", "ip netns exec mobula nft list table inet lab")
	if !regexp.MustCompile(`packets [1-9]\d* bytes \d+ comment "came"`).MatchString(after) || !regexp.MustCompile(`packets 0 bytes 0 comment "passed"`).MatchString(after) {
		t.Errorf("DNS from outside, with its own and with forged addresses, wanted to come and not to pass:\n%s", after)
	}
	queries, err := w.Queries()
	if err != nil || strings.Contains(queries, "stranger.example.net") {
		t.Errorf("a stranger's question was passed on (%v)", err)
	}
}

// container: what a published port leads to may be a container, as Docker makes it
// one, and the container gets out; also where Docker and ufw drop all that they were not
// told to let pass.
func container(t *testing.T, w *world) {
	forwards := w.on(t, "alice", "sysctl -n net.ipv4.ip_forward")
	w.on(t, "alice", startContainer)
	defer w.on(t, "alice", "systemctl stop lab-container; nft delete table ip lab; ip netns delete lab-box; sysctl -qw net.ipv4.ip_forward="+forwards)
	out, err := w.Outside(w.ctx, "python3", "-c", "import urllib.request; print(urllib.request.urlopen('http://192.0.2.1:8080', timeout=30).status)")
	if err != nil || strings.TrimSpace(out) != "200" {
		t.Errorf("the container answered %q (%v), wanted 200", out, err)
	}
	w.on(t, "alice", "ip netns exec lab-box ping -c 3 -W 5 198.51.100.1")
	w.Host("alice").Disconnect() // SSH still gets in, and the host still resolves names
	w.on(t, "alice", "getent ahostsv4 "+lab.OutsideName)
}

// startContainer is what Docker does for -p 8080:80, and ufw when SSH alone is allowed.
const startContainer = `sysctl -qw net.ipv4.ip_forward=1
ip netns add lab-box
ip link add lab-box type veth peer name eth0 netns lab-box
ip addr add 172.17.0.1/16 dev lab-box
ip link set lab-box up
ip -n lab-box addr add 172.17.0.2/16 dev eth0
ip -n lab-box link set eth0 up
ip -n lab-box route add default via 172.17.0.1
nft -f - <<'N'
table ip lab {
	chain in { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80; }
	chain out { type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 oifname != "lab-box" masquerade; }
	chain forward {
		type filter hook forward priority filter; policy drop;
		oifname "lab-box" ct state { established, related } accept
		iifname "lab-box" accept
		iifname != "lab-box" oifname "lab-box" ip daddr 172.17.0.2 tcp dport 80 accept
	}
	chain input {
		type filter hook input priority filter; policy drop;
		ct state { established, related } accept
		iifname "lo" accept
		icmp type echo-request accept
		tcp dport 22 accept
	}
}
N
systemd-run --quiet --collect --unit lab-container ip netns exec lab-box python3 -m http.server 80 --directory /run/systemd
for i in $(seq 50); do ip netns exec lab-box ss -Hltn | grep -q :80 && break; sleep 0.2; done`

// listeners answers on published and on unpublished ports of alice.
const listeners = `import socket, selectors
sel = selectors.DefaultSelector()
for port in (8080, 8081):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('0.0.0.0', port)); s.listen(9); sel.register(s, 1, 'tcp')
for port in (8053, 8054):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.30.0.1', port)); sel.register(s, 1, 'udp')
while True:
    for key, _ in sel.select():
        if key.data == 'tcp': key.fileobj.accept()[0].close()
        else: key.fileobj.sendto(b'here', key.fileobj.recvfrom(2000)[1])`

// scan sends a SYN and a datagram to every port of alice's public address, as many
// ports a second as its argument says, what
// WireGuard, agents, relays and nameservers might answer to the ports where they
// are, and questions with forged and to inside addresses.
const scan = `import json, select, socket, struct, sys, time
own, dst = '198.51.100.1', '192.0.2.1'
ip = socket.inet_aton
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
tcp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind((own, 40001))
for s in (tcp, icmp, udp): s.setblocking(False); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
opened, refused, answers, errors, inside = set(), set(), set(), set(), set()
def drain(wait):
    end = time.time() + wait
    while select.select([tcp, icmp, udp], [], [], max(0, end - time.time()))[0]:
        for s in (tcp, icmp, udp):
            try: data, who = s.recvfrom(2000)
            except BlockingIOError: continue
            if who[0].startswith('10.'): inside.add(who[0])
            elif s is udp: answers.add(who[1])
            elif who[0] != dst: continue
            elif s is icmp: errors.add('type %d' % data[20])
            else:
                port, to = struct.unpack('!HH', data[20:24])
                if to == 40000: (opened if data[33] & 2 else refused).add(port)
def packet(proto, src, to, payload):
    return struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), 0, 0, 64, proto, 0, ip(src), ip(to)) + payload
def fold(n):
    while n > 0xffff: n = (n & 0xffff) + (n >> 16)
    return n
pseudo = sum(struct.unpack('!4H', ip(own) + ip(dst))) + 6 + 20 + 40000 + 0x5002 + 1024 + 0x1234
question = lambda name: struct.pack('!6H', 0x7767, 0x100, 1, 0, 0, 0) + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\0' + struct.pack('!2H', 1, 1)
began = time.time()
for port in range(1, 65536):
    raw.sendto(packet(6, own, dst, struct.pack('!HHIIHHHH', 40000, port, 0x1234, 0, 0x5002, 1024, ~fold(pseudo + port) & 0xffff, 0)), (dst, 0))
    udp.sendto(bytes(12), (dst, port))
    if port % 32 == 0: drain(max(0, began + port / int(sys.argv[1]) - time.time()))
wanted = [53, 67, 161, 500, 4789, 6081, 6254, 6255, 8054, 51820] + [32768 + n for n in (1, 2, 3, 256, 300)]
handshake, forged = b'\x01\0\0\0' + bytes(144), b'MOBU\x01\x01\0\x02\0\x01\0\x28' + bytes(28)
for data in (question('bob.example.com'), question('a.stranger.example.net'), handshake, forged, b'\x02\0\0\0' + bytes(88), b'\x04\0\0\0' + bytes(60)):
    for port in wanted: udp.sendto(data, (dst, port))
    drain(0.1)
for src, to in ((own, '10.31.0.1'), (own, '10.30.0.0'), (own, '10.30.0.1'), ('10.31.128.2', dst), ('10.31.200.7', '10.31.0.1'), ('10.30.0.2', dst), ('192.0.2.2', '10.31.0.1')):
    q = question('b.stranger.example.net')
    raw.sendto(packet(17, src, to, struct.pack('!HHHH', 40001, 53, 8 + len(q), 0) + q), (to, 0))
    if src == own: raw.sendto(packet(1, own, to, struct.pack('!BBHHH', 8, 0, 0xf7fe, 1, 0)), (to, 0))
drain(1)
print(json.dumps({'tcp_open': sorted(opened)[:20], 'tcp_refused': sorted(refused)[:20], 'udp_answers': sorted(answers)[:20], 'icmp': sorted(errors), 'inside': sorted(inside)}))`
