package network

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// small is a network with something of everything.
func small() Document {
	return Document{
		Format: FormatVersion, Serial: 1700000000, UnderlayMTU: 1500,
		Hosts: []Host{
			{ID: 256, Name: "192.0.2.3", Hostname: "carol.example.com", Endpoint: netip.MustParseAddrPort("192.0.2.3:51820"), PublicKey: Key{3},
				Uplink: "eth0", ManualAccess: true, UpstreamDNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
				Publish: []Port{{"tcp", 443}, {"udp", 443}}},
			{ID: 1, Name: "192.0.2.1", Hostname: "alice.example.com", Endpoint: netip.MustParseAddrPort("192.0.2.1:51820"), PublicKey: Key{1}},
			{ID: 2, Name: "192.0.2.2", Hostname: "bob.example.com", Endpoint: netip.MustParseAddrPort("192.0.2.2:51820")},
		},
		Names:   []Name{{netip.MustParseAddr("10.31.0.254"), []string{"nas.example.com"}}},
		Clients: []Client{{Address: netip.MustParseAddr("10.30.128.1"), PublicKey: Key{9}, Name: "laptop.example.com"}},
	}
}

func TestEncodeIsCanonical(t *testing.T) {
	d := small()
	encoded := d.Encode()
	parsed, err := Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if again := parsed.Encode(); !bytes.Equal(again, encoded) {
		t.Errorf("found\n%swanted\n%s", again, encoded)
	}
	turned := small()
	turned.Hosts[0], turned.Hosts[2] = turned.Hosts[2], turned.Hosts[0]
	if other := turned.Encode(); !bytes.Equal(other, encoded) {
		t.Error("the order of hosts shows in the bytes")
	}
	if lines := bytes.Count(encoded, []byte("\n{")); lines != 5 {
		t.Errorf("%d lines of entries, wanted one for each of 5:\n%s", lines, encoded)
	}
	// What users' tools compare may not change unnoticed.
	if !strings.HasPrefix(string(encoded), "{\"format\":1,\"serial\":1700000000,\"underlay_mtu\":1500,\n\"hosts\":[\n{\"id\":1,\"name\":\"192.0.2.1\",") {
		t.Errorf("begins otherwise:\n%s", encoded)
	}
}

// TestBytesOfTheVersionBefore: who uses nothing new has the same document, which hosts
// of the version before read as well.
func TestBytesOfTheVersionBefore(t *testing.T) {
	d := small()
	const want = `{"format":1,"serial":1700000000,"underlay_mtu":1500,
"hosts":[
{"id":1,"name":"192.0.2.1","hostname":"alice.example.com","endpoint":"192.0.2.1:51820","public_key":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
{"id":2,"name":"192.0.2.2","hostname":"bob.example.com","endpoint":"192.0.2.2:51820","public_key":""},
{"id":256,"name":"192.0.2.3","hostname":"carol.example.com","endpoint":"192.0.2.3:51820","public_key":"AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","uplink":"eth0","manual_access":true,"upstream_dns":["192.0.2.53"],"publish":[{"protocol":"tcp","port":443},{"protocol":"udp","port":443}]}],
"names":[
{"address":"10.31.0.254","names":["nas.example.com"]}],
"clients":[
{"address":"10.30.128.1","public_key":"CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","name":"laptop.example.com"}]}
`
	if got := string(d.Encode()); got != want {
		t.Errorf("found\n%swanted\n%s", got, want)
	}
}

// TestEndpoints: a host listens where others send to, unless a router is between, and
// the name of an endpoint stays beside its address.
func TestEndpoints(t *testing.T) {
	d := small()
	d.Hosts[0].Endpoint, d.Hosts[0].WireGuardPort = netip.MustParseAddrPort("192.0.2.2:51821"), 51820
	d.Hosts[0].EndpointName = "home.example.net"
	parsed, err := Parse(d.Encode())
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint16]string{1: "192.0.2.1:51820 to 51820", 256: "192.0.2.2:51821 to 51820"} {
		h, _ := parsed.Host(id)
		if got := fmt.Sprintf("%v to %d", h.Endpoint, h.ListenPort()); got != want {
			t.Errorf("host %d: found %s, wanted %s", id, got, want)
		}
		if named := id == 256; (h.EndpointName == "home.example.net") != named {
			t.Errorf("host %d: found the name %q", id, h.EndpointName)
		}
	}
}

// TestTheVersionBeforeReadsWithoutIPv6: what it does not know is a field of its own, without
// which the document is one that it takes.
func TestTheVersionBeforeReadsWithoutIPv6(t *testing.T) {
	d := small()
	d.Hosts[0].SharedUplink, d.Hosts[0].OtherEndpoints = true, more("10.9.0.3:51820")
	d.Hosts[0].IPv6Endpoints = more("[2001:db8::3]:51820", "[2001:db8::4]:7")
	encoded := d.Encode()
	parsed, err := Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	carol, _ := parsed.Host(256)
	if got, want := fmt.Sprint(carol.Endpoints()), "[192.0.2.3:51820 10.9.0.3:51820 [2001:db8::3]:51820 [2001:db8::4]:7]"; got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
	if mtus := parsed.MTUs(); mtus.Wire != 1420 {
		t.Errorf("found %+v, wanted 1420 bytes inside WireGuard", mtus)
	}
	six, err := json.Marshal(carol.IPv6Endpoints)
	if err != nil {
		t.Fatal(err)
	}
	known := bytes.Replace(encoded, []byte(`"ipv6_endpoints":`+string(six)+`,`), nil, 1)
	if bytes.Contains(known, []byte("2001:db8")) {
		t.Fatalf("found an IPv6 address elsewhere in %s", known)
	}
	before, err := Parse(known)
	if err != nil {
		t.Fatal(err)
	}
	carol, _ = before.Host(256)
	if got, want := fmt.Sprint(carol.Endpoints()), "[192.0.2.3:51820 10.9.0.3:51820]"; got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
}

// TestOtherEndpoints: they stay beside the first one, in the order in which they were
// given. The version before read the document that it kept without them, and was left with
// the first one; at the door it refused them by name.
func TestOtherEndpoints(t *testing.T) {
	d := small()
	d.Hosts[0].OtherEndpoints = []OtherEndpoint{{Endpoint: netip.MustParseAddrPort("10.9.0.3:51820")}, {netip.MustParseAddrPort("198.51.100.3:4000"), "home.example.net"}}
	encoded := d.Encode()
	parsed, err := Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	carol, _ := parsed.Host(256)
	if got, want := fmt.Sprint(carol.Endpoints()), "[192.0.2.3:51820 10.9.0.3:51820 198.51.100.3:4000]"; got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
	if carol.OtherEndpoints[1].Name != "home.example.net" {
		t.Errorf("found %+v", carol.OtherEndpoints)
	}
	if again := parsed.Encode(); !bytes.Equal(again, encoded) {
		t.Errorf("found\n%swanted\n%s", again, encoded)
	}
	renamed := bytes.ReplaceAll(encoded, []byte("other_endpoints"), []byte("of_the_next_version"))
	before, err := ParseStored(renamed)
	if err != nil {
		t.Fatal(err)
	}
	carol, _ = before.Host(256)
	if len(carol.Endpoints()) != 1 || carol.Endpoint != netip.MustParseAddrPort("192.0.2.3:51820") {
		t.Errorf("who does not know of them found %v", carol.Endpoints())
	}
	if _, err := Parse(renamed); err == nil {
		t.Error("a field that is not known came through the door")
	}
}

// TestRotatingHost: the other key shows where there is one, and nowhere else.
func TestRotatingHost(t *testing.T) {
	d := small()
	if bytes.Contains(d.Encode(), []byte("also_key")) {
		t.Errorf("a host that does not rotate shows another key:\n%s", d.Encode())
	}
	d = small() // in its own order again
	d.Hosts[0].AlsoKey, d.Hosts[0].PresharedKeys = Key{33}, true
	parsed, err := Parse(d.Encode())
	if err != nil {
		t.Fatal(err)
	}
	carol, _ := parsed.Host(256)
	if carol.AlsoKey != (Key{33}) || !carol.PresharedKeys || len(carol.Keys()) != 2 || carol.Keys()[0] != (Key{3}) {
		t.Errorf("found %+v", carol)
	}
	if bob, _ := parsed.Host(2); len(bob.Keys()) != 0 {
		t.Errorf("a host without a key has %v", bob.Keys())
	}
}

// TestSharedSecret computes the example of RFC 7748 section 6.1 on both sides.
func TestSharedSecret(t *testing.T) {
	key := func(s string) Key {
		k, err := ParseKey(s)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, err := SharedSecret(key("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="), key("3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="), "a label")
	if err != nil {
		t.Fatal(err)
	}
	b, err := SharedSecret(key("XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os="), key("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="), "a label")
	other, _ := SharedSecret(key("XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os="), key("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="), "another")
	// HKDF-SHA256 of 4a5d9d5b…1e161742, the shared secret in the RFC.
	if want := "40ada0950972f04cd127f3ed0144f2eeeb31b4c982afc811e0ebbcc20c969470"; err != nil || a != b || hex.EncodeToString(a[:]) != want || other == a {
		t.Errorf("found %x and %x, another label %x, wanted %s", a, b, other, want)
	}
}

func TestGeneration(t *testing.T) {
	d, later := small(), small()
	later.Serial++
	if d.Generation() != later.Generation() {
		t.Error("the serial shows in the generation")
	}
	if later.Serial != small().Serial+1 {
		t.Error("asking for the generation changed the serial")
	}
	changes := map[string]func(*Document){
		"MTU":             func(d *Document) { d.UnderlayMTU++ },
		"endpoint":        func(d *Document) { d.Hosts[0].Endpoint = netip.MustParseAddrPort("192.0.2.9:51820") },
		"endpoint's name": func(d *Document) { d.Hosts[0].EndpointName = "home.example.net" },
		"other endpoint": func(d *Document) {
			d.Hosts[0].OtherEndpoints = []OtherEndpoint{{Endpoint: netip.MustParseAddrPort("192.0.2.9:51820")}}
		},
		"WireGuard port":   func(d *Document) { d.Hosts[0].WireGuardPort = 7 },
		"key":              func(d *Document) { d.Hosts[0].PublicKey = Key{8} },
		"other key":        func(d *Document) { d.Hosts[0].AlsoKey = Key{8} },
		"metrics":          func(d *Document) { d.Hosts[0].Metrics = true },
		"metrics of peers": func(d *Document) { d.Hosts[0].MetricsPerPeer = true },
		"preshared keys":   func(d *Document) { d.Hosts[0].PresharedKeys = true },
		"name":             func(d *Document) { d.Names[0].Names[0] = "other.example.com" },
		"client":           func(d *Document) { d.Clients = nil },
	}
	for name, change := range changes {
		other := small()
		change(&other)
		if other.Generation() == d.Generation() {
			t.Errorf("%s: the generation is the same", name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	d := small()
	good := string(d.Encode())
	cases := []struct{ name, data, want string }{
		{"nothing", "", "cut short"},
		{"half", good[:len(good)/2], "cut short"},
		{"all but the end", strings.TrimSuffix(good, "}\n"), "cut short"},
		{"something after it", good + "{}", "more after the end"},
		{"an unknown field", strings.Replace(good, `"format"`, `"color":1,"format"`, 1), `unknown field "color"`},
		{"an unknown field of a host", strings.Replace(good, `"id":1,`, `"id":1,"color":1,`, 1), `unknown field "color"`},
		{"another format", strings.Replace(good, `"format":1`, `"format":2`, 1), "format: found 2, wanted 1"},
		{"no format", "{}", "format: found 0, wanted 1"},
		{"another type", strings.Replace(good, `"serial":1700000000`, `"serial":"x"`, 1), "cannot unmarshal string"},
		{"an ID that is too large", strings.Replace(good, `"id":256`, `"id":65536`, 1), "cannot unmarshal number 65536"},
		{"a short key", strings.Replace(good, Key{9}.String(), "QUJD", 1), "not 32 bytes of base64"},
		{"not JSON", "hosts:\n  - 1\n", "invalid character"},
		{"a list", "[]", "cannot unmarshal array"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse([]byte(c.data)); err == nil || !strings.HasPrefix(err.Error(), "network document: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, wanted %q", err, c.want)
			}
		})
	}
}

func TestParseSaysEverything(t *testing.T) {
	d := small()
	d.UnderlayMTU = 1
	d.Hosts[0].ID, d.Hosts[1].Hostname = 40000, "alice"
	_, err := Parse(d.Encode())
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("error %v, wanted three lines", err)
	}
}

func TestKey(t *testing.T) {
	for _, bad := range []string{"x", "QUJD", Key{1}.String() + "=", strings.TrimSuffix(Key{1}.String(), "="),
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB="} {
		if key, err := ParseKey(bad); err == nil {
			t.Errorf("%q was taken for %v", bad, key)
		}
	}
	if (Key{}).String() != "" {
		t.Error("the zero key is not empty")
	}
}

func TestHost(t *testing.T) {
	d := small()
	d.Encode()
	for _, id := range []uint16{1, 2, 256} {
		if h, ok := d.Host(id); !ok || h.ID != id {
			t.Errorf("host %d: found %v", id, h)
		}
	}
	for _, id := range []uint16{0, 3, 257} {
		if h, ok := d.Host(id); ok {
			t.Errorf("host %d: found %v", id, h)
		}
	}
}

func TestPrivateNames(t *testing.T) {
	d := small()
	d.Hosts[0].Hostname = "Carol.Example.com"
	var text []string
	for _, n := range d.PrivateNames() {
		text = append(text, n.Name+" "+n.Address.String())
	}
	const want = "alice.example.com 10.31.128.1, bob.example.com 10.31.128.2, carol.example.com 10.31.129.0, laptop.example.com 10.30.128.1, nas.example.com 10.31.0.254"
	if got := strings.Join(text, ", "); got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
}

func TestNameChanges(t *testing.T) {
	from, to := small(), small()
	if got := NameChanges(&from, &to); len(got) > 0 {
		t.Errorf("the same document: found %q", got)
	}
	to.Hosts[2].Hostname = "robert.example.com"
	to.Names[0] = Name{Address: netip.MustParseAddr("10.31.0.253"), Names: []string{"NAS.example.com", "www.example.com"}}
	to.Hosts = append(to.Hosts, Host{ID: 4, Hostname: "adam.example.com"})
	const want = "+ name adam.example.com: 10.31.128.4, - name bob.example.com: 10.31.128.2, ~ name nas.example.com: 10.31.0.254 → 10.31.0.253, " +
		"+ name robert.example.com: 10.31.128.2, + name www.example.com: 10.31.0.253"
	if got := strings.Join(NameChanges(&from, &to), ", "); got != want {
		t.Errorf("found %s\nwanted %s", got, want)
	}
}

// FuzzParse holds that what is taken is valid, comes out the same again and is
// the same network.
func FuzzParse(f *testing.F) {
	d := small()
	f.Add(d.Encode())
	f.Add([]byte(`{"format":1,"serial":0,"underlay_mtu":1500,"hosts":[]}`))
	f.Add([]byte(`{"format":1,"serial":-1,"underlay_mtu":1394,"hosts":null,"names":[{"address":"10.31.0.9","names":["a.b"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := Parse(data)
		if err != nil {
			return
		}
		encoded := parsed.Encode()
		again, err := Parse(encoded)
		if err != nil {
			t.Fatalf("%v in what was encoded: %s", err, encoded)
		}
		if !bytes.Equal(again.Encode(), encoded) || again.Generation() != parsed.Generation() {
			t.Fatalf("not the same again: %s", encoded)
		}
		parsed.PrivateNames()
	})
}
