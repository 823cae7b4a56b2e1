//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// networkManager is what must hold on a host with NetworkManager (Debian 13). What
// other managers do the scenarios show on their hosts.
var networkManager = []step{
	{"deploy beside NetworkManager", deployBesideNM},
	{"NetworkManager after a reboot", rebootNM},
	{"NetworkManager has the NIC again", uninstallNM},
	{"hosts with all kinds of links", kindsOfLinks}, // in namespaces, and so none of NetworkManager's business
}

// TestNetworkManager has a lab of its own, with one host: this is about what happens
// on it.
func TestNetworkManager(t *testing.T) {
	w := start(t, "grace")
	w.on(t, "grace", manageAll)
	before["grace"] = w.on(t, "grace", fingerprint)
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n")
	w.inventory(t)
	w.all(t, networkManager)
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
	w.deploy(t)
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

func rebootNM(t *testing.T, w *world) {
	if err := w.Host("grace").Reboot(w.ctx); err != nil {
		t.Fatal(err)
	}
	comeBack(t, w, "grace")
	holdsBesideNM(t, w)
}

// uninstallNM: the host is as it was.
func uninstallNM(t *testing.T, w *world) {
	if out, err := w.play(t, "playbooks/uninstall.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
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
}
