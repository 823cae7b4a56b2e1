//go:build lab

package scenarios

import (
	"strings"
	"testing"
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
	// An address from DHCP, and somebody else's bridge with our subnet.
	w.inventory(t)
	w.on(t, "alice", "ip addr change 192.0.2.1/24 dev ens3 valid_lft 3600 preferred_lft 3600")
	w.on(t, "bob", "ip link add br-other type bridge; ip addr add 10.31.5.1/24 dev br-other")
	out, err = w.play(t, "deploy.yml")
	for _, want := range []string{"found address 192.0.2.1/24 from DHCP", "br-other: found address 10.31.5.1/24"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("error %v, wanted one that says %q\n%s", err, want, out)
		}
	}
	w.on(t, "alice", "ip addr change 192.0.2.1/24 dev ens3 valid_lft forever preferred_lft forever")
	w.on(t, "bob", "ip link del br-other")
	// Not root.
	w.extra["carol"] = "      ansible_user: ops\n      ansible_become: false\n"
	w.inventory(t)
	if out, err = w.play(t, "deploy.yml", "--limit", "192.0.2.3"); err == nil || !strings.Contains(out, "wanted root (0)") {
		t.Errorf("not root: error %v\n%s", err, out)
	}
	delete(w.extra, "carol")
	w.inventory(t)
	w.on(t, "alice", "rm -f /usr/local/sbin/mobula")
	if now := w.on(t, "alice", fingerprint); now != untouched {
		t.Errorf("something was touched: %s", difference(untouched, now))
	}
}
