//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

const (
	// ownNames is all that a host with systemd-resolved says of where it finds names, but for
	// which server it took last. A container's link has another name each time.
	ownNames = `resolvectl status --no-pager | grep -vE 'Current DNS Server|^Link [0-9]+ [(]veth[0-9a-f]{7}[)]' | sed 's/^ *//; s/^Link [0-9]*/Link/'; cat /run/systemd/resolve/*resolv.conf; readlink /etc/resolv.conf
cat /etc/hosts /etc/nsswitch.conf; find /etc/systemd/resolved.conf* -type f; ls /run/systemd/resolve/netif 2>/dev/null || true`
	// unresolved has a host go on without systemd-resolved, and resolvedAgain with it.
	unresolved    = `systemctl disable --now systemd-resolved; rm /etc/resolv.conf; echo nameserver ` + lab.ResolverAddress + ` >/etc/resolv.conf`
	resolvedAgain = `systemctl enable --now systemd-resolved; ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf`
	// likeCloudInit is what a boot does to /etc/hosts where cloud-init manages it.
	likeCloudInit = `cp /etc/hosts /root/hosts; printf '127.0.0.1 localhost\n# by cloud-init, without an end' >/etc/hosts`
)

// beforeNames is what hosts that keep their NICs said before anything of Mobula touched them, by name.
var beforeNames map[string]string

func (w *world) allOfNames(t *testing.T) map[string]string {
	t.Helper()
	return w.onSharing(t, ownNames)
}

// namesToFind are private ones, and one from outside.
func namesToFind(w *world) map[string]string {
	return map[string]string{"nas.example.com": w.nas(), w.Host("grace").FQDN(): w.Host("grace").AccessAddress(), lab.OutsideName: lab.OutsideAddress}
}

// finds has a host look all names up, by the C library and, where it runs, systemd-resolved.
func finds(t *testing.T, w *world, host, when string, byResolved bool) {
	t.Helper()
	eventually(t, time.Minute, host+" finds names "+when, func() error {
		for name, address := range namesToFind(w) {
			if found := w.on(t, host, "getent ahostsv4 "+name+" || true"); !strings.HasPrefix(found, address+" ") {
				return fmt.Errorf("%s: getent found %q, wanted %s", name, found, address)
			}
			if !byResolved {
				continue
			}
			if found := w.on(t, host, "resolvectl query --cache=no "+name+" || true"); !strings.Contains(strings.ReplaceAll(found, "\n", " ")+" ", ": "+address+" ") {
				return fmt.Errorf("%s: resolvectl found %q, wanted %s", name, found, address)
			}
		}
		return nil
	})
}

// namesByResolved: systemd-resolved finds private names by Mobula's link, all others as
// before, and nothing below /etc says so.
func namesByResolved(t *testing.T, w *world, host, when string) {
	t.Helper()
	finds(t, w, host, when, true)
	before, err := w.Queries()
	if err != nil {
		t.Fatal(err)
	}
	finds(t, w, host, when, true)
	asked, err := w.Queries()
	if err != nil || strings.Contains(strings.TrimPrefix(asked, before), ".example.com.") {
		t.Errorf("%s, %s: outside was asked for a private name (%v)", host, when, err)
	}
	eventually(t, time.Minute, "nothing below /etc of "+host+" "+when, func() error { // a block of the time without it
		if left := w.on(t, host, "grep -i mobula /etc/hosts || true; grep -rl mo-dir-hs /etc/systemd/resolved.conf* /etc/resolv.conf || true"); left != "" {
			return fmt.Errorf("found %s", left)
		}
		return nil
	})
	status := w.on(t, host, "resolvectl domain mo-dir-hs; resolvectl dns mo-dir-hs; resolvectl default-route mo-dir-hs; resolvectl dnssec mo-dir-hs")
	for _, want := range []string{"~nas.example.com", "~98.10.in-addr.arpa", ": 10.98.0.0", ": no"} {
		if !strings.Contains(status, want) {
			t.Errorf("%s, %s: found %s, wanted %s in it", host, when, status, want)
		}
	}
	if found := w.on(t, host, "resolvectl query "+w.Host("grace").AccessAddress()); !strings.Contains(found, w.Host("grace").FQDN()) {
		t.Errorf("%s, %s: the name of grace's address is %s", host, when, found)
	}
}

// namesWhereTheNICStays: whoever looks names up for erin, and whatever becomes of it, she
// finds private ones and all others, and what is hers stays.
func namesWhereTheNICStays(t *testing.T, w *world) {
	for _, host := range sharing { // of two releases
		namesByResolved(t, w, host, "after the deploy")
		for _, unit := range []string{"systemd-resolved", "systemd-networkd"} {
			w.on(t, host, "systemctl restart "+unit)
			namesByResolved(t, w, host, "after a restart of "+unit)
		}
	}
	// A link that is made again is another one to systemd-resolved.
	w.on(t, "erin", "ip link del mo-dir-hs")
	eventually(t, time.Minute, "the link is back", func() error {
		if s := w.status(t, "erin"); len(s.Differences) > 0 {
			return fmt.Errorf("%v", s.Differences)
		}
		return nil
	})
	namesByResolved(t, w, "erin", "with a new link")

	w.on(t, "erin", unresolved)
	finds(t, w, "erin", "without systemd-resolved", false)
	w.on(t, "erin", likeCloudInit)
	began := time.Now()
	finds(t, w, "erin", "with a new /etc/hosts", false)
	t.Logf("/etc/hosts was repaired within %v", time.Since(began).Round(time.Second))
	if hosts := w.on(t, "erin", "cat /etc/hosts"); !strings.HasPrefix(hosts, "127.0.0.1 localhost\n# by cloud-init, without an end\n") {
		t.Errorf("/etc/hosts is %s", hosts)
	}
	w.on(t, "erin", resolvedAgain)
	namesByResolved(t, w, "erin", "with systemd-resolved again")
	if last := w.on(t, "erin", "tail -c 1 /etc/hosts | od -An -c"); last != "d" {
		t.Errorf("/etc/hosts ends in %s", last)
	}
	w.on(t, "erin", "cat /root/hosts >/etc/hosts; sed -i '/Mobula/,/Mobula: end/d' /etc/hosts; rm /root/hosts")
	eventually(t, 15*time.Second, "nothing differs", func() error {
		if s := w.status(t, "erin"); len(s.Differences) > 0 {
			return fmt.Errorf("%v", s.Differences)
		}
		return nil
	})

	// All lookups by the gateway, and back with the next deploy (see byHerselfAgain).
	w.extra["erin"] += "      resolver: gateway\n"
	w.inventory(t)
	w.deploy(t)
	finds(t, w, "erin", "by the gateway", false)
	if conf := w.on(t, "erin", "cat /etc/resolv.conf; resolvectl domain mo-dir-hs"); !strings.Contains(conf, "nameserver 10.98.0.0\n") || strings.Contains(conf, "~nas") {
		t.Errorf("resolv.conf is %s", conf)
	}
}

// byHerselfAgain: a host finds names by its own resolver again.
func byHerselfAgain(t *testing.T, w *world) {
	t.Helper()
	namesByResolved(t, w, "erin", "by herself again")
	if now := w.on(t, "erin", "readlink /etc/resolv.conf"); now != "../run/systemd/resolve/stub-resolv.conf" {
		t.Errorf("resolv.conf leads to %s", now)
	}
}
