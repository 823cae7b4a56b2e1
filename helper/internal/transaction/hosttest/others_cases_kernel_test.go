//go:build kernel

package hosttest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/spec"
)

// TestOthersFlush: Debian's own nftables.conf begins by flushing all rules.
func TestOthersFlush(t *testing.T) {
	t.Parallel()
	b := newBeside(t, "1: classic")
	if b == nil {
		return
	}
	b.outside("at first")
	for _, what := range []string{"start", "restart"} {
		script := "nft -f /etc/nftables.conf"
		if what == "restart" {
			script = "nft flush ruleset; " + script
		}
		b.isBack(what+" of nftables.service", script)
		b.outside("after a " + what)
	}
	b.isBack("a systemd-networkd that has not read that it has to leave rules", "ip rule del pref 1030; ip rule del pref 1031")
	b.stop()
	run(t, "nft flush ruleset; nft -f /etc/nftables.conf")
	b.agent()
	for end := time.Now().Add(20 * time.Second); len(b.left()) > 0; time.Sleep(back) {
		if time.Now().After(end) {
			t.Fatalf("what was flushed while there was no agent: differs %q", b.left())
		}
	}
	run(t, "nft delete table inet filter")
	ended := b.mendsAlways()
	b.uninstall()
	ended()
	b.same("an uninstall after a flush")
}

// mendsAlways begins a repair as soon as the one before has ended: one that has looked at
// the host before an uninstall must not put back what that takes away.
func (b *beside) mendsAlways() (end func()) {
	ctx, cancel := context.WithCancel(b.ctx())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := b.mend(ctx); err != nil {
				b.Errorf("repairing: %v", err)
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	return func() { cancel(); <-ended }
}

// TestOthersForwarding: systemd-sysctl sets what a file says of forwarding, and so that of
// each interface, in both directions.
func TestOthersForwarding(t *testing.T) {
	t.Parallel()
	b := newBeside(t, "1: classic")
	if b == nil {
		return
	}
	for _, value := range []string{"1", "0"} {
		b.isBack("ip_forward="+value, "rm -f /etc/sysctl.d/*; echo net.ipv4.ip_forward="+value+" >/etc/sysctl.d/90-hardening.conf; /lib/systemd/systemd-sysctl")
		b.outside("after ip_forward=" + value)
		if closed := strings.Contains(run(t, "nft list table inet mobula"), "meta nfproto ipv4 drop"); closed != (value == "0") {
			t.Errorf("with ip_forward=%s the host forwards for nobody else: %v", value, closed)
		}
		if said := b.said.String(); !strings.Contains(said, "net.ipv4.ip_forward set to "+value) {
			t.Errorf("the cause is not named:\n%s", said)
		}
	}
	b.uninstall()
	b.same("an uninstall")
}

// networkdFiles has systemd-networkd's files in place that the plan has for it.
func (b *beside) networkdFiles() {
	b.Helper()
	facts, err := b.Known()
	if err != nil {
		b.Fatal(err)
	}
	with := *facts
	with.Managers = []spec.Manager{spec.Networkd}
	p, err := plan.Build(b.change.Document, b.change.HostID, with)
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range p.Files {
		if strings.HasPrefix(f.Path, "/etc/systemd/network") {
			if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(f.Path, []byte(f.Content), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
}

const (
	networkd      = "/lib/systemd/systemd-networkd"
	networkdReady = "networkctl --no-pager --no-legend list | grep -qE 'routable +(configured|configuring)'"
	dbus          = "dbus-daemon --system --nofork --nopidfile"
	dbusReady     = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
)

// prepareNetworkd: without udev, which it takes to be absent where sysfs is read-only, as
// in a container.
func prepareNetworkd(t *testing.T) {
	t.Helper()
	run(t, "mount -t sysfs -o ro sysfs /sys; mkdir -p /run/dbus /run/systemd/netif; chown systemd-network: /run/systemd/netif; rm -rf /etc/systemd/network/*")
	netnstest.Daemon(t, "", dbus, dbusReady)
}

// TestOthersNetworkd: systemd-networkd has the uplink, is started again and reads its files
// again; another of its files takes all other links, whatever its name.
func TestOthersNetworkd(t *testing.T) {
	for _, all := range []string{"80-all", "00-all", "0-all"} {
		t.Run(all, func(t *testing.T) {
			t.Parallel()
			b := newBeside(t, "1: classic")
			if b == nil {
				return
			}
			prepareNetworkd(t)
			b.networkdFiles()
			for file, text := range map[string]string{
				"0-a": "[Match]\nName=" + b.made.uplink + "\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n",
				all:   "[Match]\nName=*\n[Network]\nDHCP=yes\n",
			} {
				if err := os.WriteFile("/etc/systemd/network/"+file+".network", []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			stop := netnstest.Daemon(t, "", networkd, networkdReady)
			b.holds("it starts")
			run(t, "networkctl reload")
			b.holds("it reads its files again")
			run(t, "networkctl reconfigure "+b.made.uplink)
			b.holds("it configures the uplink again")
			stop()
			netnstest.Daemon(t, "", networkd, networkdReady)
			b.holds("it is started again")
			if out := run(t, "networkctl --no-pager --no-legend list mo-dir-hs veth_fac0"); strings.Count(out, "unmanaged") != 2 {
				t.Errorf("it has Mobula's links:\n%s", out)
			}
			b.outside("beside systemd-networkd")
		})
	}
}

// TestOthersUplinkComes: the interface to the outside appears after the boot, and is
// deleted and made again, as PPP, bonds and VLANs are.
func TestOthersUplinkComes(t *testing.T) {
	t.Parallel()
	b := newBeside(t, "1: classic")
	if b == nil {
		return
	}
	u := b.made.uplink
	gone := "ip link del " + u
	comes := fmt.Sprintf(`ip link add name %[1]s type veth peer name cable netns isp; ip -n isp link set cable up; ip -n isp addr add 192.0.2.1/24 dev cable
ip addr add 192.0.2.10/24 dev %[1]s; ip link set %[1]s up; ip route add default via 192.0.2.1 dev %[1]s`, u)
	relays := func(when string) {
		t.Helper()
		if out := run(t, "nft list table netdev mobula"); !strings.Contains(out, u) {
			t.Errorf("%s nothing is relayed:\n%s", when, out)
		}
	}
	relays("at first")
	b.isBack("it goes", gone)
	b.isBack("it comes", comes)
	relays("made again")
	b.outside("made again")
	b.isBack("it is another one at once", gone+"\n"+comes)
	relays("another one at once")
	b.outside("another one at once")
	b.isBack("another way outside", strings.NewReplacer(u, "ppp7", "cable", "line", "192.0.2.", "198.51.100.").Replace(comes)+" metric 7")
	b.outside("by another one")
	b.stop()
	run(t, gone+"; ip link del ppp7; ip netns del mobula; nft flush ruleset; ip rule del pref 1030; ip rule del pref 1031; rm -r /run/mobula")
	err := b.Boot(b.ctx(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.agent()
	if left := b.left(); len(left) > 0 {
		t.Errorf("after a boot without it differs %q", left)
	}
	b.isBack("it comes after the boot", comes)
	relays("after the boot")
	if first := run(t, "hostname -I"); !strings.HasPrefix(first, "192.0.2.10 ") || !strings.Contains(first, "10.30.127.255") {
		t.Errorf("the host's addresses are in the order %s", first)
	}
	b.outside("after the boot")
}
