//go:build lab

package scenarios

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// badInput: each row stops the playbook before any host is touched. All rows of
// the list are in the tests of package inventory; here is one of each source,
// all at once, through the playbook.
func badInput(t *testing.T, w *world) {
	untouched := w.on(t, "alice", fingerprint)
	good := w.Inventory(w.members()...)
	bad := strings.Replace(good, "host_id: 2\n", "host_id: 1\n", 1)
	bad = strings.Replace(bad, "hostname: 'carol.example.com'", "hostname: 'carol'\n      host_ip: 192.0.2.3", 1)
	w.write(t, "hosts.yml", bad)
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.32.0.1: 'nas.example.com'\n  10.31.0.9: 'alice.example.com'\n")
	w.write(t, "extra_wires.yml", "extra_wires:\n  10.30.128.1/24: 'short'\n")
	out, err := w.play(t, "deploy.yml")
	if err == nil {
		t.Error("bad input was accepted")
	}
	for _, want := range []string{
		"hosts.yml:7: 192.0.2.2: host_id: found 1, which 192.0.2.1 has, wanted",
		"hosts.yml:11: 192.0.2.3: hostname: found", "host_ip",
		"extra_hosts.yml:2:", "extra_hosts.yml:3:", "alice.example.com", "extra_wires.yml:2:",
		"nothing was changed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the message lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	w.write(t, "extra_hosts.yml", "")
	w.write(t, "extra_wires.yml", "")
	w.write(t, "hosts.yml", "all:\n  hosts:\n    192.0.2.1:\n      host_id: 1\n     hostname: x\n")
	if out, err = w.play(t, "deploy.yml"); err == nil || !strings.Contains(out, "hosts.yml:5") {
		t.Errorf("YAML that does not parse: error %v\n%s", err, out)
	}
	unfit(t, w)
	// Not root.
	w.extra["carol"] = "      ansible_user: ops\n      ansible_become: false\n"
	w.inventory(t)
	if out, err = w.play(t, "deploy.yml", "--limit", "192.0.2.3"); err == nil || !strings.Contains(out, "wanted root (0)") {
		t.Errorf("not root: error %v\n%s", err, out)
	}
	delete(w.extra, "carol")
	w.inventory(t)
	w.on(t, "alice", "rm -rf /usr/local/sbin/mobula /usr/local/lib/mobula")
	if now := w.on(t, "alice", fingerprint); now != untouched {
		t.Errorf("something was touched: %s", difference(untouched, now))
	}
}

// unfit: bare hosts on which Mobula cannot work, and what would no longer be
// reachable there, are told by --check already, in one run.
func unfit(t *testing.T, w *world) {
	w.extra["alice"] = "      publish: [8091]\n"
	w.inventory(t)
	// An address from DHCP, and services: at the NIC's address, not published, published.
	w.on(t, "alice", `ip addr change 192.0.2.1/24 dev `+lab.NIC+` valid_lft 3600 preferred_lft 3600
for at in 192.0.2.1:8089 0.0.0.0:8090 0.0.0.0:8091; do
	systemd-run --quiet --collect --unit lab-at-${at#*:} python3 -m http.server ${at#*:} --bind ${at%:*} --directory /etc/ssh
done`)
	// Somebody else's bridge with our subnet, and his WireGuard at our port.
	w.on(t, "bob", "ip link add br-other type bridge; ip addr add 10.31.5.1/24 dev br-other; ip link add wg-other type wireguard; ip link set wg-other up")
	port := w.on(t, "bob", "wg show wg-other listen-port")
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	w.extra["bob"] = fmt.Sprintf("      wireguard_port: %d\n", number)
	w.inventory(t)
	w.on(t, "carol", "cp /etc/resolv.conf /root/; echo nameserver 127.0.0.1 >/etc/resolv.conf; chattr +i /etc/resolv.conf")
	eventually(t, 20*time.Second, "alice's services", func() error {
		_, err := w.Host("alice").Run(w.ctx, "grep -q :1F99 /proc/net/tcp && grep -q :1F9A /proc/net/tcp && grep -q :1F9B /proc/net/tcp")
		return err
	})
	out, err := w.play(t, "deploy.yml", "--check")
	for _, want := range []string{
		"found address 192.0.2.1/24 from DHCP", "tcp 192.0.2.1:8089 (python3)", "because not in publish: tcp/8090 (python3)",
		"br-other: found address 10.31.5.1/24", fmt.Sprintf("wireguard_port: found UDP port %d in use by the WireGuard interface wg-other", number),
		"/etc/resolv.conf: found it immutable (chattr +i)", "found only 127.0.0.1 in /etc/resolv.conf", "set upstream_dns",
	} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("error %v, wanted one that says %q", err, want)
		}
	}
	if strings.Contains(out, "tcp/8091") {
		t.Error("it warns of a port that is published")
	}
	if t.Failed() {
		t.Log(out)
	}
	w.on(t, "alice", "systemctl stop 'lab-at-*'; ip addr change 192.0.2.1/24 dev "+lab.NIC+" valid_lft forever preferred_lft forever")
	w.on(t, "bob", "ip link del br-other; ip link del wg-other; rmmod wireguard || true")
	w.on(t, "carol", "chattr -i /etc/resolv.conf; cp /root/resolv.conf /etc/; rm /root/resolv.conf")
	delete(w.extra, "alice")
	delete(w.extra, "bob")
	w.inventory(t)
}
