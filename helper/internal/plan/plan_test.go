package plan

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

func document(t testing.TB, change func(*network.Document)) *network.Document {
	t.Helper()
	d := network.Document{Format: network.FormatVersion, Serial: 1, UnderlayMTU: 1500,
		Clients: []network.Client{{Address: netip.MustParseAddr("10.30.128.1"), PublicKey: network.Key{9}}}}
	for _, id := range []uint16{1, 2, 256} {
		d.Hosts = append(d.Hosts, network.Host{
			ID: id, Name: fmt.Sprint("host", id), Hostname: fmt.Sprintf("host%d.example.com", id),
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(id>>8) + 2*byte(id)}), 51820), PublicKey: network.Key{byte(id), byte(id >> 8)},
		})
	}
	d.Hosts[2].Publish = []network.Port{{Protocol: "tcp", Number: 22}, {Protocol: "udp", Number: 443}}
	if change != nil {
		change(&d)
	}
	parsed, err := network.Parse(d.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func facts(managers ...spec.Manager) spec.Facts {
	return spec.Facts{
		Uplink: "eth0", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500,
		Addresses:     []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")},
		Routes:        []spec.Route{{To: spec.Everywhere, Via: netip.MustParseAddr("192.0.2.254"), Link: "eth0", Protocol: 3}},
		IPv6Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64")},
		IPv6Routes:    []spec.Route{{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1"), Link: "eth0", Metric: 1024, Protocol: 4}},
		Resolvers:     []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		ResolvConf:    spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: "domain example.com\nnameserver 192.0.2.53\noptions edns0\n"},
		SSHPorts:      []uint16{22, 2222}, Managers: managers,
	}
}

// sharedFacts are those of a host with which the NIC stays.
func sharedFacts(managers ...spec.Manager) spec.Facts {
	return spec.Facts{Shared: &spec.Shared{Outside: []string{"docker0", "eth0", "wlan0"}, Opened: []string{"eth0", "wlan0"}}, Resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Managers: managers}
}

func withProgram(f spec.Facts) spec.Facts {
	f.Program = spec.ProgramPath("0123456789abcdef")
	return f
}

func mustBuild(t testing.TB, d *network.Document, id uint16, f spec.Facts) *spec.Host {
	t.Helper()
	h, err := Build(d, id, f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRotatingPeer: WireGuard has two peers for a host whose keys rotate, of which
// one has the allowed IPs; preshared keys are for pairs that both want them.
func TestRotatingPeer(t *testing.T) {
	d := document(t, func(d *network.Document) {
		d.Hosts[0].AlsoKey, d.Hosts[0].PresharedKeys = network.Key{11}, true
		d.Hosts[1].AlsoKey, d.Hosts[1].PresharedKeys = network.Key{22}, true
	})
	w := mustBuild(t, d, 1, facts(spec.Ifupdown)).WireGuard
	var got []string
	for _, p := range w.Peers {
		got = append(got, fmt.Sprintf("%s %d %d %v %s %v %d %v", p.Name, p.PublicKey[0], p.OtherKey[0], p.Endpoint, p.AllowedIPs, p.HostID, p.KeepaliveSeconds, p.Preshared))
	}
	want := []string{
		"host2.example.com 2 22 192.0.2.4:51820 [10.30.0.2/32] 2 25 true",
		"host2.example.com (other key) 22 2 192.0.2.4:51820 [] 2 25 true",
		"host256.example.com 0 0 192.0.2.1:51820 [10.30.1.0/32] 256 25 false",
		"client 10.30.128.1 9 0 invalid AddrPort [10.30.128.1/32] 0 0 false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || w.AlsoKey != (network.Key{11}) || w.PublicKey != (network.Key{1}) {
		t.Errorf("key %v, other %v\n%s\nwanted\n%s", w.PublicKey, w.AlsoKey, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGolden(t *testing.T) {
	cases := []struct {
		id      uint16
		manager spec.Manager
		manual  bool
	}{{1, spec.Ifupdown, false}, {256, spec.Networkd, false}, {1, spec.NetworkManager, true}, {256, spec.Ifupdown, true}}
	for _, c := range cases {
		name := fmt.Sprintf("host%d-%s", c.id, c.manager)
		t.Run(name, func(t *testing.T) {
			d := document(t, func(d *network.Document) {
				for i := range d.Hosts {
					d.Hosts[i].ManualAccess = c.manual
				}
			})
			golden(t, "testdata/"+name+".txt", text(mustBuild(t, d, c.id, withProgram(facts(c.manager)))))
		})
	}
	staying := document(t, func(d *network.Document) { d.Hosts[2].SharedUplink, d.Hosts[2].Publish = true, nil })
	t.Run("shared", func(t *testing.T) {
		golden(t, "testdata/host256-shared.txt", text(mustBuild(t, staying, 256, withProgram(sharedFacts(spec.Ifupdown, spec.Networkd, spec.NetworkManager)))))
	})
	t.Run("gateway-resolver", func(t *testing.T) {
		d := document(t, func(d *network.Document) {
			d.Hosts[2].SharedUplink, d.Hosts[2].GatewayResolver, d.Hosts[2].Publish = true, true, nil
		})
		golden(t, "testdata/host256-gateway-resolver.txt", text(mustBuild(t, d, 256, withProgram(sharedFacts(spec.Ifupdown, spec.Networkd, spec.NetworkManager)))))
	})
	t.Run("opening", func(t *testing.T) {
		opening := document(t, func(d *network.Document) {
			d.Hosts[2].SharedUplink, d.Hosts[2].OpenFirewall, d.Hosts[2].Publish = true, true, nil
		})
		built, closed := mustBuild(t, opening, 256, sharedFacts(spec.Ifupdown)), mustBuild(t, staying, 256, sharedFacts(spec.Ifupdown))
		if want := "&{Ranges:10.30.0.0/16 and 10.31.0.0/16 Port:51820 Outside:" + fmt.Sprint(sharedFacts(spec.Ifupdown).Shared.Outside) + "}"; fmt.Sprintf("%+v", built.Opening) != want || closed.Opening != nil {
			t.Errorf("found %+v and %+v, wanted %s and none", built.Opening, closed.Opening, want)
		}
	})
	t.Run("without-shared", func(t *testing.T) {
		golden(t, "testdata/without-shared.txt", text(Without(sharedFacts(spec.Ifupdown))))
	})
	t.Run("without", func(t *testing.T) { golden(t, "testdata/without.txt", text(Without(facts(spec.Ifupdown)))) })
	t.Run("leaving", func(t *testing.T) { golden(t, "testdata/leaving.txt", text(Leaving(facts(spec.Ifupdown)))) })
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; run with -update and read the difference\n%s", path, got)
	}
}

func TestBuildRefuses(t *testing.T) {
	keyless := document(t, func(d *network.Document) { d.Hosts[0].PublicKey = network.Key{} })
	bare := facts()
	bare.Addresses = nil
	for _, c := range []struct {
		name string
		doc  *network.Document
		id   uint16
		f    spec.Facts
		want string
	}{
		{"unknown host", document(t, nil), 3, facts(), "host_id 3: not in the network document"},
		{"no key", keyless, 1, facts(), "host_id 1: no public key in the network document"},
		{"no address", document(t, nil), 1, bare, "the uplink and its addresses are not known"},
	} {
		if _, err := Build(c.doc, c.id, c.f); err == nil || err.Error() != c.want {
			t.Errorf("%s: error %v, wanted %q", c.name, err, c.want)
		}
	}
	// Who has no key yet is nobody's peer.
	if h := mustBuild(t, keyless, 2, facts()); len(h.WireGuard.Peers) != 2 || len(h.Switch.Remotes) != 1 || len(h.Firewall.Members) != 1 {
		t.Errorf("peers %v", h.WireGuard.Peers)
	}
}

// TestOwnedFilesCoverEveryPlan goes through every combination that decides which
// files there are.
func TestOwnedFilesCoverEveryPlan(t *testing.T) {
	all := []spec.Manager{spec.Ifupdown, spec.Networkd, spec.NetworkManager}
	for _, uplink := range []string{"eth0", "enx00e04c680001"} {
		owned := map[string]bool{spec.ResolvConfPath: true}
		for _, path := range spec.OwnedFiles(uplink) {
			owned[path] = true
		}
		seen := map[string]bool{}
		for set := 0; set < 1<<len(all); set++ {
			var managers []spec.Manager
			for i, m := range all {
				if set&(1<<i) != 0 {
					managers = append(managers, m)
				}
			}
			for _, manual := range []bool{false, true} {
				f := facts(managers...)
				f.Uplink = uplink
				d := document(t, func(d *network.Document) { d.Hosts[0].ManualAccess = manual })
				for _, file := range mustBuild(t, d, 1, f).Files {
					seen[file.Path] = true
					if !owned[file.Path] {
						t.Errorf("%s is not among OwnedFiles", file.Path)
					}
					if file.Target == "" && (file.Content == "" || file.Mode == 0 || strings.Contains(file.Content, "<no value>")) {
						t.Errorf("%s: mode %o, %q", file.Path, file.Mode, file.Content)
					}
				}
			}
		}
		for path := range owned {
			if !seen[path] && path != spec.NetworkdLinksBefore {
				t.Errorf("%s is owned, but no plan has it", path)
			}
		}
	}
}

// TestBootUnitComesFirstAndGoesLast holds what a power cut relies on.
func TestBootUnitComesFirstAndGoesLast(t *testing.T) {
	unit, link := "/etc/systemd/system/mobula-network.service", "/etc/systemd/system/multi-user.target.wants/mobula-network.service"
	files := mustBuild(t, document(t, nil), 1, facts(spec.Ifupdown)).Files
	if files[0].Path != unit || files[1].Path != link {
		t.Errorf("the first files are %s and %s", files[0].Path, files[1].Path)
	}
	if owned := spec.OwnedFiles("eth0"); owned[0] != unit || owned[1] != link { // removed from the last to the first
		t.Errorf("the first files are %s and %s", owned[0], owned[1])
	}
}

// TestManagersAreToldFirst: a manager knows that it has to leave a link alone when the
// link is made, and of the NIC when it has moved. Then nobody else writes resolv.conf.
func TestManagersAreToldFirst(t *testing.T) {
	for _, m := range []spec.Manager{spec.Networkd, spec.NetworkManager} {
		h := mustBuild(t, document(t, nil), 1, facts(m))
		told := func(late bool, link string) bool {
			for _, f := range h.Files {
				for _, word := range strings.FieldsFunc(f.Content, func(r rune) bool { return strings.ContainsRune("=; \n", r) }) {
					if match, _ := path.Match(strings.TrimPrefix(word, "interface-name:"), link); match && word != "*" && f.Late == late {
						return true
					}
				}
			}
			return false
		}
		for _, link := range h.Links {
			switch {
			case link.Kind == spec.Physical && (told(false, link.Name) || !told(true, link.Name)):
				t.Errorf("%s: the NIC %s is forbidden before it has moved, or not at all", m, link.Name)
			case link.Kind != spec.Physical && link.NS == "" && !told(false, link.Name):
				t.Errorf("%s is not told of %s before it is made", m, link.Name)
			}
		}
	}
	for _, f := range mustBuild(t, document(t, nil), 1, facts(spec.NetworkManager)).Files {
		if strings.Contains(f.Content, "rc-manager=unmanaged") != (f.Path == spec.NetworkManagerLinks) {
			t.Errorf("%s: who writes resolv.conf:\n%s", f.Path, f.Content)
		}
	}
}

// TestNothingWaitsForTheUplink: what ifupdown 0.8, systemd-networkd and NetworkManager have
// of services before network-online.target waits up to five minutes for a link that does
// not come. Where the NIC stays they wait as ever.
func TestNothingWaitsForTheUplink(t *testing.T) {
	for m, units := range map[spec.Manager][]string{
		spec.Ifupdown:       {"ifupdown-wait-online"},
		spec.Networkd:       {"systemd-networkd-wait-online", `systemd-networkd-wait-online@enp0\x2d1`},
		spec.NetworkManager: {"NetworkManager-wait-online"},
	} {
		moves := facts(m)
		moves.Uplink = "enp0-1"
		stays := document(t, func(d *network.Document) { d.Hosts[0].SharedUplink = true })
		for h, want := range map[*spec.Host]bool{mustBuild(t, document(t, nil), 1, moves): true, mustBuild(t, stays, 1, sharedFacts(m)): false} {
			for _, unit := range units {
				got := slices.ContainsFunc(h.Files, func(f spec.File) bool {
					return f.Path == spec.UnitDir+unit+".service.d/mobula.conf" && !f.Late && strings.Contains(f.Content, "ConditionPathExists=!"+spec.StateDir+"/confirmed.json\n")
				})
				if got != want {
					t.Errorf("%s steps aside: %v, wanted %v", unit, got, want)
				}
			}
		}
	}
}

func TestPlanIsPure(t *testing.T) {
	d, f := document(t, nil), facts(spec.Ifupdown)
	before := string(d.Encode()) + fmt.Sprint(f)
	first, second := text(mustBuild(t, d, 1, f)), text(mustBuild(t, d, 1, f))
	if first != second || before != string(d.Encode())+fmt.Sprint(f) {
		t.Error("building changes its input or its output")
	}
}

func TestResolvConf(t *testing.T) {
	own := func(h *spec.Host) spec.File {
		for _, f := range h.Files {
			if f.Path == spec.ResolvConfPath {
				return f
			}
		}
		return spec.File{}
	}
	ours := own(mustBuild(t, document(t, nil), 1, facts()))
	for _, line := range []string{spec.ResolvConfMark, "\nnameserver 10.31.0.1\n", "\ndomain example.com\n", "\noptions edns0\n"} {
		if !strings.Contains("\n"+ours.Content, line) {
			t.Errorf("%q lacks %q", ours.Content, line)
		}
	}
	missing := facts()
	missing.ResolvConf = spec.File{Path: spec.ResolvConfPath, Missing: true}
	if back := own(Without(missing)); !back.Missing || back.Over != spec.ResolvConfMark || !back.Late {
		t.Errorf("found %+v", back)
	}
}

// TestPortForward: a host behind a router listens on its own port, and the others send
// to that of the endpoint, directly and through relays.
func TestPortForward(t *testing.T) {
	d := document(t, func(d *network.Document) {
		d.Hosts[0].Endpoint, d.Hosts[0].WireGuardPort = netip.MustParseAddrPort("203.0.113.7:51821"), 51820
		d.Hosts[1].Endpoint, d.Hosts[1].WireGuardPort, d.Hosts[1].SharedUplink = netip.MustParseAddrPort("203.0.113.7:51822"), 51820, true
	})
	one, two, other := mustBuild(t, d, 1, facts(spec.Ifupdown)), mustBuild(t, d, 2, sharedFacts(spec.Ifupdown)), mustBuild(t, d, 256, facts(spec.Ifupdown))
	for name, port := range map[string]uint16{"WireGuard": one.WireGuard.ListenPort, "firewall": one.Firewall.WireGuardPort,
		"WireGuard where the NIC stays": two.WireGuard.ListenPort, "gateway's firewall there": two.Firewall.WireGuardPort, "host's firewall there": two.Doorway.WireGuardPort} {
		if port != 51820 {
			t.Errorf("%s: found port %d, wanted that on which the host listens", name, port)
		}
	}
	want := "203.0.113.7:51821 203.0.113.7:51822"
	if got := fmt.Sprint(other.WireGuard.Peers[0].Endpoint, other.WireGuard.Peers[1].Endpoint); got != want {
		t.Errorf("peers: found %s, wanted %s", got, want)
	}
	if got := fmt.Sprint(other.Firewall.Relays[0].Endpoint, other.Firewall.Relays[1].Endpoint); got != want {
		t.Errorf("relays: found %s, wanted %s", got, want)
	}
	if one.Firewall.Relays != nil {
		t.Errorf("behind a router: found the relay ports %v, to which nothing is forwarded", one.Firewall.Relays)
	}
	if got := fmt.Sprint(two.WireGuard.Peers[0].Endpoint); got != "203.0.113.7:51821" {
		t.Errorf("behind the same router: found %s", got)
	}
}
