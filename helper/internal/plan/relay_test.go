package plan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// TestRelays: a host relays to all others that have a key, but by no port that it
// publishes; where its NIC stays nothing is published.
func TestRelays(t *testing.T) {
	self := plantest.Host(1)
	self.Publish = []network.Port{{Protocol: "udp", Number: 32770}, {Protocol: "tcp", Number: 32771}}
	keyless := plantest.Host(4)
	keyless.PublicKey = network.Key{}
	for _, c := range []struct {
		shared bool
		want   string
	}{{false, "[{HostID:3 Port:32771 Endpoint:198.51.0.3:51820 Others:[]}]"}, {true, "[{HostID:2 Port:32770 Endpoint:198.51.0.2:51820 Others:[]} {HostID:3 Port:32771 Endpoint:198.51.0.3:51820 Others:[]}]"}} {
		self.SharedUplink = c.shared
		if got := fmt.Sprintf("%+v", plan.Relays(plantest.Document(self, plantest.Host(2), plantest.Host(3), keyless), 1)); got != c.want {
			t.Errorf("shared %v: found %s, wanted %s", c.shared, got, c.want)
		}
	}
	if got := plan.Relays(plantest.Document(self), 9); got != nil {
		t.Errorf("a host that is not in the document relays: %v", got)
	}
}

// TestMembersWithoutEndpoints: nobody relays to such a host, nor does it relay; WireGuard waits for
// it to come, and takes it from wherever it comes.
func TestMembersWithoutEndpoints(t *testing.T) {
	two := plantest.Host(2)
	two.Endpoint, two.WireGuardPort = netip.AddrPort{}, 5000
	d := plantest.Document(plantest.Host(1), two, plantest.Host(3))
	for _, facts := range []spec.Facts{*plantest.Facts(), {Shared: &spec.Shared{Outside: []string{"eth0"}}}} {
		for i := range d.Hosts {
			d.Hosts[i].SharedUplink = facts.IsShared()
		}
		one, err := plan.Build(d, 1, facts)
		if err != nil {
			t.Fatal(err)
		}
		if p := one.WireGuard.Peers[0]; p.Endpoint.IsValid() || p.KeepaliveSeconds == 0 {
			t.Errorf("host 1 has %+v, wanted no endpoint", p)
		}
		if got := plan.Relays(d, 1); len(got) != 1 || got[0].HostID != 3 {
			t.Errorf("host 1 relays to %+v, wanted host 3 alone", got)
		}
		its, err := plan.Build(d, 2, facts)
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Relays(d, 2); its.WireGuard.ListenPort != 5000 || len(got) > 0 {
			t.Errorf("it listens on port %d and relays to %v", its.WireGuard.ListenPort, got)
		}
		if its.Firewall.External != "" && len(its.Firewall.Members) != 2 || len(one.Firewall.Members) > 1 {
			t.Errorf("members are %v for it, %v for host 1", its.Firewall.Members, one.Firewall.Members)
		}
	}
}

// TestMembersWithIPv6Alone: who keeps the NIC sends there, the others wait.
func TestMembersWithIPv6Alone(t *testing.T) {
	two := plantest.Host(2)
	two.Endpoint, two.WireGuardPort, two.SharedUplink = netip.AddrPort{}, 5000, true
	two.IPv6Endpoints = []network.OtherEndpoint{{Endpoint: netip.MustParseAddrPort("[2001:db8::2]:5000")}}
	for _, facts := range []spec.Facts{*plantest.Facts(), {Shared: &spec.Shared{Outside: []string{"eth0"}}}} {
		one := plantest.Host(1)
		one.SharedUplink = facts.IsShared()
		built, err := plan.Build(plantest.Document(one, two), 1, facts)
		if err != nil {
			t.Fatal(err)
		}
		if got := built.WireGuard.Peers[0].Endpoint; (got == two.IPv6Endpoints[0].Endpoint) != facts.IsShared() {
			t.Errorf("shared %v: found the endpoint %v", facts.IsShared(), got)
		}
	}
}

// TestOtherEndpointsOfMembers: relays and the firewall know all of them; WireGuard is told
// the first one.
func TestOtherEndpointsOfMembers(t *testing.T) {
	two := plantest.Host(2)
	two.OtherEndpoints = []network.OtherEndpoint{{Endpoint: netip.MustParseAddrPort("10.9.0.2:4000")}}
	built, err := plan.Build(plantest.Document(plantest.Host(1), two, plantest.Host(3)), 1, *plantest.Facts())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(built.Firewall.Members), "[198.51.0.2:51820 10.9.0.2:4000 198.51.0.3:51820]"; got != want {
		t.Errorf("members: found %s, wanted %s", got, want)
	}
	if got, want := fmt.Sprint(built.Firewall.Relays[0].From(), built.Firewall.Relays[1].From()), "[198.51.0.2:51820 10.9.0.2:4000] [198.51.0.3:51820]"; got != want {
		t.Errorf("from where relays take packets: found %s, wanted %s", got, want)
	}
	if got := built.WireGuard.Peers[0].Endpoint; got != two.Endpoint {
		t.Errorf("WireGuard's endpoint: found %v, wanted %v", got, two.Endpoint)
	}
}
