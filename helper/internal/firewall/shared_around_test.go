package firewall

import "testing"

// unbridged keeps br_netfilter, which Open vSwitch does not pass, from the bridge that
// stands in for it.
func unbridged(t *testing.T) {
	t.Helper()
	sh(t, gateway(1), "[ ! -e /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0")
}

// TestSharedAccessLinkIsNoRouter: a guest that takes the host for its router reaches none
// of the host's other addresses and networks, whatever else forwards there.
func TestSharedAccessLinkIsNoRouter(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	unbridged(t)
	machineBehind(t, "container", "docker0", "172.17.0.1/16", "172.17.0.2/16")
	sh(t, hostOf(1), `sysctl -qw net.ipv4.ip_forward=1
nft 'table ip others { chain out { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }; }'`)
	serve(t, hostOf(1), "0.0.0.0:8081")
	serve(t, "container", "172.17.0.2:80")
	serve(t, outside, "169.254.169.254:80")
	if got := ask(guestOf(1), "10.31.128.1:8081"); got != "10.31.200.1" {
		t.Errorf("the guest is answered %q by the host at its access address", got)
	}
	for _, way := range []string{"10.31.128.1", "10.31.0.1"} {
		sh(t, guestOf(1), "for to in 192.0.2.1 169.254.169.254 172.17.0.2; do ip route replace $to via "+way+"; done")
		for _, to := range []string{"192.0.2.1:8081", "172.17.0.2:80", "169.254.169.254:80"} {
			if got := askFor(guestOf(1), to, quiet); got != "" {
				t.Errorf("by %s the guest is answered %q by %s", way, got, to)
			}
		}
	}
}

// TestSharedPublishedByAContainer: what the host leads to a container answers inside as it
// does outside, and by the host's inside addresses alone.
func TestSharedPublishedByAContainer(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	unbridged(t)
	machineBehind(t, "container", "docker0", "172.17.0.1/16", "172.17.0.2/16")
	sh(t, hostOf(1), `sysctl -qw net.ipv4.conf.docker0.forwarding=1 net.ipv4.conf.veth_fac0.forwarding=1
nft 'table ip others { chain in { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80; }; }' `)
	serve(t, "container", "172.17.0.2:80")
	for _, c := range []struct{ from, to, as string }{
		{outside, "192.0.2.1:8080", "192.0.2.3"}, {hostOf(2), "10.30.0.1:8080", "10.30.0.2"}, {guestOf(1), "10.31.128.1:8080", "10.31.200.1"},
	} {
		if got := ask(c.from, c.to); got != c.as {
			t.Errorf("%s is answered %q by the container at %s, wanted as %s", c.from, got, c.to, c.as)
		}
	}
	for _, way := range []string{"10.31.128.1", "10.31.0.1"} {
		sh(t, guestOf(1), "ip route replace 192.0.2.1 via "+way)
		if got := askFor(guestOf(1), "192.0.2.1:8080", quiet); got != "" {
			t.Errorf("by %s the guest is answered %q at the host's address outside", way, got)
		}
	}
}

// TestSharedGuestTakesNoPort: whoever outside answers a service of the host is heard by
// that service, whatever a guest has sent there before.
func TestSharedGuestTakesNoPort(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	// Of one priority, the table that was loaded last would come first.
	sh(t, hostOf(1), `nft 'table ip others { chain out { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/8 oifname "eth0" masquerade; }; }'`)
	for _, port := range []string{"4500", "51820"} {
		service, third := udp(t, hostOf(1), "192.0.2.1:"+port), udp(t, outside, "198.51.100.1:"+port)
		guest := udp(t, guestOf(1), "10.31.200.1:"+port)
		send(t, guest, "198.51.100.1:"+port, "guest")
		if text, from := hear(t, third); text != "guest" || from.String() == "192.0.2.1:"+port {
			t.Errorf("the outside hears %q from %s", text, from)
		}
		send(t, third, "192.0.2.1:"+port, "for the host")
		if text, _ := hearFor(t, guest, quiet); text != "" {
			t.Errorf("the guest hears %q", text)
		}
		if text, _ := hear(t, service); text != "for the host" {
			t.Errorf("the service at %s hears %q", port, text)
		}
	}
}

// TestSharedForgedElsewhere: an interface without a way outside brings nobody's inside
// address either.
func TestSharedForgedElsewhere(t *testing.T) {
	if !sharedWorld(t) {
		return
	}
	machineBehind(t, "lan", "eth1", "203.0.113.1/24", "203.0.113.2/24")
	sh(t, "lan", "ip addr add 10.31.77.7/32 dev lo; ip addr add 10.30.0.2/32 dev lo")
	sh(t, hostOf(1), "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=2")
	service := udp(t, hostOf(1), "10.30.0.1:77")
	for _, from := range []string{"10.31.77.7:9", "10.30.0.2:9"} {
		send(t, udp(t, "lan", from), "10.30.0.1:77", from)
		if text, at := hearFor(t, service, quiet); text != "" {
			t.Errorf("the host hears %q from %s", text, at)
		}
	}
}
