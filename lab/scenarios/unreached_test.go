//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mobula/lab"
)

// withoutEndpoints: erin and heidi have no endpoint, and between them nothing passes. Both reach
// grace, whose agent carries for them: from nothing, in full size, and again when it was killed.
// Then what they send to each other passes: their packets find a way through heidi's router and
// erin's firewall, which lets in answers alone. When the network passes them again in which both
// are, of which no file says a word, they go there.
func withoutEndpoints(t *testing.T, w *world) {
	erin, heidi := w.Host("erin"), w.Host("heidi")
	w.extra["erin"], w.extra["heidi"] = "      endpoint: none\n", "      endpoint: none\n"
	w.inventory(t)
	// Also where they have seen each other by now.
	inCommon := sync.OnceFunc(w.dropInside(t))
	defer inCommon()
	restore := sync.OnceFunc(w.filterFrames(t, "lab-apart", fmt.Sprintf(`	chain forward {
		type filter hook forward priority 0
		meta l4proto udp ip6 version 6 drop
		meta l4proto udp ip saddr %[1]s ip daddr %[2]s drop
		meta l4proto udp ip saddr %[2]s ip daddr %[1]s drop
	}
`, erin.Address, lab.SitePublicAddress)))
	defer restore()
	w.deploy(t)
	keys := map[string]string{"erin": w.status(t, "heidi").PublicKey, "heidi": w.status(t, "erin").PublicKey}
	for host, of := range keys {
		w.on(t, host, "ip netns exec mobula wg set mo-wg-gw peer "+of+" remove; systemctl restart mobula-agent; mobula repair")
	}
	w.reachEachOther(t)
	for host := range keys {
		if said := w.on(t, host, "mobula status"); !strings.Contains(said, "via grace.example.com (carried)") {
			t.Errorf("%s says %s", host, said)
		}
	}
	mtu := w.on(t, "erin", "cat /sys/class/net/veth_fac0/mtu")
	w.on(t, "erin", fmt.Sprintf("ping -q -c 3 -W 5 -M do -s $((%s-28)) %s", mtu, heidi.AccessAddress()))
	w.on(t, "heidi", fmt.Sprintf("ping -q -c 3 -W 5 -M do -s $((%s-28)) %s", mtu, erin.AccessAddress()))
	arrived := w.sendingTo(t, "erin", heidi)
	w.on(t, "grace", "systemctl kill -s KILL mobula-agent")
	if answered := arrived("heidi while the agent that carries was killed"); answered < 70 {
		t.Errorf("%d of 100 packets were answered", answered)
	}
	eventually(t, time.Minute, "erin reaches heidi", func() error {
		_, err := erin.Run(w.ctx, "ping -q -c 2 -W 2 "+heidi.IntrawireAddress())
		return err
	})
	restore()
	w.saysOfBoth(t, "direct (punched)")
	inCommon()
	for host := range keys { // agents that have found nobody there look again after five minutes
		w.on(t, host, "systemctl restart mobula-agent")
	}
	w.saysOfBoth(t, "direct (LAN)")
}

// saysOfBoth waits until erin and heidi say so of the way to each other.
func (w *world) saysOfBoth(t *testing.T, way string) {
	t.Helper()
	for host, other := range map[string]string{"erin": "heidi", "heidi": "erin"} {
		eventually(t, time.Minute, host+" says "+way, func() error {
			said := w.on(t, host, "mobula status")
			for _, line := range strings.Split(said, "\n") {
				if strings.HasPrefix(line, w.Host(other).FQDN()+" ") && strings.Contains(line, " "+way+" ") {
					return nil
				}
			}
			return fmt.Errorf("found %s", said)
		})
	}
}

// ipv6Alone: heidi has IPv6 alone, grace IPv4 alone. Erin, who has both and no endpoint, carries. What
// makes it so comes to heidi over the network itself, through grace.
func ipv6Alone(t *testing.T, w *world) {
	erin, grace, heidi := w.Host("erin"), w.Host("grace"), w.Host("heidi")
	w.extra["heidi"] = fmt.Sprintf("      ansible_host: %s\n%s      open_firewall: true\n      endpoint: '%s'\n", heidi.IntrawireAddress(), grace.Through(), heidi.IPv6Address())
	w.inventory(t)
	w.deploy(t)
	defer w.dropInside(t)()
	defer w.filterFrames(t, "lab-family", fmt.Sprintf(`	chain forward {
		type filter hook forward priority 0
		meta l4proto udp ip saddr %[1]s drop
		meta l4proto udp ip daddr %[1]s drop
	}
`, lab.SitePublicAddress))()
	w.seesWithin(t, time.Minute, "erin", heidi, heidi.IPv6Address())
	eventually(t, time.Minute, "grace reaches heidi over erin", func() error {
		if _, err := grace.Run(w.ctx, "ping -q -c 2 -W 2 "+heidi.IntrawireAddress()); err != nil {
			return err
		}
		if said := w.on(t, "grace", "mobula status"); !strings.Contains(said, "via "+erin.FQDN()+" (carried)") {
			return fmt.Errorf("grace says %s", said)
		}
		return nil
	})
	mtu := w.on(t, "grace", "cat /sys/class/net/veth_fac0/mtu")
	w.on(t, "grace", fmt.Sprintf("ping -q -c 3 -W 5 -M do -s $((%s-28)) %s", mtu, heidi.AccessAddress()))
}
