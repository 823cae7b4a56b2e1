//go:build lab

package scenarios

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
	"mobula/templates"
)

// impostor: a guest bridged to carol's veth_fac0 tries to become alice's gateway
// and bob: in ARP, by its source MAC and by its source IP address. The others
// exchange packets undisturbed, and carol's status tells of each attempt.
func impostor(t *testing.T, w *world) {
	w.on(t, "bob", "ping -q -c 1 -W 5 10.31.0.1; ping -q -c 1 -W 5 10.31.128.1") // so that there is something to poison
	before := w.dropped(t, "carol")
	m := w.accessPackets(t, "alice", "bob")
	w.on(t, "carol", `ip link add lab-br type bridge; ip link set veth_fac0 master lab-br; ip link set lab-br up
ip netns add guest; ip link add lab-g type veth peer name eth0 netns guest; ip link set lab-g master lab-br up
ip -n guest link set eth0 mtu 1386 up; ip -n guest addr add 10.31.200.7/16 dev eth0
trap 'ip netns del guest; ip link set veth_fac0 nomaster; ip link del lab-br' EXIT
ip netns exec guest ping -q -c 2 -i 0.3 -W 5 10.31.128.1 # as itself it is welcome
ip netns exec guest python3 - <<'P'
`+attacks+"\nP\n")
	results := w.stop(t, m)
	if err := lab.Lossless(results); err != nil {
		t.Errorf("the impostor disturbed others: %v\n%s", err, lab.Table(results))
	}
	for host, want := range map[string]string{
		"bob": "10.31.0.1 lladdr 02:6d:6f:01:00:01 ", "alice": "10.31.128.2 lladdr 02:6d:6f:02:00:02 ",
	} {
		address, _, _ := strings.Cut(want, " ")
		if found := w.on(t, host, "ip neigh show "+address+" dev veth_fac0 | sed 's/ dev veth_fac0//'"); !strings.HasPrefix(found, want) {
			t.Errorf("%s knows %q, wanted %q", host, found, want)
		}
	}
	// Open vSwitch counts what its kernel has seen a moment later.
	eventually(t, 20*time.Second, "all attempts to be counted", func() (err error) {
		after := w.dropped(t, "carol")
		for claimed, frames := range map[string]int{
			"gateway address in ARP": 15, "host address in ARP": 5, "gateway MAC": 15, "host MAC": 5,
			"gateway address in IPv4": 5, "host address in IPv4": 5,
			"unreadable ARP or IP": 10, "intrawire address": 5,
		} {
			if n := after[claimed] - before[claimed]; n < frames {
				err = errors.Join(err, fmt.Errorf("status counts %d attempts on a %s, wanted at least %d", n, claimed, frames))
			}
		}
		return err
	})
	if out := w.on(t, "carol", "mobula status"); !strings.Contains(out, "  gateway address in ARP, from guest: ") {
		t.Errorf("status does not tell of the impostor:\n%s", out)
	}
}

// attacks sends five frames of each kind. Alice's gateway is 10.31.0.1, bob
// 10.31.128.2; what they are claimed by is the guest.
const attacks = `import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
own = s.getsockname()[4]
mac = lambda t: bytes.fromhex(t.replace(':', ''))
gateway, bob, every = mac('02:6d:6f:01:00:01'), mac('02:6d:6f:02:00:02'), b'\xff' * 6
ip = socket.inet_aton
def arp(op, sha, spa, tpa, hardware=1): return b'\x08\x06' + struct.pack('!HHBBH', hardware, 0x800, 6, 4, op) + sha + ip(spa) + every + ip(tpa) + bytes(18)
def udp(src, dst):
    h = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 0, 0, 64, 17, 0, ip(src), ip(dst))
    c = sum(struct.unpack('!10H', h)); c = (c & 0xffff) + (c >> 16); c = ~(c + (c >> 16)) & 0xffff
    return b'\x08\x00' + h[:10] + struct.pack('!H', c) + h[12:] + struct.pack('!HHHH', 7, 9, 8, 0) + bytes(18)
frames = [
    every + own + arp(2, own, '10.31.0.1', '10.31.0.1'),              # gratuitous reply
    bob + own + arp(2, own, '10.31.0.1', '10.31.128.2'),              # to the victim alone
    every + own + b'\x81\x00\x00\x00' + arp(1, own, '10.31.0.1', '10.31.0.1'), # priority tag
    every + own + arp(1, own, '10.31.128.2', '10.31.128.2'),          # gratuitous request
    every + own + arp(2, gateway, '10.31.200.7', '10.31.128.1'),      # another's MAC in ARP
    bob + own + arp(2, own, '10.31.0.1', '10.31.128.2', 6),           # IEEE 802: Linux takes it
    every + own + arp(1, own, '10.31.0.1', '10.31.0.1', 6),
    bob + own + udp('10.30.0.1', '10.31.128.2'),
    # From here on the guest's own bridge takes bob to be the guest.
    every + gateway + udp('10.31.200.7', '10.31.255.255'),
    every + gateway + b'\x81\x00\x00\x05' + udp('10.31.200.7', '10.31.255.255'), # in a VLAN
    every + bob + udp('10.31.200.7', '10.31.255.255'),
    every + own + udp('10.31.0.1', '10.31.255.255'),
    every + own + udp('10.31.128.2', '10.31.255.255'),
]
for frame in frames:
    for _ in range(5): s.send(frame)`

// dropped returns what a host's status says about frames with somebody else's
// address: how many guests sent, by what they claimed.
func (w *world) dropped(t *testing.T, host string) map[string]int {
	t.Helper()
	var s struct {
		Dropped []struct {
			Claimed, From string
			Frames        int
		}
	}
	mustJSON(t, w.on(t, host, "mobula status --json"), &s)
	all := map[string]int{}
	for _, d := range s.Dropped {
		if d.From == "guest" {
			all[d.Claimed] = d.Frames
		}
	}
	return all
}

// forgedMember: bob sends to carol as alice, through WireGuard and through his
// own gateway. Carol sees what he sends as himself, and nothing else.
func forgedMember(t *testing.T, w *world) {
	count := func(comment, saddr string, id int) string {
		return fmt.Sprintf("ip netns exec mobula nft 'add rule inet lab in iifname mo-wg-gw ip saddr %s icmp id %d counter comment %q'\n", saddr, id, comment)
	}
	const refused = "cat /sys/class/net/mo-wg-gw/statistics/rx_frame_errors"
	before := w.on(t, "carol", "ip netns exec mobula nft 'add table inet lab'\nip netns exec mobula nft 'add chain inet lab in { type filter hook prerouting priority -400; }'\n"+
		count("himself", "10.30.0.2", 4241)+count("inside", "10.30.0.1", 4242)+count("host", "10.30.0.1", 4243)+"ip netns exec mobula "+refused)
	send := func(from string, id int) string {
		return fmt.Sprintf(`import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
icmp = struct.pack('!BBHHH', 8, 0, 0, %[2]d, 1)
c = 0xffff - sum(struct.unpack('!4H', icmp)) %% 0xffff
icmp = struct.pack('!BBHHH', 8, 0, c, %[2]d, 1)
h = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 0, 0, 64, 1, 0, socket.inet_aton('%[1]s'), socket.inet_aton('10.30.1.0'))
for _ in range(10): s.sendto(h + icmp, ('10.30.1.0', 0))`, from, id)
	}
	w.on(t, "bob", "ip netns exec mobula python3 - <<'P'\n"+send("10.30.0.2", 4241)+"\n"+send("10.30.0.1", 4242)+"\nP\npython3 - <<'P'\n"+send("10.30.0.1", 4243)+"\nP\n")
	out := w.on(t, "carol", "sleep 1; ip netns exec mobula nft list table inet lab; ip netns exec mobula nft delete table inet lab; ip netns exec mobula "+refused)
	for comment, want := range map[string]string{"himself": "10", "inside": "0", "host": "0"} {
		m := regexp.MustCompile(`packets (\d+) bytes \d+ comment "` + comment + `"`).FindStringSubmatch(out)
		if m == nil || m[1] != want {
			t.Errorf("carol saw %v packets of bob's as %s, wanted %s", m, comment, want)
		}
	}
	was, _ := strconv.Atoi(before)
	is, err := strconv.Atoi(out[strings.LastIndex(out, "\n")+1:])
	if err != nil || is-was < 10 {
		t.Errorf("carol's WireGuard refused %d packets (%v), wanted the 10 that came with alice's address", is-was, err)
	}
}

// agentKilled: the data plane is the kernel's, so nobody misses the agent before
// systemd has started it again.
func agentKilled(t *testing.T, w *world) {
	m := w.accessPackets(t, "alice", "bob")
	w.on(t, "bob", "systemctl kill -s KILL mobula-agent")
	eventually(t, 20*time.Second, "bob's agent is back", func() error {
		if out := w.on(t, "bob", "mobula status --quick; dig +short +time=1 +tries=1 @10.31.0.2 alice.example.com || true"); strings.Contains(out, "does not answer") || !strings.Contains(out, "10.31.128.1") {
			return fmt.Errorf("found %s", out)
		}
		return nil
	})
	results := w.stop(t, m)
	if err := lab.Lossless(results); err != nil {
		t.Errorf("%v\n%s", err, lab.Table(results))
	}
	// It hears of the first packet to a host, with the privileges that it has.
	if told := w.on(t, "bob", "ping -q -c 1 -W 5 10.30.0.1 >/dev/null; ip netns exec mobula nft list set ip mobula_first_packets told; journalctl -q -u mobula-agent -o cat | grep 'next probe' || true"); !strings.Contains(told, "10.30.0.1 ") || strings.Contains(told, "next probe") {
		t.Errorf("bob's agent does not hear of packets that leave for alice: %s", told)
	}
}

// privileges: units may do no more than the bounds beside them say, and what is
// root's nobody else may read, on the hosts and on the deployer.
func privileges(t *testing.T, w *world) {
	units, err := fs.Glob(templates.FS, "systemd/*.service")
	if err != nil || len(units) != len(templates.Exposure) {
		t.Fatalf("found %d units and bounds for %d (%v)", len(units), len(templates.Exposure), err)
	}
	script := "systemd-analyze security --no-pager"
	for i, unit := range units {
		units[i] = filepath.Base(unit)
		script += " " + units[i]
	}
	out := w.on(t, "bob", script+" | grep 'Overall exposure'")
	for _, unit := range units {
		m := regexp.MustCompile(regexp.QuoteMeta(unit) + `: (\d+\.\d)`).FindStringSubmatch(out)
		if m == nil {
			t.Errorf("%s: no exposure in %s", unit, out)
			continue
		}
		found, _ := strconv.ParseFloat(m[1], 64)
		t.Logf("%-24s %s", unit, m[1])
		if found > templates.Exposure[unit] {
			t.Errorf("%s: exposure %.1f, wanted at most %.1f", unit, found, templates.Exposure[unit])
		}
	}
	for _, h := range w.members() {
		if open := w.on(t, h.Name, `find /var/lib/mobula /run/mobula ! -type l -perm /077 -printf '%M %p\n'
find /usr/local/sbin/mobula /usr/local/lib/mobula /etc/systemd /etc/NetworkManager -name '*mobula*' ! -type l -perm /022 -printf '%M %p\n' 2>/dev/null || true
find /var/lib/mobula /run/mobula /usr/local/sbin/mobula /usr/local/lib/mobula ! -user root -printf '%u %p\n'`); open != "" {
			t.Errorf("%s: open to others than root:\n%s", h.Name, open)
		}
	}
	for name, bad := range map[string]fs.FileMode{".build": 0o077, ".build/network.json": 0o077, "wireguard_pubkeys.yml": 0o022, "mobula_state.yml": 0o022} {
		info, err := os.Stat(filepath.Join(w.dir, name))
		if err != nil || info.Mode()&bad != 0 {
			t.Errorf("%s: found mode %v (%v), wanted none of %v", name, info.Mode(), err, bad)
		}
	}
}

// sampler keeps what processes are called while a deploy runs.
const sampler = "systemd-run --quiet --collect --unit lab-sampler bash -c 'while sleep 1; do cat /proc/[0-9]*/cmdline; done >/run/lab-cmdlines 2>/dev/null'"

// secrets: no private key leaves its file, whatever is logged how loudly. The
// deploy looked at is the first one, which made the keys.
func secrets(t *testing.T, w *world) {
	var all []string
	for _, h := range w.members() {
		keys := strings.Fields(w.on(t, h.Name, "cat /var/lib/mobula/keys/*.key; ip netns exec mobula wg show all preshared-keys | awk '$3 != \"(none)\" {print $3}'"))
		for _, key := range keys {
			raw, err := base64.StdEncoding.DecodeString(key)
			if err != nil || len(raw) != 32 {
				t.Fatalf("%s: a key of %d bytes (%v)", h.Name, len(raw), err)
			}
			all = append(all, strings.TrimRight(key, "="), base64.RawURLEncoding.EncodeToString(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)))
		}
	}
	if out := w.said.String(); !strings.Contains(out, "Using module file") && !strings.Contains(out, "ESTABLISH SSH CONNECTION") {
		t.Error("-vvv is not as loud as it should be")
	}
	leaks := func(where, text string) {
		for _, secret := range all {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in %s", where)
			}
		}
	}
	leaks("Ansible's output", w.said.String())
	folders := []string{w.dir}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, ".ansible"))
	}
	files := 0
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				data, _ := os.ReadFile(path)
				leaks(path, string(data))
				files++
			}
			return nil
		})
	}
	t.Logf("%d spellings of secrets are neither in %d bytes of output nor in %d files of the deployer", len(all), w.said.Len(), files)
	for _, h := range w.members() {
		found := w.on(t, h.Name, searchHost)
		lines := strings.Split(found, "\n")
		for _, line := range lines {
			if !strings.HasPrefix(line, "key file") && !strings.HasPrefix(line, "searched") {
				t.Errorf("%s: a secret is in %s", h.Name, line)
			}
		}
		// The search itself works: it finds the keys where they belong.
		if !strings.Contains(found, "key file 1\n") {
			t.Errorf("%s: %s", h.Name, found)
		}
		t.Logf("%s: %s", h.Name, lines[len(lines)-1])
	}
}

// searchHost looks for a host's private keys in all that is logged, runs or is
// kept outside their files.
const searchHost = `systemctl stop lab-sampler
umask 077; p=/run/lab-patterns
for f in /var/lib/mobula/keys/*.key; do
	sed 's/=*$//' $f; hex=$(base64 -d <$f | od -An -v -tx1 | tr -d ' \n'); echo $hex; echo $hex | tr a-f A-F
done >$p
echo "key file $(grep -rlF -f $p /var/lib/mobula/keys | wc -l)"
journalctl --no-pager -o export >/run/lab-journal
for f in /run/lab-journal /run/lab-cmdlines; do grep -aqF -f $p $f && echo $f; done
grep -alF -f $p /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true
grep -arlF -f $p /etc /root /home /tmp /var/tmp /var/log /run/mobula /run/systemd /var/lib/mobula/*.json 2>/dev/null || true
echo "searched $(grep -ac mobula /run/lab-journal) lines of the journal about mobula, $(tr '\0' '\n' </run/lab-cmdlines | grep -ac mobula) command lines"
rm -f /run/lab-journal /run/lab-cmdlines $p`
