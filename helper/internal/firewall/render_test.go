package firewall

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// examples are firewalls of hosts whose NICs have moved and stay, and doorways.
func examples() (moved, shared *spec.Firewall, ajar, doorway *spec.Doorway) {
	moved = &spec.Firewall{
		HostID: 256, External: spec.ExternalLink, Wire: spec.WireLink, Access: spec.SwitchBridge, Direct: spec.DirectGateway,
		WireGuardPort: 51820, TunnelPort: spec.TunnelUDPPort,
		Public:    []netip.Addr{netip.MustParseAddr("192.0.2.3")},
		Published: []network.Port{{Protocol: "tcp", Number: 22}, {Protocol: "tcp", Number: 443}, {Protocol: "udp", Number: 443}},
		Members:   []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:51820"), netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("192.0.2.1:51821")},
		ProbePort: spec.ProbeUDPPort, MeshPort: spec.MeshUDPPort, CarryPort: spec.CarryUDPPort, MetricsPort: spec.MetricsTCPPort, PagePort: spec.PageTCPPort,
		Relays: []spec.Relay{{HostID: 1, Port: 32769, Endpoint: netip.MustParseAddrPort("192.0.2.1:51820")},
			{HostID: 2, Port: 32770, Endpoint: netip.MustParseAddrPort("192.0.2.2:51820")}},
	}
	shared = &spec.Firewall{HostID: 256, Wire: spec.WireLink, Access: spec.SwitchBridge, Direct: spec.DirectGateway,
		WireGuardPort: 51820, TunnelPort: spec.TunnelUDPPort, ProbePort: spec.ProbeUDPPort, MeshPort: spec.MeshUDPPort, CarryPort: spec.CarryUDPPort,
		PagePort: spec.PageTCPPort, PageForGuests: true}
	doorway = &spec.Doorway{HostID: 256, Direct: spec.DirectHost, Access: spec.AccessLink, WireGuardPort: 51820}
	half := *doorway
	ajar = &half
	ajar.Relays = []spec.Relay{{HostID: 1, Port: 32769, Endpoint: netip.MustParseAddrPort("192.0.2.1:51820")}, {HostID: 2, Port: 32770, Endpoint: netip.MustParseAddrPort("203.0.113.2:443")}}
	ajar.Outside, ajar.Opened, ajar.Bridges = []string{"eth0", "br-lan", "wg7"}, []string{"eth0", "br-lan"}, []string{"br-lan"}
	return moved, shared, ajar, doorway
}

func TestRenderGolden(t *testing.T) {
	moved, shared, ajar, doorway := examples()
	onward := &spec.Onward{Links: []spec.OnwardLink{{Name: "br-lan", Index: 7, MTU: 9000}, {Name: "eth0", Index: 2, MTU: 1500}}}
	for _, way := range [][4]string{{"198.51.100.1", "192.0.2.1", "198.51.100.254", "eth0"}, {"198.51.100.1", "203.0.113.2", "203.0.113.2", "br-lan"}, {"203.0.113.1", "203.0.113.2", "203.0.113.2", "br-lan"}} {
		onward.Ways = append(onward.Ways, spec.Way{From: netip.MustParseAddr(way[0]), To: netip.MustParseAddr(way[1]), Hop: netip.MustParseAddr(way[2]), Link: way[3]})
	}
	for name, got := range map[string]string{
		"host256": Render(moved, plenty), "shared256": Render(shared, plenty),
		"doorway256": RenderDoorway(ajar), "doorway256-router": RenderDoorway(doorway),
		"relays256": RenderRelays(ajar, onward),
	} {
		golden := "testdata/" + name + ".nft"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the ruleset differs from %s; run with -update and read the difference\n%s", golden, got)
		}
	}
}

// TestGuestsLeaveRoom: what guests may have of the kernel's table of connections is a
// quarter at most, on hosts of any size.
func TestGuestsLeaveRoom(t *testing.T) {
	for megabytes, most := range map[uint64]int{0: 64, 256: 2048 / 4, 721: 5768 / 4, 2048: 65536 / 4, 1 << 20: maxGuestEntries} {
		if n := guestEntries(megabytes << 20); n > most || n < most/2 {
			t.Errorf("%d MiB: found %d, wanted at most %d and half of that", megabytes, n, most)
		}
	}
}

func TestDescribe(t *testing.T) {
	const before = "table inet mobula {\n\tset members {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.1, 192.0.2.2 }\n\t}\n\tchain published {\n\t\t# SSH\n\t\ttcp dport 22\n\t}\n}\n"
	after := strings.NewReplacer("192.0.2.2", "192.0.2.3", "tcp dport 22", "tcp dport 22\n\t\ttcp dport { 80, 443 }").Replace(before)
	if got, want := describe(before, after), "members: - 192.0.2.2; members: + 192.0.2.3; published: + tcp dport { 80, 443 }"; got != want {
		t.Errorf("found %q, wanted %q", got, want)
	}
	if got := describe(after, after); got != "" {
		t.Errorf("nothing differs, found %q", got)
	}
}

func TestFreePorts(t *testing.T) {
	for _, c := range []struct {
		taken []uint16
		want  string
		spare string
	}{
		{nil, "[1-1023 1024-65535]", "1024-32767"},
		{[]uint16{51821, 51820, 51820}, "[1-1023 1024-51819 51822-65535]", "1024-32767"},
		{[]uint16{1, 1023, 1024, 65535}, "[2-1022 1025-65534]", "1025-32767"},
		{[]uint16{20000, 2000}, "[1-1023 1024-1999 2001-19999 20001-65535]", "2001-19999"},
		{[]uint16{9000}, "[1-1023 1024-8999 9001-65535]", "9001-32767"},
	} {
		free := freePorts(c.taken)
		if got := fmt.Sprint(free); got != c.want || spare(free).String() != c.spare {
			t.Errorf("without %v: found %s and %s, wanted %s and %s", c.taken, got, spare(free), c.want, c.spare)
		}
	}
}

// TestNoPortIsLeft: with as many hosts as there can be, all ports of clients are relays'.
func TestNoPortIsLeft(t *testing.T) {
	d := &spec.Doorway{WireGuardPort: 51820}
	for id := uint16(1); id < 32768; id++ {
		d.Relays = append(d.Relays, spec.Relay{HostID: id, Port: network.RelayPort(network.Host{Endpoint: netip.MustParseAddrPort("192.0.2.1:51820")}, id), Endpoint: netip.MustParseAddrPort("192.0.2.2:51820")})
	}
	if text := RenderDoorway(d); !strings.Contains(text, "@members masquerade to : 1024-32767\n") {
		t.Error("guests speak to members from other ports than those that are left")
	}
}

// TestOtherEndpointsAreServed: a member may send from any of its endpoints to a relay, and
// is what a member is; what is for it goes to the first one.
func TestOtherEndpointsAreServed(t *testing.T) {
	moved, _, ajar, _ := examples()
	other := netip.MustParseAddrPort("10.9.0.1:51820")
	moved.Members = append(moved.Members, other)
	for _, relays := range [][]spec.Relay{moved.Relays, ajar.Relays} {
		relays[0].Others = []netip.AddrPort{other}
	}
	onward := &spec.Onward{Links: []spec.OnwardLink{{Name: "eth0", Index: 2, MTU: 1500}},
		Ways: []spec.Way{{From: netip.MustParseAddr("198.51.100.1"), To: netip.MustParseAddr("192.0.2.1"), Hop: netip.MustParseAddr("192.0.2.1"), Link: "eth0"}}}
	for name, c := range map[string]struct {
		text  string
		want  []string
		times int // that the address is there
	}{
		"moved":   {Render(moved, plenty), []string{"192.0.2.1 . 51820 : 32769", "10.9.0.1 . 51820 : 32769", "32769 : 192.0.2.1 . 51820"}, 2},
		"doorway": {RenderDoorway(ajar), []string{"192.0.2.1 . 51820", "10.9.0.1 . 51820"}, 1},
		"relays":  {RenderRelays(ajar, onward), []string{"192.0.2.1 . 51820 : 32769", "10.9.0.1 . 51820 : 32769", "32769 : 192.0.2.1"}, 1},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.text, want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, c.text)
			}
		}
		if n := strings.Count(c.text, "10.9.0.1"); n != c.times {
			t.Errorf("%s: the other endpoint is there %d times, wanted %d:\n%s", name, n, c.times, c.text)
		}
	}
}
