//go:build kernel

package links_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// The tests below run the real driver on this machine's kernel, each in a network
// and a mount namespace of its own. The uplink is a veth whose other end is in a
// third namespace, as in a container.

const inside = "MOBULA_TEST_INSIDE"

// apart runs the test once more in a process of its own with its own namespaces,
// and tells whether this is that process.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		for _, args := range []string{"mount --make-rprivate /", "mount -t tmpfs tmpfs /run", "mount -t sysfs sysfs /sys", "ip link set lo up"} {
			run(t, args)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("the build tag kernel is for root")
	}
	parts := strings.Split(t.Name(), "/")
	for i := range parts {
		parts[i] = "^" + parts[i] + "$"
	}
	c := exec.Command(os.Args[0], "-test.run="+strings.Join(parts, "/"), "-test.v")
	c.Env = append(os.Environ(), inside+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func run(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// snapshot is everything that ip(8) and sysctl(8) tell of the host and that does not
// count time.
func snapshot(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	run(t, "for i in $(seq 100); do [ -n \"$(ip -6 addr show tentative)$(ip link show | grep NO-CARRIER)\" ] || exit 0; sleep 0.05; done; ip addr; exit 1")
	for _, what := range []string{"link", "addr", "-4 route show table all", "-6 route show table all", "-4 rule", "-6 rule", "neigh show nud permanent", "nexthop"} {
		var items []any
		if out := run(t, "ip -d -j "+what); strings.TrimSpace(out) != "" {
			if err := json.Unmarshal([]byte(out), &items); err != nil {
				t.Fatalf("ip %s: %v", what, err)
			}
		}
		var lines []string
		withoutTime(items)
		for _, item := range items {
			if object, ok := item.(map[string]any); ok {
				delete(object, "ifindex") // the kernel gives another one
			}
			line, err := json.Marshal(item)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(line))
		}
		if strings.HasPrefix(what, "-6") || what == "link" || what == "addr" { // stands in no order that means anything
			sort.Strings(lines)
		}
		all[what] = strings.Join(lines, "\n")
	}
	for _, pattern := range []string{"ipv4/conf/*/*", "ipv4/neigh/*/*", "ipv6/conf/*/*", "ipv6/neigh/*/*"} {
		paths, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			value, _ := os.ReadFile(path)
			all[path] = string(value)
		}
	}
	return all
}

// withoutTime removes what is left of lives that end.
func withoutTime(value any) {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			withoutTime(one)
		}
	case map[string]any:
		delete(v, "expires")
		for _, life := range []string{"valid_life_time", "preferred_life_time"} {
			if left, ok := v[life].(float64); ok && left > 0 && left < 1<<32-1 {
				delete(v, life)
			}
		}
		for _, one := range v {
			withoutTime(one)
		}
	}
}

func compare(t *testing.T, when string, before, after map[string]string) {
	t.Helper()
	for what, was := range before {
		if is := after[what]; is != was {
			t.Errorf("%s: %s\n%s", when, what, difference(was, is))
		}
	}
	for what := range after {
		if _, ok := before[what]; !ok {
			t.Errorf("%s: %s is new", when, what)
		}
	}
}

// difference is the lines that only one of two texts has, or both if none is.
func difference(was, is string) string {
	var lines []string
	for _, line := range strings.Split(was, "\n") {
		if !strings.Contains(is, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range strings.Split(is, "\n") {
		if !strings.Contains(was, line) {
			lines = append(lines, "+ "+line)
		}
	}
	if len(lines) == 0 {
		return "in another order:\n" + was + "\n\n" + is
	}
	return strings.Join(lines, "\n")
}

// standIns replaces what this kernel or this package cannot make.
func standIns(h *spec.Host) *spec.Host {
	for i, l := range h.Links {
		if l.Kind == spec.WireGuardDevice || l.Kind == spec.Internal {
			h.Links[i].Kind = spec.Bridge
		}
	}
	return h
}

// host makes an uplink with what the lines do to it.
func host(t *testing.T, lines string) {
	t.Helper()
	run(t, `ip netns add outside
for f in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$f; done
ip link add ens3 type veth peer name there netns outside
ip -n outside link set there up
ip link set ens3 up
ip link add ens4 type veth peer name other netns outside
ip -n outside link set other up
ip link set ens4 up
set -e
`+lines)
}

func reconciler() *reconcile.Reconciler {
	return &reconcile.Reconciler{Subjects: []reconcile.Subject{links.New(links.Netlink{})}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// change carries out what apply does, and looks again.
func change(t *testing.T, want, previous *spec.Host) {
	t.Helper()
	r := reconciler()
	ops, err := r.Plan(context.Background(), want, previous)
	if err == nil {
		err = r.Execute(context.Background(), ops)
	}
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, strings.Join(texts(ops), "\n"))
	}
	again, err := r.Plan(context.Background(), want, want)
	if err != nil || len(again) > 0 {
		t.Fatalf("%v, a second look finds\n%s\nafter\n%s", err, strings.Join(texts(again), "\n"), strings.Join(texts(ops), "\n"))
	}
}

// kept are hosts whose NIC moves and comes back exactly as it was. want, if not
// empty, is a command that has to succeed while it is away.
var kept = []struct{ name, lines, want string }{
	{"plain", "ip addr add 192.0.2.2/24 brd + dev ens3; ip route add default via 192.0.2.1", ""},
	{"no broadcast address", "ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1", ""},
	{"peer", "ip addr add 203.0.113.10 peer 172.31.1.1/32 dev ens3; ip route add default via 172.31.1.1", "ip -n mobula route get 8.8.8.8 | grep 'via 172.31.1.1 dev mo-ext-gw src 203.0.113.10'"},
	{"peer and onlink", "ip addr add 203.0.113.10 peer 172.31.1.1/32 dev ens3; ip route add default via 172.31.1.1 dev ens3 onlink", ""},
	{"gateway on the link", "ip addr add 203.0.113.10/32 dev ens3; ip route add 172.31.1.1 dev ens3; ip route add default via 172.31.1.1", ""},
	{"gateway on the link in another order", "ip addr add 203.0.113.10/32 dev ens3; ip route add default via 172.31.1.1 dev ens3 onlink; ip route add 172.31.1.1 dev ens3 src 203.0.113.10", ""},
	{"own subnet through the gateway", "ip addr add 192.0.2.2/26 brd + dev ens3; ip route add default via 192.0.2.1; ip route prepend 192.0.2.0/26 via 192.0.2.1 dev ens3", "ip -n mobula route get 192.0.2.9 | grep 'via 192.0.2.1'"},
	{"own subnet behind the kernel's", "ip addr add 192.0.2.2/26 brd + dev ens3; ip route add default via 192.0.2.1; ip route append 192.0.2.0/26 via 192.0.2.1 dev ens3; ip route append 192.0.2.0/26 via 192.0.2.3 dev ens3", ""},
	{"own subnet instead of the kernel's", "ip addr add 192.0.2.2/26 brd + dev ens3; ip route add default via 192.0.2.1; ip route replace 192.0.2.0/26 via 192.0.2.1 dev ens3", "ip -n mobula route get 192.0.2.9 | grep 'via 192.0.2.1'"},
	{"a stack of default routes", "ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1; ip route append default via 192.0.2.3; ip route prepend default via 192.0.2.4; ip route add default via 192.0.2.5 metric 100", "ip -n mobula route get 8.8.8.8 | grep 'via 192.0.2.4'"},
	{"attributes of addresses", "ip addr add 192.0.2.2/24 brd 192.0.2.254 label ens3:1 dev ens3; ip addr add 192.0.2.3/24 brd + label ens3:2 dev ens3; ip addr add 198.51.100.7/28 dev ens3 noprefixroute; ip addr add 10.9.9.9/32 dev ens3 scope host; ip addr add 10.8.8.8/24 dev ens3 metric 77; ip addr add 10.7.7.7/24 dev ens3 preferred_lft 0; ip addr add 10.6.6.6/24 scope link dev ens3; ip route add default via 192.0.2.1", ""},
	{"attributes of routes", "ip addr add 192.0.2.2/24 dev ens3; ip addr add 192.0.2.3/24 dev ens3; ip route add default via 192.0.2.1 src 192.0.2.3 mtu lock 1400 advmss 1340 initcwnd 30 rto_min 50ms quickack 1; ip route add 10.5.0.0/16 via 192.0.2.7 metric 5 proto boot window 5000 hoplimit 9; ip route add 10.4.0.0/16 dev ens3 scope global; ip route add 10.3.0.0/16 dev ens3 proto 99 congctl reno", "ip -n mobula route get 10.5.0.1 | grep 192.0.2.7"},
	{"made by a manager", "ip addr add 192.0.2.2/24 dev ens3 noprefixroute; ip route add 192.0.2.0/24 dev ens3 proto kernel scope link src 192.0.2.2 metric 100; ip route add default via 192.0.2.1 proto static metric 100", ""},
	{"IPv6", "ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1; ip addr add 2001:db8::2/64 dev ens3; ip addr add 2001:db8::3/128 dev ens3 preferred_lft 0; ip addr add fe80::77/64 dev ens3; ip addr add 2001:db8:1::1/64 dev ens3 noprefixroute nodad; ip addr add 2001:db8:2::1/64 dev ens3 home metric 55; ip -6 route add default via fe80::1 dev ens3 metric 7 mtu 1400 pref high; ip -6 route add 2001:db8:9::/48 via 2001:db8::1; ip -6 route add 2001:db8:8::/48 dev ens3 metric 9 pref low; ip -6 route add 2001:db8:7::/48 via 2001:db8:5::1 dev ens3 onlink", ""},
	{"its own settings", "sysctl -qw net.ipv4.conf.ens3.rp_filter=2 net.ipv4.conf.ens3.arp_ignore=1 net.ipv6.conf.ens3.accept_ra=0 net.ipv6.conf.ens3.autoconf=0 net.ipv4.neigh.ens3.gc_stale_time=90 net.ipv6.neigh.ens3.ucast_solicit=5 net.ipv4.conf.ens3.promote_secondaries=1 net.ipv6.conf.ens3.mtu=1300; ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1", ""},
	{"no IPv6 on it", "sysctl -qw net.ipv6.conf.ens3.disable_ipv6=1; ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1", ""},
	{"no link-local address", "sysctl -qw net.ipv6.conf.ens3.addr_gen_mode=1; ip link set ens3 down; ip link set ens3 up; ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1; ip addr add fe80::5/64 dev ens3 noprefixroute; ip -6 route add fe80::/64 dev ens3 proto kernel metric 1024", ""},
	{"attributes of the link", "ip link set ens3 mtu 1400 txqueuelen 77 alias uplink group 5 promisc on; ip link property add dev ens3 altname enp0s3; ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1", ""},
	{"a second NIC with the default route", "ip addr add 192.0.2.2/24 dev ens3; ip addr add 198.51.100.2/24 dev ens4; ip route add default via 198.51.100.1 dev ens4; ip -6 addr add 2001:db8::2/64 dev ens4; ip -6 route add default via 2001:db8::1", "ip route get 8.8.8.8 | grep 'via 198.51.100.1 dev ens4'"},
	{"default routes on two NICs", "ip addr add 192.0.2.2/24 dev ens3; ip addr add 198.51.100.2/24 dev ens4; ip route add default via 198.51.100.1 dev ens4; ip route prepend default via 192.0.2.1 dev ens3", ""},
	{"default routes on two NICs, the other way round", "ip addr add 192.0.2.2/24 dev ens3; ip addr add 198.51.100.2/24 dev ens4; ip route add default via 198.51.100.1 dev ens4; ip route append default via 192.0.2.1 dev ens3", "ip route get 8.8.8.8 | grep ens4"},
	{"a worse default route on a second NIC", "ip addr add 192.0.2.2/24 dev ens3; ip addr add 198.51.100.2/24 dev ens4; ip route add default via 198.51.100.1 dev ens4 metric 200; ip route add default via 192.0.2.1 dev ens3 metric 100", "ip route get 8.8.8.8 | grep mo-dir-hs"},
	{"rules of others", "ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1; ip addr add 198.51.100.2/24 dev ens4; ip rule add from 198.51.100.2 table 100; ip route add default via 198.51.100.1 dev ens4 table 100; ip rule add fwmark 5 table 100 suppress_prefixlength 0; ip rule add iif ens4 blackhole", "ip route get 8.8.8.8 from 198.51.100.2 | grep ens4"},
}

func TestNICComesBackExactly(t *testing.T) {
	for _, c := range kept {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if !apart(t) {
				return
			}
			host(t, c.lines)
			before := snapshot(t)
			facts, err := links.Survey(network.Ranges{}, "ens3", false)
			if err != nil {
				t.Fatal(err)
			}
			facts = throughDisk(t, facts)
			compare(t, "after the survey", before, snapshot(t))
			want := func() *spec.Host { return standIns(mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts)) }
			change(t, want(), nil)
			if c.want != "" {
				run(t, c.want)
			}
			if err := reconciler().Insist(context.Background(), plan.Without(*facts), want()); err != nil {
				t.Errorf("rolling back: %v", err)
			}
			compare(t, "after the rollback", before, snapshot(t))
			change(t, want(), nil)
			change(t, plan.Without(*facts), want())
			compare(t, "after the uninstall", before, snapshot(t))
		})
	}
}

// throughDisk is what a later process reads of the facts.
func throughDisk(t *testing.T, f *spec.Facts) *spec.Facts {
	t.Helper()
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var read spec.Facts
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	read.ResolvConf.Path = spec.ResolvConfPath
	if err := read.Validate(); err != nil {
		t.Fatal(err)
	}
	return &read
}

const plainHost = "ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1 dev ens3; "

// refused are hosts whose NIC does not move, with what is said.
var refused = []struct{ name, lines, want string }{
	{"no address", "ip link set ens3 up", "no IPv4 address"},
	{"DHCP", "ip addr add 192.0.2.2/24 dev ens3 valid_lft 600 preferred_lft 300", "address 192.0.2.2/24 from DHCP"},
	{"a route from DHCP", plainHost + "ip route add 10.0.0.0/8 via 192.0.2.1 proto dhcp", "a route from DHCP"},
	{"down", plainHost + "ip link set ens3 down", "found it down"},
	{"a macvlan on it", plainHost + "ip link add mac0 link ens3 type macvlan", "mac0, a macvlan on it"},
	{"a port of a bridge", plainHost + "ip link add br0 type bridge; ip link set ens3 master br0", "a port of br0"},
	{"routes in another table", plainHost + "ip route add default via 192.0.2.1 dev ens3 table 100", "default route of table 100"},
	{"a local route", plainHost + "ip route add local 192.0.2.77 dev ens3", "route 192.0.2.77/32 of table 255"},
	{"a rule from its address", plainHost + "ip rule add from 192.0.2.2 table 100", "rule 32765, which selects its address"},
	{"a rule to its network", plainHost + "ip rule add to 192.0.2.0/24 priority 7 table 100", "rule 7, which selects its address"},
	{"a rule that names it", plainHost + "ip rule add iif ens3 priority 8 table 100", "rule 8, which names it"},
	{"a rule that names it by another name", plainHost + "ip link property add dev ens3 altname enp0s3; ip rule add oif enp0s3 priority 9 table 100", "rule 9, which names it"},
	{"an IPv6 rule", plainHost + "ip addr add 2001:db8::2/64 dev ens3; ip -6 rule add from 2001:db8::2 priority 6 table 100", "rule 6, which selects its address"},
	{"IPv6 in another table", plainHost + "ip addr add 2001:db8::2/64 dev ens3; ip -6 route add default via 2001:db8::1 dev ens3 table 100", "default route of IPv6 of table 100"},
	{"several next hops", plainHost + "ip route replace default nexthop via 192.0.2.1 dev ens3 nexthop via 192.0.2.3 dev ens3", "default route with several next hops"},
	{"several next hops of another metric", plainHost + "ip addr add 198.51.100.2/24 dev ens4; ip route add 10.0.0.0/8 nexthop via 192.0.2.1 dev ens3 nexthop via 198.51.100.1 dev ens4", "route 10.0.0.0/8 with several next hops"},
	{"a nexthop object", plainHost + "ip nexthop add id 5 via 192.0.2.1 dev ens3", "nexthop object 5"},
	{"a route by tos", plainHost + "ip route add 10.0.0.0/8 via 192.0.2.1 tos 0x10", "route 10.0.0.0/8 with tos 0x10"},
	{"realms", plainHost + "ip route add 10.0.0.0/8 via 192.0.2.1 realms 5", "route 10.0.0.0/8 with realms"},
	{"an IPv4 route by an IPv6 gateway", plainHost + "ip route add 10.0.0.0/8 via inet6 fe80::1 dev ens3", "route 10.0.0.0/8 with a gateway of another family"},
	{"a route of another type", plainHost + "ip route add multicast 239.1.1.0/24 dev ens3", "route 239.1.1.0/24 with type 5"},
	{"a route with a lifetime", plainHost + "ip addr add 2001:db8::2/64 dev ens3; ip -6 route add 2001:db8:5::/48 via 2001:db8::1 expires 500", "with a lifetime"},
	{"a lost gateway", plainHost + "ip route add 172.31.1.1 dev ens3; ip route add 10.0.0.0/8 via 172.31.1.1; ip route del 172.31.1.1", "route 10.0.0.0/8 via 172.31.1.1, to which no route is left"},
	{"another NIC's route from its address", plainHost + "ip addr add 198.51.100.2/24 dev ens4; ip route add 10.0.0.0/8 via 198.51.100.1 src 192.0.2.2", "route 10.0.0.0/8 on ens4 from its address"},
	{"another NIC in the same network", plainHost + "ip addr add 192.0.2.3/24 dev ens4", "at its place"},
	{"a permanent neighbor", plainHost + "ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev ens3 nud permanent", "neighbor entry for 192.0.2.1"},
	{"a queueing discipline", plainHost + "tc qdisc add dev ens3 root handle 1: prio || tc qdisc add dev ens3 ingress || tc qdisc add dev ens3 root handle 1: pfifo", "queueing discipline"},
	{"our table", plainHost + "ip rule add from 10.7.7.7 table 1030", "routing table 1030: found rule"},
	{"an IPv6 peer", plainHost + "ip addr add 2001:db8::1 peer 2001:db8::2/128 dev ens3", "address 2001:db8::1/128 with a peer"},
	{"no kernel route of IPv6", plainHost + "ip addr add 2001:db8::2/64 dev ens3; ip -6 route del 2001:db8::/64 dev ens3", "no route of the kernel to 2001:db8::/64"},
	{"an IPv6 route of two NICs", plainHost + "ip addr add 2001:db8::2/64 dev ens3; ip addr add 2001:db8:1::2/64 dev ens4; ip -6 route add 2001:db8:5::/48 dev ens3; ip -6 route append 2001:db8:5::/48 dev ens4", "with the metric of one on ens4"},
}

func TestNICThatWouldNotComeBackIsRefused(t *testing.T) {
	for _, c := range refused {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if !apart(t) {
				return
			}
			host(t, c.lines)
			before := snapshot(t)
			_, err := links.Survey(network.Ranges{}, "ens3", false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, wanted one with %q", err, c.want)
			}
			compare(t, "after the survey", before, snapshot(t))
		})
	}
}

// TestNICToAnAddress asks the kernel which way it takes.
func TestNICToAnAddress(t *testing.T) {
	if !apart(t) {
		return
	}
	host(t, plainHost+"ip addr add 198.51.100.2/24 dev ens4; ip route add unreachable 10.0.0.0/8; ip rule add to 203.0.113.0/24 table 100; ip route add default via 198.51.100.1 dev ens4 table 100")
	for to, want := range map[string]string{"192.0.2.1": "ens3", "8.8.8.8": "ens3", "198.51.100.7": "ens4", "203.0.113.1": "ens4", "192.0.2.2": "lo", "10.0.0.1": ""} {
		got, err := links.Through(netip.MustParseAddr(to))
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: found %q and error %v, wanted %q", to, got, err, want)
		}
	}
}

// TestOnlyDevicesMove holds that what somebody would have to make again is refused. These
// are the kinds of links that any kernel has here; the hosts of hosttest have the others.
func TestOnlyDevicesMove(t *testing.T) {
	for kind, make := range map[string]string{
		"veth": "ip link add up0 type veth peer name up1; ip link set up1 up", "bridge": "ip link add up0 type bridge", "tuntap": "ip tuntap add dev up0 mode tap",
	} {
		t.Run(kind, func(t *testing.T) {
			if !apart(t) {
				return
			}
			host(t, make+"; ip link set up0 up; ip addr add 192.0.2.2/24 dev up0; ip route add default via 192.0.2.1 dev up0")
			_, err := links.Survey(network.Ranges{}, "", false)
			if want := fmt.Sprintf("uplink up0: found a %s, wanted a NIC", kind); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, wanted one with %q", err, want)
			}
		})
	}
}

// TestNICRoutesOfOneKeyKeepTheirOrder asks the real kernel what the order of the
// fake's routes rests on.
func TestNICRoutesOfOneKeyKeepTheirOrder(t *testing.T) {
	if !apart(t) {
		return
	}
	host(t, "ip addr add 192.0.2.2/24 dev ens3; ip route add default via 192.0.2.1; ip route append default via 192.0.2.3; ip route prepend default via 192.0.2.4")
	facts, err := links.Survey(network.Ranges{}, "ens3", false)
	if err != nil {
		t.Fatal(err)
	}
	want := func() *spec.Host {
		return standIns(mustBuild(t, plantest.Document(plantest.Host(1)), 1, throughDisk(t, facts)))
	}
	change(t, want(), nil)
	order := func() string { // a new bridge has no carrier for a moment
		return strings.ReplaceAll(run(t, "ip -n mobula route show default"), "linkdown ", "")
	}
	good := order()
	for _, lost := range []string{"1", "3", "4", "1 3", "1 4", "3 4", "1 3 4"} {
		for _, putBack := range []string{"", "; ip -n mobula route prepend default via 192.0.2.$n dev mo-ext-gw"} {
			run(t, "for n in "+lost+"; do ip -n mobula route del default via 192.0.2.$n"+putBack+"; done")
			change(t, want(), want())
			if got := order(); got != good {
				t.Errorf("lost %s%s: found\n%s\nwanted\n%s", lost, putBack, got, good)
			}
		}
	}
}
