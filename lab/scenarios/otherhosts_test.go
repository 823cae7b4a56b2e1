//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// otherHosts is what must hold on hosts that are not like those of the scenarios, in a
// network with addresses of its own: grace has NetworkManager and firewalld (Debian 13).
// Erin keeps her NIC and is what clouds have: Debian 13 with netplan, systemd-resolved and,
// by DHCP, an address alone with a router on the link. She has a name for an endpoint, another
// uplink that counts less, and a firewall of her own (ufw), which drops what nobody allowed.
// Heidi (Debian 12) keeps hers, too: with an address by DHCP a bridge over a VLAN over a bond of
// two, behind a router that forwards a port. She has systemd-resolved, and runs Docker, which
// drops what is forwarded.
var otherHosts = []step{
	{"deploy beside NetworkManager", deployBesideNM},
	{"the NIC stays", nicStays},
	{"names where the NIC stays", namesWhereTheNICStays},
	{"a guest of a host that keeps its NIC", guestThrough},
	{"downgrade and upgrade where the NIC stays", upgradeWhereTheNICStays},
	{"one of two endpoints fails", oneOfTwoEndpoints},
	{"over IPv6", overIPv6},
	{"beside Docker, on a bridge over a VLAN over a bond", besideDocker},
	{"hosts without an endpoint", withoutEndpoints},
	{"IPv6 alone", ipv6Alone},
	{"the first endpoint counts again", firstEndpointAgain},
	{"another address of the NIC", anotherAddress},
	{"the first of two uplinks fails", firstUplinkFails},
	{"the NIC comes back beside NetworkManager", modesBesideNM},
	{"other hosts after a reboot", rebootOthers},
	{"other hosts as they were", uninstallOthers},
	{"hosts with all kinds of links", kindsOfLinks}, // in namespaces, and so none of NetworkManager's business
}

// TestOtherHosts has a lab of its own: this is about what happens on each host.
func TestOtherHosts(t *testing.T) {
	var specs []lab.HostSpec
	for _, spec := range lab.DefaultHosts() {
		spec.Wire, spec.Access = "10.98", "172.29"
		switch spec.Name {
		case "grace":
			specs = append(specs, spec)
		case "heidi":
			spec.DHCP, spec.Resolved = true, true
			specs = append(specs, spec)
		case "erin":
			spec.Debian, spec.Manager, spec.Resolved, spec.TwoUplinks = 13, "netplan", true, true
			spec.DHCP, spec.HostRoute = true, true
			specs = append(specs, spec)
		}
	}
	w := startWith(t, specs)
	w.onAll(t, map[string]string{"grace": manageAll + "\n" + useFirewalld, "erin": useUFW, "heidi": useDocker})
	before = w.fingerprints(t)
	beforeShared = w.allOfShared(t)
	for _, name := range sharing {
		delete(w.modes, name) // they are new
	}
	erin, heidi := w.Host("erin"), w.Host("heidi")
	w.extra["erin"] = erinByName
	w.extra["heidi"] = fmt.Sprintf("      open_firewall: true\n      metrics: true\n      endpoint: %s:%d\n", lab.SitePublicAddress, heidi.SitePort())
	if err := w.SetName(lab.MovingName, erin.Address); err != nil {
		t.Fatal(err)
	}
	beforeNames = w.allOfNames(t)
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  "+w.nas()+": 'nas.example.com'\n")
	w.inventory(t)
	w.all(t, otherHosts)
}

// erinByName is what hosts.yml says of erin, who is found by a name.
const erinByName = "      open_firewall: true\n      endpoint: " + lab.MovingName + "\n"

// nas is the address of a name that is no host's.
func (w *world) nas() string { return w.Hosts[0].InAccess(0, 254) }

// useFirewalld has a host refuse all but SSH, as firewalld does where nobody says more.
const useFirewalld = `systemctl enable --now firewalld; firewall-cmd --state`

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
	for _, c := range []struct{ name, want string }{{"nas.example.com", w.nas()}, {lab.OutsideName, lab.OutsideAddress}} {
		eventually(t, 30*time.Second, c.name, func() error {
			if found := w.on(t, "grace", "getent ahostsv4 "+c.name+" || true"); !strings.HasPrefix(found, c.want+" ") {
				return fmt.Errorf("found %q, wanted %s", found, c.want)
			}
			return nil
		})
	}
	w.on(t, "grace", "ping -q -c 2 -W 5 "+lab.OutsideAddress+"; ping -q -c 2 -W 5 "+w.Host("grace").GatewayAddress())
	if taken := w.on(t, "grace", "nmcli -t -f DEVICE,STATE device | grep -vE ':unmanaged$|^lo:' || true"); taken != "" {
		t.Errorf("NetworkManager has taken %s", taken)
	}
}

func rebootOthers(t *testing.T, w *world) {
	// Erin boots with a clock that is a day behind, as a board does that has no battery.
	w.on(t, "erin", "timedatectl set-time \"$(date -d '1 day ago' '+%F %T')\"") // that of the board, too
	if err := w.each(w.members(), func(h *lab.Host) error { return h.Reboot(w.ctx) }); err != nil {
		t.Fatal(err)
	}
	clockSteps(t, w, "erin")
	for _, h := range w.members() {
		comeBack(t, w, h.Name)
	}
	holdsBesideNM(t, w)
	nicStays(t, w)
	for _, host := range sharing {
		namesByResolved(t, w, host, "after a reboot")
	}
	holdsBesideDocker(t, w)
}

// clockSteps: a host whose clock is behind says so, though the others reach it, who shake
// hands with it instead; when the clock steps, nobody waits for more than WireGuard's next try.
func clockSteps(t *testing.T, w *world, host string) {
	h, other := w.Host(host), w.Host("heidi")
	for _, h := range []*lab.Host{h, other} {
		if err := h.WaitSSH(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, host+" says that its clock is behind", func() error {
		if s, err := h.Run(w.ctx, "mobula status || true"); err != nil || !strings.Contains(s, "this host's clock says ") {
			return fmt.Errorf("%s %w", s, err)
		}
		return nil
	})
	reached := func(what string, within time.Duration) {
		began := time.Now()
		eventually(t, within, host+" reaches the others "+what, func() error {
			_, err := h.Run(w.ctx, "ping -q -c 1 -W 1 "+other.IntrawireAddress())
			return err
		})
		t.Logf("%s reached the others %s within %.1f s", host, what, time.Since(began).Seconds())
	}
	reached("with a clock that is behind", time.Minute)
	w.on(t, host, fmt.Sprintf("timedatectl set-time @%d", time.Now().Unix()))
	reached("when its clock has stepped", 10*time.Second)
	if s := w.on(t, host, "mobula status"); strings.Contains(s, "clock says") {
		t.Errorf("%s still says that its clock is behind:\n%s", host, s)
	}
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
	now, nowShared, nowNames := w.fingerprints(t), w.allOfShared(t), w.allOfNames(t)
	for _, name := range sharing {
		if now[name] != before[name] {
			t.Errorf("%s is not as it was: %s", name, difference(before[name], now[name]))
		}
		if nowShared[name] != beforeShared[name] {
			t.Errorf("the network of %s is not as it was: %s", name, difference(beforeShared[name], nowShared[name]))
		}
		if nowNames[name] != beforeNames[name] {
			t.Errorf("the resolver of %s is not as it was: %s", name, difference(beforeNames[name], nowNames[name]))
		}
	}
}
