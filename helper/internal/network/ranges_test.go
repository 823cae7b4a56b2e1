package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// others are ranges that are not the default in any byte.
func others(t testing.TB) Ranges {
	t.Helper()
	wire, err := ParseSlash16("172.20.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	access, err := ParseSlash16("192.168.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	return NewRanges(wire, access)
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		ranges Ranges
		want   string
	}{
		{Ranges{}, "10.30.0.0/16 10.30.0.0/17 10.30.128.0/17 10.31.0.0/16 10.31.0.0/17 10.30.0.0 10.31.255.255 10.30.1.2 10.31.1.2 10.31.129.2"},
		{others(t), "172.20.0.0/16 172.20.0.0/17 172.20.128.0/17 192.168.0.0/16 192.168.0.0/17 172.20.0.0 192.168.255.255 172.20.1.2 192.168.1.2 192.168.129.2"},
	} {
		r, id := c.ranges, uint16(258)
		got := fmt.Sprint(r.Wire(), r.Intrawire(), r.Extrawire(), r.Access(), r.Gateways(), r.DirectGateway(), r.AccessBroadcast(),
			r.IntrawireAddress(id), r.GatewayAddress(id), r.AccessAddress(id))
		if got = strings.Trim(strings.ReplaceAll(got, "} {", " "), "{}"); got != c.want {
			t.Errorf("found  %s\nwanted %s", got, c.want)
		}
		for a, want := range map[netip.Addr]uint16{r.IntrawireAddress(id): id, r.DirectGateway(): 0, r.GatewayAddress(id): 0, r.Extrawire().Addr().Next(): 0} {
			if got := r.HostID(a); got != want {
				t.Errorf("%s is of host %d, wanted %d", a, got, want)
			}
		}
		if !r.Contains(r.IntrawireAddress(id)) || !r.Contains(r.AccessBroadcast()) || r.Contains(r.AccessBroadcast().Next()) {
			t.Errorf("%s: not what it contains", r)
		}
	}
}

// TestDefaultRangesNamed: who writes the default out has the network of who does not.
func TestDefaultRangesNamed(t *testing.T) {
	d := small()
	named := strings.Replace(string(d.Encode()), `"underlay_mtu":1500`, `"underlay_mtu":1500,"wire_network":"10.30.0.0/16","access_network":"10.31.0.0/16"`, 1)
	parsed, err := Parse([]byte(named))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(parsed.Encode(), d.Encode()) || parsed.Generation() != d.Generation() || parsed.Ranges != d.Ranges {
		t.Errorf("found\n%swanted\n%s", parsed.Encode(), d.Encode())
	}
}

// TestOtherRanges: they are in the document, which is another generation, and what is
// inside has to be in them.
func TestOtherRanges(t *testing.T) {
	d, before := small(), small()
	d.Ranges = others(t)
	d.Names[0].Address, d.Clients[0].Address = netip.MustParseAddr("192.168.0.254"), netip.MustParseAddr("172.20.128.1")
	encoded := d.Encode()
	if !strings.HasPrefix(string(encoded), "{\"format\":1,\"serial\":1700000000,\"underlay_mtu\":1500,\"wire_network\":\"172.20.0.0/16\",\"access_network\":\"192.168.0.0/16\",\n") {
		t.Errorf("begins otherwise:\n%s", encoded)
	}
	parsed, err := Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Ranges != d.Ranges || !bytes.Equal(parsed.Encode(), encoded) || d.Generation() == before.Generation() {
		t.Errorf("found\n%swanted\n%s", parsed.Encode(), encoded)
	}
	before.Ranges = d.Ranges
	_, err = Parse(before.Encode())
	for _, want := range []string{
		"10.31.0.254: address: found 10.31.0.254, wanted a host address in 192.168.0.0/16",
		"10.30.128.1/32: address: found 10.30.128.1/32, wanted an address in 172.20.128.0/17",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, wanted %q", err, want)
		}
	}
}

func TestRangesThatAreRefused(t *testing.T) {
	const public = "a private network, in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10: any other would hide a part of the Internet"
	for _, c := range []struct{ wire, access, want string }{
		{"10.98.0.0/16", "172.31.0.0/16", ""},
		{"192.168.0.0/16", "100.64.0.0/16", ""},
		{"10.31.0.0/16", "10.30.0.0/16", ""},
		{"10.98.0.0/16", "10.98.0.0/16", "access_network: found 10.98.0.0/16, which is wire_network, wanted another network"},
		{"10.31.0.0/16", "10.31.0.0/16", "access_network: found 10.31.0.0/16, which is wire_network, wanted another network"},
		{"172.32.0.0/16", "10.31.0.0/16", "wire_network: found 172.32.0.0/16, wanted " + public},
		{"10.30.0.0/16", "127.1.0.0/16", "access_network: found 127.1.0.0/16, wanted " + public},
		{"169.254.0.0/16", "224.0.0.0/16", "wire_network: found 169.254.0.0/16, wanted " + public + "\naccess_network: found 224.0.0.0/16, wanted " + public},
		{"168.63.0.0/16", "10.31.0.0/16", "wire_network: found 168.63.0.0/16, wanted " + public},
		{"100.100.0.0/16", "10.31.0.0/16", "wire_network: found 100.100.0.0/16, wanted a network without 100.100.100.200/32, at which clouds answer the host itself"},
	} {
		wire, err := ParseSlash16(c.wire)
		if err != nil {
			t.Fatal(err)
		}
		access, err := ParseSlash16(c.access)
		if err != nil {
			t.Fatal(err)
		}
		d := Document{Format: FormatVersion, UnderlayMTU: 1500, Ranges: NewRanges(wire, access)}
		var got []string
		for _, p := range d.Validate() {
			got = append(got, p.Error())
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s and %s: found\n%s\nwanted\n%s", c.wire, c.access, strings.Join(got, "\n"), c.want)
		}
	}
	for _, s := range []string{"", "10.98.0.0", "10.98.0.0/15", "10.98.0.0/17", "10.98.0.1/16", "10.98.7.0/16", "0.0.0.0/16", "fd00::/16", "::ffff:10.98.0.0/16", "10.098.0.0/16", "10.98.0.0/16 "} {
		if n, err := ParseSlash16(s); err == nil {
			t.Errorf("%q was taken for %s", s, n.Prefix())
		}
	}
	if _, err := Parse([]byte(`{"format":1,"serial":1,"underlay_mtu":1500,"wire_network":"10.98.0.0/24","hosts":[]}`)); err == nil ||
		!strings.Contains(err.Error(), `found "10.98.0.0/24", wanted an IPv4 network of 16 bits such as 10.98.0.0/16`) {
		t.Errorf("error %v", err)
	}
}
