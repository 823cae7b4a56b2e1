//go:build kernel

package hostnames

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// document is a network with names of every kind.
func document() *network.Document {
	self := plantest.Host(1)
	self.SharedUplink = true
	d := plantest.Document(self, plantest.Host(2))
	d.Names = []network.Name{{Address: netip.MustParseAddr("10.31.0.254"), Names: []string{"nas.local", "www.example.net", "a.b.c.example.org", "printer.home.arpa", "nas.invalid"}}}
	return d
}

func (w *world) wanted(d *network.Document) *spec.Host {
	w.Helper()
	return &spec.Host{Names: w.plan(d).Names}
}

func (w *world) plan(d *network.Document) *spec.Host {
	w.Helper()
	h, err := plan.Build(d, 1, spec.Facts{Shared: &spec.Shared{Outside: []string{"eth0"}}, Managers: []spec.Manager{spec.Networkd}})
	if err != nil {
		w.Fatal(err)
	}
	return h
}

// reaches brings the host to a plan, in so many operations, and finds nothing left to do.
func (w *world) reaches(want *spec.Host, count int) {
	w.Helper()
	ops, err := w.resolver.Diff(context.Background(), want, nil)
	if err != nil {
		w.Fatal(err)
	}
	if len(ops) != count {
		w.Errorf("did %v, wanted %d operations", ops, count)
	}
	for _, op := range ops {
		for again := 0; again < 2; again++ { // each is idempotent
			if err := op.Do(context.Background()); err != nil {
				w.Fatalf("%s: %v", op, err)
			}
		}
	}
	if ops, err := w.resolver.Diff(context.Background(), want, nil); err != nil || len(ops) > 0 {
		w.Errorf("left to do: %v (%v)", ops, err)
	}
}

// resolves looks up all private names, by the C library and by systemd-resolved, and their
// addresses; nobody outside is asked.
func (w *world) resolves(when string, d *network.Document) {
	w.Helper()
	w.questions()
	for _, n := range d.PrivateNames() {
		if got := w.sh("", "getent ahostsv4 "+n.Name+" || true"); !strings.HasPrefix(got, n.Address.String()+" ") {
			w.Errorf("%s: getent finds %q for %s, wanted %s", when, got, n.Name, n.Address)
		}
		if got := w.sh("", w.at("resolvectl")+" query --cache=no "+n.Name+" || true"); !strings.Contains(strings.ReplaceAll(got, "\n", " "), ": "+n.Address.String()+" ") {
			w.Errorf("%s: resolvectl finds %q for %s, wanted %s", when, got, n.Name, n.Address)
		}
	}
	if got := w.sh("", w.at("resolvectl")+" query 10.31.128.2 || true"); !strings.Contains(got, d.Hosts[1].Hostname) {
		w.Errorf("%s: found %q for 10.31.128.2", when, got)
	}
	if asked := w.questions(); asked != "" {
		w.Errorf("%s: outside was asked for %s", when, asked)
	}
}

// resolvesOthers looks up a public name, in which the gateway has no part.
func (w *world) resolvesOthers(when string) {
	w.Helper()
	forwarded := w.gateway.Stats().Forwarded
	if got := w.sh("", "getent ahostsv4 www.example.com || true"); !strings.HasPrefix(got, publicAddress+" ") {
		w.Errorf("%s: found %q for a public name", when, got)
	}
	if now := w.gateway.Stats().Forwarded; now != forwarded {
		w.Errorf("%s: the gateway was asked for a public name", when)
	}
}

// everything is all that systemd-resolved says, but for which server it took last, and for
// the numbers of links.
func (w *world) everything() string {
	return w.sh("", w.at("resolvectl")+` status --no-pager | grep -v 'Current DNS Server' | sed 's/^ *//; s/^Link [0-9]*/Link/; s, LLMNR/IPv6,,'
cat /run/systemd/resolve/*resolv.conf /etc/hosts | sed '/^# [^n]/d'; readlink /etc/resolv.conf; ls /run/systemd/resolve/netif`)
}

// TestOthersSystemdResolved: the real one finds private names by Mobula's link, and all
// others as before; until it is told to forget them.
func TestOthersSystemdResolved(t *testing.T) {
	w := newWorld(t, "")
	if w == nil {
		return
	}
	d := document()
	list, err := os.ReadFile("/run/systemd/resolve/resolv.conf")
	if err != nil || !strings.Contains(string(list), "nameserver "+outside+"\n") {
		t.Fatalf("the list of resolvers is %q (%v)", list, err)
	}
	w.serveGateway(d, []netip.Addr{netip.MustParseAddr(outside)})
	before := w.everything()
	w.reaches(w.wanted(d), 2)
	w.resolves("told", d)
	w.resolvesOthers("told")
	if hosts, _ := os.ReadFile("/etc/hosts"); strings.Contains(string(hosts), "h1.example.com") || !strings.Contains(string(hosts), "\tnas.invalid\n") {
		t.Errorf("/etc/hosts has %s", hosts)
	}
	if now, _ := os.ReadFile("/run/systemd/resolve/resolv.conf"); string(now) != string(list) {
		t.Errorf("others find the resolvers %s, wanted %s", now, list)
	}
	// What is below a private name comes to the gateway, which asks outside, once.
	if got := w.sh("", "getent ahostsv4 x.h2.example.com || true"); !strings.HasPrefix(got, publicAddress+" ") {
		t.Errorf("found %q for a name below a private one", got)
	}
	if n := strings.Count(w.questions(), "x.h2.example.com."); n < 1 || n > 2 { // A, and AAAA perhaps
		t.Errorf("outside was asked %d times", n)
	}
	w.stop()
	w.start()
	w.reaches(w.wanted(d), 0)
	w.resolves("restarted", d)
	w.resolvesOthers("restarted")
	// The link goes while it is there, and while it is not.
	for _, away := range []bool{false, true} {
		if away {
			w.stop()
		}
		w.sh("", "ip link del mo-dir-hs")
		if away {
			w.start()
		}
		w.link()
		w.reaches(w.wanted(d), 1)
		w.resolves(fmt.Sprintf("a new link (%v)", away), d)
	}
	w.reaches(&spec.Host{}, 2)
	after := w.everything()
	for tries := 0; after != before && tries < 20; tries++ { // link-local addresses take their time
		time.Sleep(200 * time.Millisecond)
		after = w.everything()
	}
	if after != before {
		t.Errorf("left behind\n%s\nwanted\n%s", after, before)
	}
}

// TestOthersSystemdResolvedBesideNetworkd: systemd-networkd, which tells systemd-resolved
// of the links that it has, is told to leave Mobula's alone, comes and goes.
func TestOthersSystemdResolvedBesideNetworkd(t *testing.T) {
	w := newWorld(t, "")
	if w == nil {
		return
	}
	d := document()
	w.serveGateway(d, []netip.Addr{netip.MustParseAddr(outside)})
	// It takes a host with a read-only /sys for one without udev, for which it would wait.
	w.sh("", `mount -t sysfs -o ro sysfs /sys; mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp; chown -R systemd-network: /run/systemd/netif
mkdir -p /etc/systemd/network; printf '[Match]\nName=eth0\n[Network]\nKeepConfiguration=yes\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nDNS=`+outside+`\n' >/etc/systemd/network/50-eth0.network`)
	for _, f := range w.plan(d).Files {
		if strings.HasPrefix(f.Path, "/etc/systemd/network") {
			if err := errors.Join(os.MkdirAll(filepath.Dir(f.Path), 0o755), os.WriteFile(f.Path, []byte(f.Content), f.Mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const networkd, ready = "/lib/systemd/systemd-networkd", "networkctl --no-pager list | grep -q 'mo-dir-hs .* unmanaged' && networkctl --no-pager list | grep -q 'eth0 .* configured'"
	w.sh("", w.at("resolvectl")+" revert eth0")
	w.reaches(w.wanted(d), 2)
	for _, when := range []string{"started", "restarted"} {
		stop := daemon(t, "", networkd, ready)
		w.reaches(w.wanted(d), 0)
		w.resolves(when, d)
		w.resolvesOthers(when)
		stop()
		w.reaches(w.wanted(d), 0)
		w.resolves(when+" and stopped", d)
	}
}

// TestOthersSystemdResolvedStrict: what the host demands of all others does not hold by
// Mobula's link.
func TestOthersSystemdResolvedStrict(t *testing.T) {
	w := newWorld(t, "DNSSEC=yes\nDNSOverTLS=yes\n")
	if w == nil {
		return
	}
	d := document()
	w.serveGateway(d, nil)
	w.reaches(w.wanted(d), 2)
	w.resolves("strict", d)
	for _, setting := range []string{"dnssec", "dnsovertls"} {
		if got := w.sh("", w.at("resolvectl")+" "+setting+" eth0"); !strings.HasSuffix(got, ": yes") {
			t.Errorf("%s of the NIC is %q", setting, got)
		}
	}
}

// TestOthersSystemdResolvedFull: as many domains as a link gets are replaced by others at
// once, and more names are in /etc/hosts.
func TestOthersSystemdResolvedFull(t *testing.T) {
	w := newWorld(t, "")
	if w == nil {
		return
	}
	for _, c := range []struct{ zone, count string }{{"one", "124"}, {"two", "124"}, {"three", "125"}, {"four", "9"}} {
		d := document()
		d.Names = []network.Name{{Address: netip.MustParseAddr("10.31.0.254")}}
		count := 0
		fmt.Sscan(c.count, &count)
		for i := 0; i < count; i++ {
			d.Names[0].Names = append(d.Names[0].Names, fmt.Sprintf("n%d.%s.example.net", i, c.zone))
		}
		if w.gateway == nil {
			w.serveGateway(d, nil)
		}
		w.gateway.SetZone(d)
		want := w.wanted(d)
		ops := 1
		if c.zone == "three" || c.zone == "four" {
			ops = 2
		}
		w.reaches(want, ops)
		for _, n := range []int{0, count - 1} {
			name := fmt.Sprintf("n%d.%s.example.net", n, c.zone)
			if got := w.sh("", "getent ahostsv4 "+name+" || true"); !strings.HasPrefix(got, "10.31.0.254 ") {
				t.Errorf("found %q for %s", got, name)
			}
		}
	}
}
