//go:build kernel

package links_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// TestNICUnderlayIsMadeFromHost asks the kernel what makeFromHost rests on: a link that
// is made in another namespace has its UDP socket in the requester's. Where there is no
// WireGuard, a VXLAN tunnel stands in: rtnl_newlink hands both the same.
func TestNICUnderlayIsMadeFromHost(t *testing.T) {
	if !apart(t) {
		return
	}
	if err := netns.Create(spec.Namespace); err != nil {
		t.Fatal(err)
	}
	key := links.LinkKey{NS: spec.Namespace, Name: spec.WireLink}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = key.Name
	wireguard := links.MakeFromHost(key.NS, &netlink.Wireguard{LinkAttrs: attrs}) == nil
	if err := (links.Netlink{}).DeleteLink(key); err != nil {
		t.Fatal(err)
	}
	if wireguard {
		if err := (links.Netlink{}).AddLink(spec.Link{Name: key.Name, NS: key.NS, Kind: spec.WireGuardDevice, Underlay: true}, nil); err != nil {
			t.Fatal(err)
		}
	} else if err := links.MakeFromHost(key.NS, &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 5, Port: 40001}); err != nil {
		t.Skipf("this kernel has neither WireGuard nor VXLAN: %v", err)
	}
	run(t, "ip -n mobula link set mo-wg-gw up")
	sockets := map[string]string{}
	for _, ns := range []string{"", spec.Namespace} {
		err := netns.Do(ns, func() error {
			data, err := os.ReadFile("/proc/thread-self/net/udp")
			_, sockets[ns], _ = strings.Cut(string(data), "\n")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if sockets[""] == "" || sockets[spec.Namespace] != "" {
		t.Errorf("UDP sockets by namespace: %q, wanted one in the host's own only", sockets)
	}
	s, err := (links.Netlink{}).Observe([]string{spec.Namespace}, spec.RouteTable, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, left := s.Links[links.LinkKey{Name: key.Name}]; left {
		t.Error("the link is in the host's own namespace")
	}
	if l, there := s.Links[key]; !there || l.Underlay != wireguard {
		t.Errorf("found %+v, wanted Underlay %v", l, wireguard)
	}
	if got, err := links.Underlay(key); err != nil || got != wireguard {
		t.Errorf("Underlay: found %v and %v, wanted %v", got, err, wireguard)
	}
	if alias := run(t, "ip -n mobula link show mo-wg-gw"); !strings.Contains(alias, links.UnderlayAlias) {
		t.Errorf("no alias in\n%s", alias)
	}
}

// TestNICSettingsOfInterfaces: settings of links that the plan makes and of a NIC that it
// does not move, and what follows when somebody turns forwarding off for all.
func TestNICSettingsOfInterfaces(t *testing.T) {
	if !apart(t) {
		return
	}
	host(t, plainHost+"ip link set ens4 name en.4")
	facts, err := links.Survey(network.Ranges{}, "ens3", false)
	if err != nil {
		t.Fatal(err)
	}
	want := func() *spec.Host {
		h := standIns(mustBuild(t, plantest.Document(plantest.Host(1)), 1, throughDisk(t, facts)))
		return forwarding(forwarding(h, "en.4"), "ens9")
	}
	check := func(when string) {
		t.Helper()
		for _, name := range []string{"en.4", spec.DirectHost} {
			if got := strings.TrimSpace(run(t, "cat /proc/sys/net/ipv4/conf/"+name+"/forwarding")); got != "1" {
				t.Errorf("%s: %s forwards %s, wanted 1", when, name, got)
			}
		}
	}
	change(t, want(), nil)
	check("at first")
	run(t, "ip link del "+spec.DirectHost)
	change(t, want(), want())
	check("after the link was made anew")

	s, err := links.Subscribe("")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lost, own := make(chan string, 100), links.NewOwn(want(), "")
	go func() {
		_ = links.Watch(s, func() *links.Own { return own }, func(what string) { lost <- what }, func() {})
	}()
	run(t, "sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.ip_forward=0")
	heard := map[string]bool{}
	for timeout := time.After(10 * time.Second); len(heard) < 4; {
		select {
		case what := <-lost:
			heard[what] = true
		case <-timeout:
			t.Fatalf("heard %v, wanted of both values and two interfaces", heard)
		}
	}
	if !heard["forwarding of en.4 changed"] || !heard["forwarding of "+spec.DirectHost+" changed"] {
		t.Errorf("heard %v", heard)
	}
	change(t, want(), want())
	check("after forwarding was turned off")
}
