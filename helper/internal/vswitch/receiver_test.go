//go:build ovs

package vswitch

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
)

// receiverPort is the UDP port on which receivers note who speaks.
const receiverPort = 4711

// The hosts of these tests: frames come from a guest of host 1, the receiver is
// host 2, and host 256 is a third one.
const (
	receiverMAC = "02:6d:6f:02:00:02"
	receiverIP  = "10.31.128.2"
	receiverIP6 = "fe80::6d:6fff:fe02:2"
	thirdMAC    = "02:6d:6f:02:01:00"
	thirdIP     = "10.31.129.0"
	thirdIP6    = "fe80::6d:6fff:fe02:100"
	guestIP     = "10.31.200.7"
	guestIP6    = "fe80::5054:ff:fe00:a"
)

// members are the addresses that a guest of host 1 must not speak for, and their
// Ethernet addresses. Host 1's own access address is not among them: what speaks
// for it is bridged by it.
var members = map[string]string{
	"10.31.0.1": gateway, "10.31.0.2": "02:6d:6f:01:00:02", "10.31.1.0": "02:6d:6f:01:01:00",
	receiverIP: receiverMAC, thirdIP: thirdMAC, receiverIP6: receiverMAC, thirdIP6: thirdMAC,
}

// receiver is a kernel that stands for a member: a namespace with a link on which
// it has the member's addresses, and the kernel's own settings.
type receiver struct {
	t         *testing.T
	namespace string
	link      string
	mac, ip   string
	six       bool   // it speaks IPv6
	baseline  string // routes and addresses
	kernel    *netlink.Handle
	index     int

	mu      sync.Mutex
	sources map[string]bool // of datagrams
}

// newReceiver takes the link that is in the namespace already.
func newReceiver(t *testing.T, namespace, link, mac, ip string) *receiver {
	t.Helper()
	r := &receiver{t: t, namespace: namespace, link: link, mac: mac, ip: ip, sources: map[string]bool{}}
	r.run("ip", "link", "set", "lo", "up")
	// An entry may be overwritten at once, not only a second after it was made.
	r.run("sysctl", "-qw", "net.ipv4.neigh."+link+".locktime=0")
	// No duplicate address detection: it would have to be waited for.
	r.run("sysctl", "-qw", "net.ipv6.conf."+link+".accept_dad=0")
	r.run("ip", "link", "set", link, "address", mac, "up")
	r.run("ip", "addr", "add", ip+"/16", "broadcast", "10.31.255.255", "dev", link)
	waitUntil(t, "the addresses of "+namespace, func() bool { return !strings.Contains(r.run("ip", "addr"), "tentative") })
	for _, family := range []string{"udp4", "udp6"} {
		var conn *net.UDPConn
		if err := netns.Do(namespace, func() (err error) {
			conn, err = net.ListenUDP(family, &net.UDPAddr{Port: receiverPort})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go r.listen(conn)
	}
	r.check(netns.Do(namespace, func() (err error) {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		r.index = i.Index
		r.kernel, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
		return err
	}))
	t.Cleanup(r.kernel.Close)
	r.six = strings.Contains(r.run("ip", "-6", "addr", "show", "dev", link), "fe80")
	r.baseline = r.state()
	r.reset()
	return r
}

func (r *receiver) run(args ...string) string {
	r.t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", r.namespace}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("in %s: %s: %v\n%s", r.namespace, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (r *receiver) listen(conn *net.UDPConn) {
	buffer := make([]byte, 2048)
	for {
		_, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.sources[from.Addr().WithZone("").String()] = true
		r.mu.Unlock()
	}
}

// state is what routes and addresses there are.
func (r *receiver) state() string {
	r.t.Helper()
	routes, err := r.kernel.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	r.check(err)
	addresses, err := r.kernel.AddrList(nil, netlink.FAMILY_ALL)
	r.check(err)
	var lines []string
	for _, x := range routes {
		lines = append(lines, fmt.Sprintf("route to %v via %v, table %d, protocol %d, MTU %d", x.Dst, x.Gw, x.Table, x.Protocol, x.MTU))
	}
	for _, x := range addresses {
		lines = append(lines, fmt.Sprintf("address %v", x.IPNet))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func (r *receiver) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("in %s: %v", r.namespace, err)
	}
}

// reset makes the receiver forget what it was told, and know the members.
func (r *receiver) reset() {
	r.t.Helper()
	neighbors, err := r.kernel.NeighList(r.index, netlink.FAMILY_ALL)
	r.check(err)
	for i := range neighbors {
		if !neighbors[i].IP.IsMulticast() {
			_ = r.kernel.NeighDel(&neighbors[i]) // its time may have come meanwhile
		}
	}
	for ip, mac := range members {
		if mac != r.mac && (r.six || strings.Contains(ip, ".")) {
			r.check(r.kernel.NeighSet(&netlink.Neigh{LinkIndex: r.index, IP: net.ParseIP(ip), HardwareAddr: hw(mac), State: netlink.NUD_STALE}))
		}
	}
	if r.state() != r.baseline {
		// Routes that were advertised, and what else an advertisement brings.
		r.run("ip", "-6", "route", "flush", "proto", "ra")
		r.run("ip", "-6", "addr", "flush", "dev", r.link, "scope", "global")
		r.run("ip", "-6", "route", "flush", "root", "2001:db8::/32")
		if now := r.state(); now != r.baseline {
			r.t.Fatalf("%s does not forget %v", r.namespace, added(r.baseline, now))
		}
	}
	r.mu.Lock()
	r.sources = map[string]bool{}
	r.mu.Unlock()
	time.Sleep(8 * time.Millisecond) // an entry may be overwritten in the next tick (arp_process)
}

// lies is what the receiver believes of members that is not so.
func (r *receiver) lies() []string {
	r.t.Helper()
	var all []string
	neighbors, err := r.kernel.NeighList(r.index, netlink.FAMILY_ALL)
	r.check(err)
	owner := map[string]string{}
	for ip, mac := range members {
		owner[mac] = ip
	}
	for _, n := range neighbors {
		ip, _ := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		at := n.HardwareAddr.String()
		mac, member := members[ip.String()]
		switch {
		case at == "" || at == "00:00:00:00:00:00" || ip.IsMulticast():
		case member && at != mac, network.Ranges{}.Wire().Contains(ip), !member && owner[at] != "":
			all = append(all, ip.String()+" is at "+at)
		}
	}
	r.mu.Lock()
	for from := range r.sources {
		if a := netip.MustParseAddr(from).Unmap(); members[a.String()] != "" || (network.Ranges{}).Wire().Contains(a) {
			all = append(all, "a datagram of "+from)
		}
	}
	r.mu.Unlock()
	if now := r.state(); now != r.baseline {
		all = append(all, added(r.baseline, now)...)
	}
	sort.Strings(all)
	return all
}

// added returns the lines of b that a has not.
func added(a, b string) (all []string) {
	had := map[string]bool{}
	for _, line := range strings.Split(a, "\n") {
		had[line] = true
	}
	for _, line := range strings.Split(b, "\n") {
		if !had[line] {
			all = append(all, line)
		}
	}
	return all
}

// heard reports whether a datagram of the address arrived.
func (r *receiver) heard(from string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources[from]
}

// sender is a raw socket on a link of a namespace.
type sender struct {
	t  *testing.T
	fd int
}

func newSender(t *testing.T, namespace, link string) *sender {
	t.Helper()
	s := &sender{t: t}
	err := netns.Do(namespace, func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		// Protocol 0: it does not receive.
		if s.fd, err = syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return syscall.Bind(s.fd, &syscall.SockaddrLinklayer{Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(s.fd) })
	return s
}

func (s *sender) send(frame []byte) {
	s.t.Helper()
	for {
		_, err := syscall.Write(s.fd, frame)
		switch err {
		case nil:
			return
		case syscall.ENOBUFS, syscall.EAGAIN:
			time.Sleep(time.Millisecond)
		default:
			s.t.Fatalf("sending %x: %v", frame, err)
		}
	}
}

// bench is a guest of host 1, its switch, and those who receive.
type bench struct {
	*instance
	guest, direct *sender
	// behind is host 2, of which the switch is told that it is a local port, since
	// what the pins let through to it is the same; gateway is host 1's. twin is
	// host 2 without a switch: it tells what the kernel would believe.
	behind, gateway, twin *receiver
	marks                 int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	in := startInstance(t)
	guest, host, twin := in.namespace+"g", in.namespace+"h", in.namespace+"t"
	for _, name := range []string{guest, host, twin} {
		in.must("ip", "netns", "add", name)
		t.Cleanup(func() { in.must("ip", "netns", "delete", name) })
	}
	in.in("ip", "link", "set", "veth_fac0", "netns", guest)
	in.in("ip", "link", "add", "lab0", "type", "veth", "peer", "name", "host0", "netns", host)
	in.must("ip", "-n", guest, "link", "add", "direct0", "type", "veth", "peer", "name", "host0", "netns", twin)
	in.must("ip", "netns", "exec", guest, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	in.in("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1") // as the plan has it
	for _, link := range []string{"veth_fac0", "direct0"} {
		in.must("ip", "-n", guest, "link", "set", link, "address", guestA, "up")
	}
	// Open vSwitch's own datapath only listens in: the kernel would receive what it
	// drops.
	in.in("nft", "add table netdev lab")
	for i, link := range []string{"mo-fac-ovs", "lab0"} {
		in.in("ip", "link", "set", link, "up")
		in.in("nft", fmt.Sprintf("add chain netdev lab in%d { type filter hook ingress device %q priority 0; policy drop; }", i, link))
	}
	sw := example(1, 1, 2, 256)
	sw.LocalPorts = []string{"mo-fac-ovs", "lab0"}
	in.apply(sw, nil)
	for _, flow := range []string{
		fmt.Sprintf("table=%d,priority=3,dl_dst=%s,actions=load:%d->NXM_NX_REG%d[]", tableLearned, receiverMAC, firstLocalPort+1, learnedPort),
		fmt.Sprintf("table=%d,priority=300,arp,arp_tpa=%s,actions=output:%d", tableAsked, receiverIP, firstLocalPort+1),
	} {
		in.must("ovs-ofctl", "--protocols="+openFlow, "add-flow", sw.Bridge, flow)
	}
	return &bench{
		instance: in, guest: newSender(t, guest, "veth_fac0"), direct: newSender(t, guest, "direct0"),
		behind:  newReceiver(t, host, "host0", receiverMAC, receiverIP),
		gateway: newReceiver(t, in.namespace, sw.Bridge, gateway, "10.31.0.1"),
		twin:    newReceiver(t, twin, "host0", receiverMAC, receiverIP),
	}
}

// settle waits until the switch and the kernels have done with what was sent. Both
// take frames in order, so that the last one tells: a datagram that nobody objects
// to, from an address that is new each time.
func (b *bench) settle() {
	b.t.Helper()
	b.marks++
	from := fmt.Sprintf("10.31.240.%d", b.marks%250+1)
	mark := ethernet(all, guestA, udp4(from, "10.31.255.255").bytes())
	b.guest.send(mark)
	b.direct.send(mark)
	for _, r := range []*receiver{b.behind, b.gateway, b.twin} {
		deadline := time.Now().Add(20 * time.Second)
		for !r.heard(from) {
			if time.Sleep(time.Millisecond); time.Now().After(deadline) {
				b.t.Fatalf("%s heard no datagram of %s", r.namespace, from)
			}
		}
	}
}
