package client

import (
	"bytes"
	"fmt"
	"image/png"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"mobula/helper/internal/network"
)

func document() *network.Document {
	d := &network.Document{Format: network.FormatVersion, UnderlayMTU: 1500}
	for id := uint16(1); id <= 5; id++ {
		d.Hosts = append(d.Hosts, network.Host{ID: id, Name: fmt.Sprint("192.0.2.", id), Hostname: fmt.Sprintf("h%d.example.com", id),
			Endpoint: netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:51820", id)), PublicKey: network.Key{byte(id)}})
	}
	d.Hosts[1].PublicKey = network.Key{}
	d.Hosts[4].Hostname = "h5.example.org"
	return d
}

func TestFreeAddress(t *testing.T) {
	at := func(s string) network.Client { return network.Client{Address: netip.MustParseAddr(s)} }
	for want, clients := range map[string][]network.Client{
		"10.30.128.1": nil,
		"10.30.128.3": {at("10.30.128.1"), at("10.30.128.2"), at("10.30.128.9")},
	} {
		if got, err := FreeAddress(network.Ranges{}, clients); err != nil || got.String() != want {
			t.Errorf("found %s, %v, wanted %s", got, err, want)
		}
	}
	others := network.NewRanges(10<<8|98, 0)
	if got, err := FreeAddress(others, []network.Client{at("10.98.128.1"), at("10.30.128.2")}); err != nil || got.String() != "10.98.128.2" {
		t.Errorf("in %s: found %s, %v", others, got, err)
	}
	var all []network.Client
	extrawire := network.Ranges{}.Extrawire()
	for a := extrawire.Addr(); extrawire.Contains(a); a = a.Next() {
		all = append(all, network.Client{Address: a})
	}
	if got, err := FreeAddress(network.Ranges{}, all); err == nil {
		t.Errorf("found %s where all are taken", got)
	}
}

func TestEntries(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  string
	}{
		{nil, "h1 h3 h4"},
		{[]string{"h5.example.org", "192.0.2.1", "h3"}, "h5 h1 h3"},
		{[]string{"h2", "nobody"}, "entry: host h2 has no key yet; deploy it first\nentry: found \"nobody\", wanted a host of the network"},
	} {
		hosts, err := Entries(document(), c.names)
		var got []string
		for _, h := range hosts {
			got = append(got, strings.SplitN(h.Hostname, ".", 2)[0])
		}
		if text := strings.Join(got, " "); err == nil && text != c.want || err != nil && err.Error() != c.want {
			t.Errorf("%v: found %s, %v", c.names, text, err)
		}
	}
}

// TestEntriesHaveAnEndpoint: a client cannot send to a host that has none.
func TestEntriesHaveAnEndpoint(t *testing.T) {
	d := document()
	d.Hosts[0].Endpoint, d.Hosts[0].WireGuardPort = netip.AddrPort{}, 51820
	if hosts, err := Entries(d, nil); err != nil || len(hosts) != 3 || hosts[0].ID != 3 {
		t.Errorf("found %v, %v, wanted three from h3 on", hosts, err)
	}
	if _, err := Entries(d, []string{"h1"}); err == nil || !strings.Contains(err.Error(), "h1 has no endpoint") {
		t.Errorf("found %v", err)
	}
}

func TestConfig(t *testing.T) {
	d := document()
	one := network.Client{Address: netip.MustParseAddr("10.30.128.7"), PublicKey: network.Key{77}, Name: "phone." + Domain(d)}
	want := `# phone.example.com, by h1.example.com
[Interface]
PrivateKey = CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
Address = 10.30.128.7/32
DNS = 10.31.0.1
MTU = 1420

[Peer]
PublicKey = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
Endpoint = 192.0.2.1:51820
AllowedIPs = 10.30.0.0/16, 10.31.0.0/16
PersistentKeepalive = 25
`
	if got := Config(d, one.Name, one, network.Key{8}, d.Hosts[0]); got != want {
		t.Errorf("found\n%s\nwanted\n%s", got, want)
	}
	d.UnderlayMTU = 1400
	if got := Config(d, one.Name, one, network.Key{}, d.Hosts[0]); !strings.Contains(got, "MTU = 1340\n") || !strings.Contains(got, "PrivateKey = <") {
		t.Errorf("with a small MTU and no private key:\n%s", got)
	}
	d.Ranges = network.NewRanges(172<<8|20, 192<<8|168)
	if got := Config(d, one.Name, one, network.Key{8}, d.Hosts[0]); !strings.Contains(got, "DNS = 192.168.0.1\n") || !strings.Contains(got, "AllowedIPs = 172.20.0.0/16, 192.168.0.0/16\n") {
		t.Errorf("in other ranges:\n%s", got)
	}
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{"phone": true, "a_b-c=d+e.f12": true, "thirteen-byte": true, "fourteen-bytes": false, "": false, "a/b": false, "ä": false} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestQR(t *testing.T) {
	q, err := NewQR(strings.Repeat("configuration ", 20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(q.PNG())); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSuffix(q.Text(false), "\n"), "\n")
	if got, want := len(lines), (q.code.Size+2*quiet+1)/2; got != want {
		t.Errorf("found %d lines, wanted %d", got, want)
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n != q.code.Size+2*quiet {
			t.Fatalf("found a line of %d modules, wanted %d", n, q.code.Size+2*quiet)
		}
	}
	for _, line := range strings.SplitAfter(strings.TrimSuffix(q.Text(true), "\n"), "\n") {
		if !strings.HasPrefix(line, whiteOnBlack) || !strings.HasSuffix(strings.TrimSuffix(line, "\n"), ownColors) {
			t.Errorf("not in the code's own colors: %q", line)
		}
	}
	// The finder pattern of the upper left corner: seven dark, five light inside.
	if corner := string([]rune(lines[2])[quiet : quiet+7]); corner != " ▄▄▄▄▄ " {
		t.Errorf("the corner begins with %q", corner)
	}
	if strings.Trim(lines[0], "█") != "" {
		t.Errorf("the border has %q", lines[0])
	}
}

// TestConfigByName: a client looks up the name of the host's endpoint each time, unless
// the network itself answers it.
func TestConfigByName(t *testing.T) {
	for name, want := range map[string]string{"": "192.0.2.1:51821", "home.example.net": "home.example.net:51821", "H1.example.com": "192.0.2.1:51821"} {
		d := document()
		h := &d.Hosts[0]
		h.EndpointName, h.Endpoint, h.WireGuardPort = name, netip.MustParseAddrPort("192.0.2.1:51821"), 51820
		if got := Config(d, "laptop", network.Client{}, network.Key{8}, *h); !strings.Contains(got, "\nEndpoint = "+want+"\n") {
			t.Errorf("%q: found\n%s\nwanted the endpoint %s", name, got, want)
		}
	}
}
