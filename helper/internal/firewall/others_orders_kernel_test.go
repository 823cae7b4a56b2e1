//go:build kernel

package firewall

import "testing"

// What netfilter-persistent does with iptables' rules (its plugin 15-ip4tables of
// iptables-persistent, which cannot be installed beside ufw).
const (
	keepRules = "iptables-save >/run/rules.v4"
	loadRules = "iptables-restore </run/rules.v4"
)

// TestOthersRejectAtTheEnd: rules that end in REJECT and that netfilter-persistent keeps.
// What opens them is put before that end, and said again when the old rules are loaded.
func TestOthersRejectAtTheEnd(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	sh(t, hostOf(1), `iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited; iptables -A FORWARD -j REJECT --reject-with icmp-host-prohibited
`+keepRules)
	passes(t, "closed", nothing)
	for _, when := range []string{"at first", "after a reload of the old rules"} {
		does(t, closedPort+"the iptables chain INPUT drops it here", closedWay+"the iptables chain FORWARD drops it here")
		passes(t, "opened "+when, ours)
		sh(t, hostOf(1), loadRules)
		passes(t, "closed by a reload "+when, nothing)
	}
	does(t, closedPort+"the iptables chain INPUT drops it here", closedWay+"the iptables chain FORWARD drops it here")
	sh(t, hostOf(1), keepRules+"; "+loadRules)
	passes(t, "kept and reloaded", ours)
	openDoorway(t, doorwayOf(1))
	passes(t, "with the doorway loaded last", ours)
}

// TestOthersDockerOrders: Docker comes before and after, forwarding was on or off, and
// iptables is the old or the new one.
func TestOthersDockerOrders(t *testing.T) {
	for _, program := range []string{"nft", "legacy"} {
		for _, forwards := range []string{"0", "1"} {
			t.Run(program+forwards, func(t *testing.T) {
				if !besideOthers(t) {
					return
				}
				sh(t, "", "for p in iptables ip6tables; do for q in '' -save -restore; do ln -sf /usr/sbin/$p-"+program+"$q /etc/alternatives/$p$q; done; done; iptables --version")
				sh(t, hostOf(1), "sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.ip_forward="+forwards+"; sysctl -qw net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.mo-dir-hs.forwarding=1")
				o := openerOf(t)
				o.applies(opening, 0)
				stop := daemon(t, dockerd, docker)
				t.Log(sh(t, hostOf(1), "cat /proc/sys/net/ipv4/ip_forward; iptables -S FORWARD | head -1"))
				if said := say(t); len(said) > 0 {
					o.applies(opening, 2)
				}
				passes(t, "Docker comes later", everything)
				stop()
				daemon(t, dockerd, docker)
				passes(t, "Docker is started again", everything)
				openDoorway(t, doorwayOf(1))
				passes(t, "the doorway comes later", everything)
			})
		}
	}
}

// TestOthersFirewalldReloads: with what firewalld is told for good, and by its policy, both
// kinds of reload and another zone of the NIC change nothing.
func TestOthersFirewalldReloads(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	startFirewalld(t)
	o := openerOf(t)
	o.applies(opening, 3)
	passes(t, "opened", ours)
	for _, reload := range []string{"--reload", "--complete-reload"} {
		sh(t, hostOf(1), "firewall-cmd "+reload)
		o.holds(opening)
		passes(t, reload, ours)
		openDoorway(t, doorwayOf(1))
		passes(t, reload+", and the doorway", ours)
	}
	sh(t, hostOf(1), "firewall-cmd --zone=work --change-interface=eth0; firewall-cmd --permanent --zone=work --change-interface=eth0")
	o.applies(opening, 2)
	passes(t, "in another zone", ours)
	sh(t, hostOf(1), "firewall-cmd --complete-reload")
	o.holds(opening)
	passes(t, "in another zone, reloaded", ours)
	o.leaves(3)
	passes(t, "closed again", nothing)
}
