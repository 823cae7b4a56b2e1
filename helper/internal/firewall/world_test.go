package firewall

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/spec"
)

// The namespaces of the test's network. Host n has the gateway gateway<n>, and
// what is bridged to its access network is guest<n>.
const (
	outside = "outside" // 198.51.100.1 and the cloud's 169.254.169.254, with other members
	// patience is for what has to come, quiet for what must not.
	patience, quiet = 5 * time.Second, 300 * time.Millisecond
	plenty          = 8 << 30 // bytes of memory
)

var members = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("192.0.2.2:51820"),
	netip.MustParseAddrPort("192.0.2.3:51820"), netip.MustParseAddrPort("192.0.2.4:51820")}

// firewallOf returns the plan of host id's firewall in the test's network.
func firewallOf(id uint16) *spec.Firewall {
	f := &spec.Firewall{
		HostID: id, External: spec.ExternalLink, Wire: spec.WireLink, Access: spec.SwitchBridge, Direct: spec.DirectGateway,
		WireGuardPort: 51820, TunnelPort: spec.TunnelUDPPort, ProbePort: spec.ProbeUDPPort, MeshPort: spec.MeshUDPPort, CarryPort: spec.CarryUDPPort, PagePort: spec.PageTCPPort,
		Public:    []netip.Addr{members[id-1].Addr()},
		Published: []network.Port{{Protocol: "tcp", Number: 22}, {Protocol: "udp", Number: 443}},
	}
	for i, m := range members {
		if other := uint16(i + 1); other != id {
			f.Members = append(f.Members, m)
			f.Relays = append(f.Relays, spec.Relay{HostID: other, Port: network.RelayPort(network.Host{Endpoint: members[id-1]}, other), Endpoint: m})
		}
	}
	return f
}

// sharedFirewallOf is firewallOf on a host that keeps its NIC.
func sharedFirewallOf(id uint16) *spec.Firewall {
	f := firewallOf(id)
	f.External, f.Public, f.Published, f.Members, f.Relays = "", nil, nil, nil, nil
	return f
}

// doorwayOf returns the plan of the table in the host's own namespace.
func doorwayOf(id uint16) *spec.Doorway {
	return &spec.Doorway{HostID: id, Direct: spec.DirectHost, Access: spec.AccessLink, WireGuardPort: 51820, Outside: []string{"eth0"}, Opened: []string{"eth0"},
		Endpoint: members[id-1].Addr(), Relays: firewallOf(id).Relays}
}

// world builds hosts 1 and 2, each with its gateway and a guest, in namespaces that
// nobody else sees: the test runs again in a process of its own, in which world
// returns true. The members 3 and 4 and the rest of the Internet are one namespace.
func world(t *testing.T) bool {
	t.Helper()
	return worldWith(t, firewallOf)
}

// worldWith is world in which host 1 has that firewall: its NIC is in its own namespace
// if the firewall says so.
func worldWith(t *testing.T, first func(uint16) *spec.Firewall) bool {
	t.Helper()
	if !netnstest.Alone(t) {
		return false
	}
	netnstest.Namespace(t, outside)
	sh(t, outside, `ip link add net type bridge; ip link set net up; sysctl -qw net.ipv4.ip_forward=0
ip addr add 192.0.2.3/24 dev net; ip addr add 192.0.2.4/24 dev net
ip addr add 198.51.100.1/32 dev net; ip addr add 169.254.169.254/32 dev net`)
	firewalls := []*spec.Firewall{first(1), firewallOf(2)}
	for _, f := range firewalls {
		site(t, f)
	}
	// The tunnel: no addresses are resolved on it.
	sh(t, "gateway1", `ip link add mo-wg-gw address 02:00:00:00:00:01 type veth peer name mo-wg-gw address 02:00:00:00:00:01 netns gateway2`)
	for _, f := range firewalls {
		sh(t, gateway(f.HostID), `ip link set mo-wg-gw arp off up; ip route add 10.30.0.0/16 dev mo-wg-gw src 10.30.0.0`)
		if err := New(gateway(f.HostID), t.TempDir()).load(context.Background(), Render(f, plenty)); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, outside, gateway(1), hostOf(1), guestOf(1), gateway(2), hostOf(2), guestOf(2))
	return true
}

// settled waits until the kernel has seen the carrier of all links, and bridges forward: on
// a busy machine it takes its time, and drops what is sent before.
func settled(t *testing.T, namespaces ...string) {
	t.Helper()
	for _, ns := range namespaces {
		sh(t, ns, `for i in $(seq 200); do
	ip -o link show up | grep -qE 'NO-CARRIER|LOWERLAYERDOWN' || bridge link | grep -qE 'state (disabled|listening|learning)' || exit 0
	sleep 0.05
done; ip link; bridge link; exit 1`)
	}
}

func gateway(id uint16) string { return fmt.Sprintf("gateway%d", id) }
func hostOf(id uint16) string  { return fmt.Sprintf("host%d", id) }
func guestOf(id uint16) string { return fmt.Sprintf("guest%d", id) }

// site builds a host as the plan does, its switch being a bridge.
func site(t *testing.T, f *spec.Firewall) {
	t.Helper()
	id := f.HostID
	for _, ns := range []string{gateway(id), hostOf(id), guestOf(id)} {
		netnstest.Namespace(t, ns)
	}
	intrawire, access, guest := network.Ranges{}.IntrawireAddress(id), network.Ranges{}.AccessAddress(id), fmt.Sprintf("10.31.200.%d", id)
	sh(t, gateway(id), fmt.Sprintf(`sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.arp_ignore=1
ip link add ovsbr-mobula address %[1]s type bridge; ip link set ovsbr-mobula up; ip addr add %[2]s/16 dev ovsbr-mobula
ip link add mo-dir-gw type veth peer name mo-dir-hs netns %[3]s; ip link set mo-dir-gw up; ip addr add 10.30.0.0/32 dev mo-dir-gw
ip link add mo-fac-ovs type veth peer name veth_fac0 address %[4]s netns %[3]s; ip link set mo-fac-ovs master ovsbr-mobula up
ip link add port type veth peer name eth0 netns %[5]s; ip link set port master ovsbr-mobula up`,
		network.MAC(network.RoleGateway, id), network.Ranges{}.GatewayAddress(id), hostOf(id), network.MAC(network.RoleAccess, id), guestOf(id)))
	nic := func(ns, name string) {
		sh(t, ns, fmt.Sprintf(`ip link add %[1]s type veth peer name site%[2]d netns outside; ip link set %[1]s up; ip addr add 192.0.2.%[2]d/24 dev %[1]s
ip route add default via 192.0.2.3`, name, id))
		sh(t, outside, fmt.Sprintf("ip link set site%d master net up", id))
	}
	sh(t, hostOf(id), fmt.Sprintf(`sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
ip link set mo-dir-hs up; ip addr add %[1]s/32 dev mo-dir-hs
ip link set veth_fac0 up; ip addr add %[2]s/16 dev veth_fac0
ip route add default via 10.30.0.0 dev mo-dir-hs onlink src %[1]s table 1030`, intrawire, access))
	sh(t, gateway(id), fmt.Sprintf("ip route add %s dev mo-dir-gw", intrawire))
	if f.External == "" {
		nic(hostOf(id), "eth0")
		sh(t, hostOf(id), "sysctl -qw net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.mo-dir-hs.forwarding=1")
		sh(t, gateway(id), fmt.Sprintf("ip route add default via %s dev mo-dir-gw", intrawire))
	} else {
		nic(gateway(id), f.External)
		sh(t, hostOf(id), fmt.Sprintf("ip route add default via 10.30.0.0 dev mo-dir-hs onlink src %s", intrawire))
	}
	sh(t, guestOf(id), fmt.Sprintf("ip link set eth0 up; ip addr add %s/16 dev eth0; ip route add default via %s", guest, network.Ranges{}.GatewayAddress(id)))
	rules(t, id, f.External == "")
}

// rules gives the host the rules of its plan. By a NIC of its own it asks its cloud itself.
func rules(t *testing.T, id uint16, shared bool) {
	t.Helper()
	d := &network.Document{UnderlayMTU: 1500, Hosts: []network.Host{{ID: id, PublicKey: network.Key{1}, Endpoint: members[id-1]}}}
	h, err := plan.Build(d, id, spec.Facts{Uplink: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range h.Rules {
		if shared && r.Priority > spec.RulePriority+1 {
			continue
		}
		rule := fmt.Sprintf("ip rule add priority %d", r.Priority)
		if r.From.IsValid() {
			rule += " from " + r.From.String()
		}
		if r.To.IsValid() {
			rule += " to " + r.To.String()
		}
		if r.Table == 0 {
			rule += " lookup main"
		} else {
			rule += fmt.Sprint(" lookup ", r.Table)
		}
		if r.Specific {
			rule += " suppress_prefixlength 0"
		}
		sh(t, hostOf(id), rule)
	}
}

// sh runs a script in a namespace and returns what it prints.
func sh(t *testing.T, ns, script string) string {
	t.Helper()
	var out []byte
	err := netns.Do(ns, func() (err error) {
		out, err = exec.Command("bash", "-euc", script).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("in %s: %s: %v: %s", ns, script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// udp opens a UDP socket in a namespace.
func udp(t *testing.T, ns, at string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := netns.Do(ns, func() error {
		c, err := net.ListenPacket("udp4", at)
		if err == nil {
			conn = c.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func send(t *testing.T, conn *net.UDPConn, to, text string) {
	t.Helper()
	if _, err := conn.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// hear returns what arrives at a socket, and from where; "" if nothing does.
func hear(t *testing.T, conn *net.UDPConn) (text string, from netip.AddrPort) {
	t.Helper()
	return hearFor(t, conn, patience)
}

func hearFor(t *testing.T, conn *net.UDPConn, most time.Duration) (text string, from netip.AddrPort) {
	t.Helper()
	b := make([]byte, 100)
	if err := conn.SetReadDeadline(time.Now().Add(most)); err != nil {
		t.Fatal(err)
	}
	n, from, err := conn.ReadFromUDPAddrPort(b)
	if err != nil {
		return "", netip.AddrPort{}
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// serve answers each TCP connection with the address that it came from.
func serve(t *testing.T, ns, at string) {
	t.Helper()
	var listener net.Listener
	err := netns.Do(ns, func() (err error) {
		listener, err = net.Listen("tcp4", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
			conn.Close()
		}
	}()
}

// ask connects from a namespace and returns what serve answers; "" for none.
func ask(ns, to string) string { return askFor(ns, to, patience) }

func askFor(ns, to string, most time.Duration) string { return seen(ns, "", to, most) }
