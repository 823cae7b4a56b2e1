//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// becomes deploys a host with another uplink_mode. The others lose nothing, and the
// deployer gets in.
func (w *world) becomes(t *testing.T, host, mode string, others ...*lab.Host) {
	t.Helper()
	w.modes[host] = mode
	w.inventory(t)
	if len(others) > 1 {
		m := w.streams(t, others)
		defer lossless(t, w, m)
	}
	w.deploy(t)
	eventually(t, 30*time.Second, host+" is as it should be", func() error { // relays follow routes
		if s := w.status(t, host); len(s.Differences) > 0 || s.Waiting != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	// Hosts keep their mode, whatever hosts.yml does not say.
	delete(w.modes, host)
	w.inventory(t)
	nic := w.on(t, host, "ip -br link show dev ens3 2>/dev/null | wc -l")
	if want := map[string]string{"shared": "1", "moved": "0"}[mode]; nic != want {
		t.Errorf("%s, %s: found %s NICs with the host, wanted %s", host, mode, nic, want)
	}
	eventually(t, time.Minute, host+" reaches the others", func() error {
		for _, other := range others {
			for _, to := range []string{other.IntrawireAddress(), other.AccessAddress(), other.FQDN()} {
				if _, err := w.Host(host).Run(w.ctx, "ping -q -c 2 -i 0.3 -W 2 "+to); err != nil {
					return err
				}
			}
			if _, err := other.Run(w.ctx, "ping -q -c 2 -i 0.3 -W 2 "+w.Host(host).AccessAddress()); err != nil {
				return err
			}
		}
		return nil
	})
}

// resolverOfMoved is what alice's resolv.conf was while her gateway had the NIC.
var resolverOfMoved string

// nicComesBack: a host gets its NIC back, and the others lose nothing. With her NIC, too,
// alice relays.
func nicComesBack(t *testing.T, w *world) {
	resolverOfMoved = w.on(t, "alice", "cat /etc/resolv.conf")
	w.becomes(t, "alice", "shared", w.Host("bob"), w.Host("carol"))
	if now := w.on(t, "alice", "cat /etc/resolv.conf; grep -c nas.example.com /etc/hosts"); strings.Contains(now, "Mobula") || !strings.HasSuffix(now, "1") {
		t.Errorf("alice with her NIC has %s", now)
	}
	w.waitDirect(t, time.Minute, "bob", "carol")
	w.around(t, "bob", "carol")
	if relayed := w.on(t, "alice", "nft list counter netdev mobula relayed"); strings.Contains(relayed, "packets 0 ") {
		t.Errorf("alice with her NIC relayed nothing: %s", relayed)
	}
}

// nicMovesAgain comes later: a path stays with its relay for a while.
func nicMovesAgain(t *testing.T, w *world) {
	w.waitDirect(t, 3*time.Minute, "bob", "carol") // whose packets are counted next
	w.becomes(t, "alice", "moved", w.Host("bob"), w.Host("carol"))
	if now := w.on(t, "alice", "cat /etc/resolv.conf"); now != resolverOfMoved {
		t.Errorf("alice's resolvers: found %s, wanted %s", now, resolverOfMoved)
	}
	if left := w.on(t, "alice", "grep -i mobula /etc/hosts || true; nft list tables"); left != "" {
		t.Errorf("left of the time when alice had her NIC: %s", left)
	}
}

// modesBesideNM: NetworkManager gets its NIC back, and gives it away again.
func modesBesideNM(t *testing.T, w *world) {
	w.extra["grace"] = "      open_firewall: true\n"
	w.becomes(t, "grace", "shared", w.Host("erin"))
	if found := w.on(t, "grace", "firewall-cmd --list-all-zones; firewall-cmd --list-all-policies"); !strings.Contains(found, "51820/udp") || !strings.Contains(found, `source address="10.98.0.0/32" accept`) {
		t.Errorf("firewalld lets pass %s", found)
	}
	guestOfFirewalld(t, w)
	if found := w.on(t, "grace", "nmcli -t -f DEVICE,STATE device | grep ^ens3:"); found != "ens3:connected" {
		t.Errorf("found %s, wanted NetworkManager to have the NIC", found)
	}
	delete(w.extra, "grace")
	w.becomes(t, "grace", "moved", w.Host("erin"))
	if found := w.on(t, "grace", "firewall-cmd --list-all-zones; firewall-cmd --list-all-policies"); strings.Contains(found, "51820") || strings.Contains(found, "10.98.") {
		t.Errorf("left of the time when grace had her NIC: %s", found)
	}
	holdsBesideNM(t, w)
}

// guestOfFirewalld: where firewalld refuses what nobody allowed, guests get outside, and
// from outside the host is what it was.
func guestOfFirewalld(t *testing.T, w *world) {
	t.Helper()
	grace := w.Host("grace")
	in, leave := w.guestOf(t, grace)
	defer leave()
	for _, what := range []string{"", "firewall-cmd --reload"} {
		w.on(t, "grace", "true; "+what)
		eventually(t, 30*time.Second, "a guest gets outside "+what, func() error {
			_, err := grace.Run(w.ctx, in+"ping -q -c 1 -W 2 "+lab.OutsideAddress)
			return err
		})
	}
	if _, err := grace.Run(w.ctx, in+"timeout 3 bash -c 'exec 3<>/dev/tcp/"+grace.Address+"/22'"); err == nil {
		t.Error("the guest reaches grace's own address")
	}
}
