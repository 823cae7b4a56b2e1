//go:build kernel

package firewall

import (
	"strings"
	"testing"
)

// libvirt's network 'default', by either of its firewall_backend of network.conf: its
// machines are led outside, and nobody is led to them.
const (
	libvirtNftables = `nft -f - <<'end'
table ip libvirt_network {
	chain forward { type filter hook forward priority filter; policy accept; counter jump guest_cross; counter jump guest_input; counter jump guest_output; }
	chain guest_output { ip saddr 192.168.122.0/24 iif "virbr0" counter accept; iif "virbr0" counter reject; }
	chain guest_input { oif "virbr0" ip daddr 192.168.122.0/24 ct state established,related counter accept; oif "virbr0" counter reject; }
	chain guest_cross { iif "virbr0" oif "virbr0" counter accept; }
	chain guest_nat {
		type nat hook postrouting priority srcnat; policy accept
		ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 counter return
		ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 counter return
		meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
		meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
		ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade
	}
}
end`
	libvirtIptables = `iptables-restore -n <<'end'
*filter
:LIBVIRT_INP - [0:0]
:LIBVIRT_OUT - [0:0]
:LIBVIRT_FWI - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_FWX - [0:0]
-I INPUT -j LIBVIRT_INP
-I OUTPUT -j LIBVIRT_OUT
-I FORWARD -j LIBVIRT_FWO
-I FORWARD -j LIBVIRT_FWI
-I FORWARD -j LIBVIRT_FWX
-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 53 -j ACCEPT
-A LIBVIRT_INP -i virbr0 -p tcp -m tcp --dport 53 -j ACCEPT
-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 67 -j ACCEPT
-A LIBVIRT_OUT -o virbr0 -p udp -m udp --dport 53 -j ACCEPT
-A LIBVIRT_OUT -o virbr0 -p udp -m udp --dport 68 -j ACCEPT
-A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWO -s 192.168.122.0/24 -i virbr0 -j ACCEPT
-A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
COMMIT
*nat
:LIBVIRT_PRT - [0:0]
-I POSTROUTING -j LIBVIRT_PRT
-A LIBVIRT_PRT -s 192.168.122.0/24 -d 224.0.0.0/24 -j RETURN
-A LIBVIRT_PRT -s 192.168.122.0/24 -d 255.255.255.255/32 -j RETURN
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -p tcp -j MASQUERADE --to-ports 1024-65535
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -p udp -j MASQUERADE --to-ports 1024-65535
-A LIBVIRT_PRT -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
COMMIT
end`
)

// kubernetes are the rules of kube-proxy and kubelet for one service with a port of each
// node, and those of the network of its pods.
const kubernetes = `iptables-restore -n <<'end'
*filter
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
:FLANNEL-FWD - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A FORWARD -j FLANNEL-FWD
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-EXT-WEB - [0:0]
:KUBE-SVC-WEB - [0:0]
:KUBE-SEP-WEB - [0:0]
:FLANNEL-POSTRTG - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A POSTROUTING -j FLANNEL-POSTRTG
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-WEB
-A KUBE-EXT-WEB -j KUBE-MARK-MASQ
-A KUBE-EXT-WEB -j KUBE-SVC-WEB
-A KUBE-SVC-WEB ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-WEB -j KUBE-SEP-WEB
-A KUBE-SEP-WEB -s 10.244.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-WEB -p tcp -m tcp -j DNAT --to-destination 10.244.0.2:80
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
COMMIT
end`

// inEitherOrder loads what has machines of its own behind host 1, a router then, after
// Mobula's table and before it. What holds of theirs does so each time, and without Mobula,
// whose guests get outside all the while; their rules are not touched.
func inEitherOrder(t *testing.T, rules string, holds func(when string)) {
	t.Helper()
	sh(t, hostOf(1), "sysctl -qw net.ipv4.ip_forward=1")
	router := doorwayOf(1)
	router.Opened = nil
	openDoorway(t, router)
	sh(t, hostOf(1), rules)
	theirs := withoutOurs(t)
	for _, when := range []string{"loaded after Mobula's", "loaded before Mobula's"} {
		holds(when)
		passes(t, when, everything)
		if said := say(t); len(said) > 0 {
			t.Errorf("%s: said %q", when, said)
		}
		if now := withoutOurs(t); now != theirs {
			t.Errorf("%s: theirs are\n%s\nwanted\n%s", when, now, theirs)
		}
		openDoorway(t, router)
	}
	sh(t, hostOf(1), "nft delete table inet mobula")
	holds("without Mobula")
	if now := withoutOurs(t); now != theirs {
		t.Errorf("without Mobula theirs are\n%s\nwanted\n%s", now, theirs)
	}
	openDoorway(t, router)
}

// withoutOurs are the rules of host 1 that are not Mobula's.
func withoutOurs(t *testing.T) (all string) {
	t.Helper()
	for _, table := range strings.Split(sh(t, hostOf(1), "nft list tables"), "\n") {
		if !strings.HasSuffix(table, " mobula") {
			all += sh(t, hostOf(1), "nft -s list "+table) + "\n"
		}
	}
	return all
}

// answered holds what each is answered, as whom it is seen; "": by nobody.
func answered(t *testing.T, when, from, to, as string) {
	t.Helper()
	limit := patience
	if as == "" {
		limit = quiet
	}
	if got := askFor(from, to, limit); got != as {
		t.Errorf("%s: %s is seen by %s as %q, wanted %q", when, from, to, got, as)
	}
}

func TestOthersLibvirt(t *testing.T) {
	for backend, rules := range map[string]string{"nftables": libvirtNftables, "iptables": libvirtIptables} {
		t.Run(backend, func(t *testing.T) {
			if !besideOthers(t) {
				return
			}
			machineBehind(t, "machine", "virbr0", "192.168.122.1/24", "192.168.122.2/24")
			serve(t, "machine", "192.168.122.2:80")
			sh(t, outside, "ip route add 192.168.122.0/24 via 192.0.2.1")
			inEitherOrder(t, rules, func(when string) {
				t.Helper()
				answered(t, when, "machine", "198.51.100.1:80", "192.0.2.1")
				answered(t, when, hostOf(1), "192.168.122.2:80", "192.168.122.1")
				answered(t, when, outside, "192.168.122.2:80", "")
			})
		})
	}
}

func TestOthersKubernetes(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	machineBehind(t, "pod", "cni0", "10.244.0.1/24", "10.244.0.2/24")
	serve(t, "pod", "10.244.0.2:80")
	const bridge = "10.244.0.1" // by which the node asks pods
	theirs := func(when string) {
		t.Helper()
		answered(t, when, "pod", "198.51.100.1:80", "192.0.2.1")
		answered(t, when, outside, "192.0.2.1:30080", bridge)
		answered(t, when, hostOf(1), "10.96.0.10:80", bridge)
	}
	inEitherOrder(t, kubernetes, theirs)
	inside := func(when string) { // the port of the node, at its addresses inside
		t.Helper()
		answered(t, when, hostOf(2), "10.30.0.1:30080", bridge)
		answered(t, when, guestOf(1), "10.31.128.1:30080", bridge)
	}
	inside("beside Mobula")
	// A node whose filter forwards nothing but its own is opened as any other.
	sh(t, hostOf(1), "iptables -P FORWARD DROP")
	passes(t, "closed", "port intrawire access own")
	theirs("closed")
	sh(t, hostOf(1), "iptables -I FORWARD -i mo-dir-hs -j ACCEPT; iptables -I FORWARD -o mo-dir-hs -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	passes(t, "opened", everything)
	inside("opened")
}
