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

// modeChanges: a host's NIC comes back and moves again, and the others lose nothing. With
// her NIC, too, alice relays.
func modeChanges(t *testing.T, w *world) {
	others := []*lab.Host{w.Host("bob"), w.Host("carol")}
	resolver := w.on(t, "alice", "cat /etc/resolv.conf")
	w.becomes(t, "alice", "shared", others...)
	if now := w.on(t, "alice", "cat /etc/resolv.conf; grep -c nas.example.com /etc/hosts"); strings.Contains(now, "Mobula") || !strings.HasSuffix(now, "1") {
		t.Errorf("alice with her NIC has %s", now)
	}
	w.waitDirect(t, time.Minute, "bob", "carol")
	w.around(t, "bob", "carol")
	if relayed := w.on(t, "alice", "nft list counter netdev mobula relayed"); strings.Contains(relayed, "packets 0 ") {
		t.Errorf("alice with her NIC relayed nothing: %s", relayed)
	}
	w.waitDirect(t, 3*time.Minute, "bob", "carol") // whose packets are counted next
	w.becomes(t, "alice", "moved", others...)
	if now := w.on(t, "alice", "cat /etc/resolv.conf"); now != resolver {
		t.Errorf("alice's resolvers: found %s, wanted %s", now, resolver)
	}
	if left := w.on(t, "alice", "grep -i mobula /etc/hosts || true; nft list tables"); left != "" {
		t.Errorf("left of the time when alice had her NIC: %s", left)
	}
}

// modesBesideNM: NetworkManager gets its NIC back, and gives it away again.
func modesBesideNM(t *testing.T, w *world) {
	w.becomes(t, "grace", "shared", w.Host("erin"))
	if found := w.on(t, "grace", "nmcli -t -f DEVICE,STATE device | grep ^ens3:"); found != "ens3:connected" {
		t.Errorf("found %s, wanted NetworkManager to have the NIC", found)
	}
	w.becomes(t, "grace", "moved", w.Host("erin"))
	holdsBesideNM(t, w)
}
