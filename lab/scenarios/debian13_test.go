//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// debian13 is what must hold on Debian 13, beside a host with Debian 12: frank has
// netplan and systemd-resolved, grace NetworkManager.
var debian13 = []step{
	{"deploy to Debian 13", deployDebian13},
	{"Debian 13 after a reboot", rebootDebian13},
	{"uninstall from Debian 13", uninstallDebian13},
}

// TestDebian13 has a lab of its own.
func TestDebian13(t *testing.T) {
	w := start(t, "alice", "frank", "grace")
	w.on(t, "grace", manageAll)
	for _, h := range w.members() {
		before[h.Name] = w.on(t, h.Name, fingerprint)
	}
	w.inventory(t)
	w.all(t, debian13)
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

func deployDebian13(t *testing.T, w *world) {
	w.deploy(t)
	holdsOnDebian13(t, w)
	for host, r := range w.deploy(t) {
		if r.changed != 0 {
			t.Errorf("%s: changed=%d after a second deploy, wanted 0", host, r.changed)
		}
	}
}

// holdsOnDebian13: everybody reaches everybody, the host's own programs resolve
// names, private ones and others, and the network managers leave alone what is ours.
func holdsOnDebian13(t *testing.T, w *world) {
	t.Helper()
	everyPair(t, w)
	for _, name := range []string{"frank", "grace"} {
		if s := w.status(t, name); len(s.Differences) > 0 || s.Waiting != "" {
			t.Errorf("%s: %+v", name, s)
		}
		for _, c := range []struct{ name, want string }{{"alice.example.com", "10.31.128.1"}, {lab.OutsideName, lab.OutsideAddress}} {
			if found := w.on(t, name, "getent ahostsv4 "+c.name+" || true"); !strings.HasPrefix(found, c.want+" ") {
				t.Errorf("%s: %s is %q, wanted %s", name, c.name, found, c.want)
			}
		}
	}
	if taken := w.on(t, "grace", "nmcli -t -f DEVICE,STATE device | grep -vE ':unmanaged$|^lo:' || true"); taken != "" {
		t.Errorf("grace: NetworkManager has taken %s", taken)
	}
	if taken := w.on(t, "frank", "networkctl --no-legend --no-pager | grep -vE ' unmanaged *$' || true"); taken != "" {
		t.Errorf("frank: systemd-networkd has taken %s", taken)
	}
}

func rebootDebian13(t *testing.T, w *world) {
	hosts := []*lab.Host{w.Host("frank"), w.Host("grace")}
	if err := w.each(hosts, func(h *lab.Host) error { return h.Reboot(w.ctx) }); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		comeBack(t, w, h.Name)
	}
	holdsOnDebian13(t, w)
}

// uninstallDebian13: the hosts are as they were, and their network managers have the
// NIC again.
func uninstallDebian13(t *testing.T, w *world) {
	if out, err := w.play(t, "playbooks/uninstall.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for host, has := range map[string]string{
		"frank": "networkctl --no-legend --no-pager list ens3 | grep -E ' configured *$'",
		"grace": "nmcli -t -f DEVICE,STATE device | grep -x ens3:connected",
	} {
		eventually(t, 60*time.Second, host+" as it was", func() error {
			if _, err := w.Host(host).Run(w.ctx, has); err != nil {
				return fmt.Errorf("its network manager does not have the NIC: %w", err)
			}
			if now := w.on(t, host, fingerprint); now != before[host] {
				return fmt.Errorf("%s", difference(before[host], now))
			}
			return nil
		})
		w.on(t, host, "ping -q -c 1 -W 5 "+lab.OutsideAddress+"; getent ahostsv4 "+lab.OutsideName)
	}
}
