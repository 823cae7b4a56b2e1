//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// otherHosts is what must hold on hosts that are not like those of the scenarios: grace
// has NetworkManager (Debian 13). Erin keeps her NIC, with an address by DHCP,
// systemd-resolved and a firewall of her own (ufw), which drops what nobody allowed. Heidi
// keeps hers, too: a bridge over a bond of two, and runs Docker, which drops what is forwarded.
var otherHosts = []step{
	{"deploy beside NetworkManager", deployBesideNM},
	{"the NIC stays", nicStays},
	{"names where the NIC stays", namesWhereTheNICStays},
	{"a guest of a host that keeps its NIC", guestThrough},
	{"beside Docker, on a bridge over a bond", besideDocker},
	{"another address of the NIC", anotherAddress},
	{"the NIC comes back beside NetworkManager", modesBesideNM},
	{"other hosts after a reboot", rebootOthers},
	{"other hosts as they were", uninstallOthers},
	{"hosts with all kinds of links", kindsOfLinks}, // in namespaces, and so none of NetworkManager's business
}

// TestOtherHosts has a lab of its own: this is about what happens on each host.
func TestOtherHosts(t *testing.T) {
	var specs []lab.HostSpec
	for _, spec := range lab.DefaultHosts() {
		switch spec.Name {
		case "grace", "heidi":
			specs = append(specs, spec)
		case "erin":
			spec.DHCP, spec.Resolved = true, true
			specs = append(specs, spec)
		}
	}
	w := startWith(t, specs)
	w.on(t, "grace", manageAll)
	w.on(t, "erin", useUFW)
	w.on(t, "heidi", useDocker)
	for _, h := range w.members() {
		before[h.Name] = w.on(t, h.Name, fingerprint)
	}
	for _, name := range sharing {
		beforeShared[name] = w.on(t, name, allOfShared)
		delete(w.modes, name) // they are new
		w.extra[name] = "      open_firewall: true\n"
	}
	beforeNames = w.on(t, "erin", ownNames)
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n")
	w.inventory(t)
	w.all(t, otherHosts)
}

// manageAll has NetworkManager take all new links, veths among them, which Debian's udev
// rules keep from it.
const manageAll = `cat >/etc/NetworkManager/conf.d/99-administrator.conf <<'.'
[device-all]
match-device=*
managed=1
.
systemctl reload NetworkManager
for i in $(seq 60); do grep -qs ^nameserver /etc/resolv.conf && break; sleep 1; done`

func deployBesideNM(t *testing.T, w *world) {
	undisturbed := onTheNICs(t, w)
	w.deploy(t)
	undisturbed()
	holdsBesideNM(t, w)
	for host, r := range w.deploy(t) {
		if r.changed != 0 {
			t.Errorf("%s: changed=%d after a second deploy, wanted 0", host, r.changed)
		}
	}
}

// holdsBesideNM: the way outside works, the host's own programs resolve names, private
// ones and others, and NetworkManager leaves alone what is ours.
func holdsBesideNM(t *testing.T, w *world) {
	t.Helper()
	if s := w.status(t, "grace"); len(s.Differences) > 0 || s.Waiting != "" {
		t.Errorf("grace: %+v", s)
	}
	for _, c := range []struct{ name, want string }{{"nas.example.com", "10.31.0.254"}, {lab.OutsideName, lab.OutsideAddress}} {
		eventually(t, 30*time.Second, c.name, func() error {
			if found := w.on(t, "grace", "getent ahostsv4 "+c.name+" || true"); !strings.HasPrefix(found, c.want+" ") {
				return fmt.Errorf("found %q, wanted %s", found, c.want)
			}
			return nil
		})
	}
	w.on(t, "grace", "ping -q -c 2 -W 5 "+lab.OutsideAddress+"; ping -q -c 2 -W 5 10.31.1.145")
	if taken := w.on(t, "grace", "nmcli -t -f DEVICE,STATE device | grep -vE ':unmanaged$|^lo:' || true"); taken != "" {
		t.Errorf("NetworkManager has taken %s", taken)
	}
}

func rebootOthers(t *testing.T, w *world) {
	if err := w.each(w.members(), func(h *lab.Host) error { return h.Reboot(w.ctx) }); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.members() {
		comeBack(t, w, h.Name)
	}
	holdsBesideNM(t, w)
	nicStays(t, w)
	namesByResolved(t, w, "after a reboot")
	holdsBesideDocker(t, w)
}

// uninstallOthers: the hosts are as they were.
func uninstallOthers(t *testing.T, w *world) {
	undisturbed := onTheNICs(t, w)
	if out, err := w.play(t, "playbooks/uninstall.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	undisturbed()
	eventually(t, time.Minute, "grace as it was", func() error {
		if _, err := w.Host("grace").Run(w.ctx, "nmcli -t -f DEVICE,STATE device | grep -x ens3:connected"); err != nil {
			return fmt.Errorf("NetworkManager does not have the NIC: %w", err)
		}
		if now := w.on(t, "grace", fingerprint); now != before["grace"] {
			return fmt.Errorf("%s", difference(before["grace"], now))
		}
		return nil
	})
	w.on(t, "grace", "ping -q -c 1 -W 5 "+lab.OutsideAddress+"; getent ahostsv4 "+lab.OutsideName)
	for _, name := range sharing {
		if now := w.on(t, name, fingerprint); now != before[name] {
			t.Errorf("%s is not as it was: %s", name, difference(before[name], now))
		}
		if now := w.on(t, name, allOfShared); now != beforeShared[name] {
			t.Errorf("the network of %s is not as it was: %s", name, difference(beforeShared[name], now))
		}
	}
	if now := w.on(t, "erin", ownNames); now != beforeNames {
		t.Errorf("erin's resolver is not as it was: %s", difference(beforeNames, now))
	}
}
