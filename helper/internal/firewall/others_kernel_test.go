//go:build kernel

package firewall

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/packetfilter"
)

// besideOthers is sharedWorld, and what listens in it, whose host 1 has other people's
// firewalls, which write in nobody else's files. Each is the real program; those that are no
// daemons need nothing more. False in the process that only starts another one.
func besideOthers(t *testing.T) bool {
	t.Helper()
	t.Parallel()
	if !worldWith(t, sharedFirewallOf) {
		return false
	}
	netnstest.Private(t, "/etc")
	if err := unix.Mount("others", "/var/log", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	services(t)
	return true
}

// daemon runs a program on host 1 until ready succeeds there.
func daemon(t *testing.T, program, ready string) (stop func()) {
	t.Helper()
	return netnstest.Daemon(t, hostOf(1), program, ready)
}

const (
	dockerd   = "dockerd --storage-driver vfs --data-root /run/docker-data"
	docker    = "docker info"
	firewalld = "firewalld --nofork --nopid"
	firewallC = "firewall-cmd --state"
	dbus      = "dbus-daemon --system --nofork --nopidfile"
	dbusReady = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
)

// What passes by host 1: what members begin with WireGuard (port), what guests and the
// gateway send outside, what guests and other hosts ask the host's services at its inside
// addresses (access, intrawire), and what the host asks others (own).
const (
	everything = "port guest gateway intrawire access own"
	ours       = "port guest gateway own" // what services it offers inside is the operator's business
	nothing    = "own"
)

// passes compares what passes with what should. What was begun before counts for nothing.
func passes(t *testing.T, when, want string) {
	t.Helper()
	sh(t, hostOf(1), "conntrack -F 2>/dev/null")
	for _, c := range []struct{ name, from, to string }{
		{"port", outside, "udp"}, {"guest", guestOf(1), "198.51.100.1:80"}, {"gateway", gateway(1), "198.51.100.1:80"},
		{"intrawire", hostOf(2), "10.30.0.1:8080"}, {"access", guestOf(1), "10.31.128.1:8080"}, {"own", hostOf(1), "198.51.100.1:80"},
	} {
		should, limit := slices.Contains(strings.Fields(want), c.name), quiet
		if should {
			limit = patience
		}
		did := false
		if c.to != "udp" {
			did = askFor(c.from, c.to, limit) != ""
		} else {
			at, member := udp(t, hostOf(1), "192.0.2.1:51820"), udp(t, c.from, "192.0.2.3:51820")
			send(t, member, "192.0.2.1:51820", "handshake")
			text, _ := hearFor(t, at, limit)
			did = text != ""
			at.Close()
			member.Close()
		}
		if did != should {
			t.Errorf("%s: %s passes: %v, wanted %v", when, c.name, did, should)
		}
	}
}

// say returns what is said of the real filters of host 1.
func say(t *testing.T) (sentences []string) {
	t.Helper()
	err := netns.Do(hostOf(1), func() error {
		f, err := packetfilter.Read(context.Background(), packetfilter.Run, "")
		if err == nil {
			sentences = f.Say(packetfilter.Evidence{Port: 51820, Outside: []string{"eth0"}, Silent: map[string]netip.Addr{"carol": netip.MustParseAddr("192.0.2.3")}})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sentences
}

// does what is said: each of the sentences ends with its commands.
func does(t *testing.T, wanted ...string) {
	t.Helper()
	said := say(t)
	if len(said) != len(wanted) {
		t.Fatalf("said %q, wanted %d", said, len(wanted))
	}
	for i, s := range said {
		before, commands, _ := strings.Cut(strings.TrimSuffix(s, "`"), ": `")
		if before != wanted[i] {
			t.Errorf("said %q, wanted %q", before, wanted[i])
		}
		t.Logf("%s; %s", commands, sh(t, hostOf(1), commands))
	}
	if left := say(t); len(left) > 0 {
		t.Errorf("after that said %q", left)
	}
}

const (
	closedPort = "nothing arrives from carol on udp/51820; "
	closedWay  = "guests do not get outside by this host, and its gateway reaches no resolver there; "
)

// services are asked for by passes.
func services(t *testing.T) {
	t.Helper()
	unbridged(t)
	serve(t, outside, "198.51.100.1:80")
	serve(t, hostOf(1), "0.0.0.0:8080")
	openDoorway(t, doorwayOf(1))
	passes(t, "without others", everything)
	if said := say(t); len(said) > 0 {
		t.Errorf("without others said %q", said)
	}
}

// startFirewalld starts it and whom it speaks through.
func startFirewalld(t *testing.T) (stop func()) {
	t.Helper()
	sh(t, hostOf(1), "mkdir -p /run/dbus")
	daemon(t, dbus, dbusReady)
	return daemon(t, firewalld, firewallC)
}

func TestOthersUFW(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	sh(t, hostOf(1), "ufw --force enable")
	passes(t, "enabled", nothing)
	does(t, closedPort+"ufw is active here", closedWay+"ufw is active here")
	passes(t, "opened", ours)
	sh(t, hostOf(1), "ufw allow in on mo-dir-hs; ufw allow in on veth_fac0; ufw reload")
	passes(t, "reloaded", everything)
	openDoorway(t, doorwayOf(1))
	passes(t, "with the doorway loaded last", everything)
}

func TestOthersDocker(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	stop := daemon(t, dockerd, docker)
	passes(t, "running", "port intrawire access own")
	does(t, closedWay+"Docker lets nothing be forwarded here but its own")
	passes(t, "opened", everything)
	stop()
	passes(t, "stopped", everything)
	daemon(t, dockerd, docker)
	passes(t, "restarted", everything)
	openDoorway(t, doorwayOf(1))
	passes(t, "with the doorway loaded last", everything)
	// Both filters are one table of the kernel's.
	sh(t, hostOf(1), "ufw --force enable")
	passes(t, "with ufw", "guest gateway own")
	does(t, closedPort+"ufw is active here")
	passes(t, "with ufw opened", ours)
}

func TestOthersFirewalld(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	stop := startFirewalld(t)
	passes(t, "running", nothing)
	does(t, closedPort+"firewalld is running here", closedWay+"firewalld is running here")
	passes(t, "opened", ours)
	sh(t, hostOf(1), "firewall-cmd --reload")
	passes(t, "reloaded", ours)
	stop()
	daemon(t, firewalld, firewallC)
	openDoorway(t, doorwayOf(1))
	passes(t, "restarted, with the doorway loaded last", ours)
	sh(t, hostOf(1), "firewall-cmd --zone=drop --change-interface=eth0")
	passes(t, "in the zone drop", "guest gateway own")
	does(t, closedPort+"firewalld is running here")
	passes(t, "in the zone drop, opened", ours)
}

func TestOthersNftables(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	sh(t, hostOf(1), `nft 'table inet filter {
	chain input { type filter hook input priority filter; policy drop; ct state vmap { established : accept, related : accept, invalid : drop }; iifname "lo" accept; tcp dport { 22, 443 } accept; meta l4proto icmp accept; limit rate 5/minute log prefix "refused "; }
	chain forward { type filter hook forward priority filter; policy drop; }
}' `)
	passes(t, "closed", nothing)
	does(t, closedPort+"the nftables chain inet filter input drops it here", closedWay+"the nftables chain inet filter forward drops it here")
	passes(t, "opened", ours)
	sh(t, hostOf(1), "nft flush ruleset; iptables -P INPUT DROP; iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -P FORWARD DROP")
	openDoorway(t, doorwayOf(1))
	passes(t, "closed by iptables", nothing)
	does(t, closedPort+"the iptables chain INPUT drops it here", closedWay+"the iptables chain FORWARD drops it here")
	passes(t, "opened in iptables", ours)
}
