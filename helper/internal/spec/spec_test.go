package spec

import (
	"strings"
	"testing"

	"mobula/helper/internal/network"
)

func TestUplinkVeth(t *testing.T) {
	taken := map[string]string{}
	for _, uplink := range []string{"e", "eth0", "ens18", "enp0s31f6", "enp0s31f67", "enp130s0f0np0", "enp130s0f0np1", "enx00e04c680001",
		"enx00e04c680002", "enp130s0f1np0", "abcdefghijklmno", "abcdefghijklmnp", "eth0.4000", "veth_eth0"} {
		name := UplinkVeth(uplink)
		if len(name) > 15 || !strings.HasPrefix(name, "veth_") {
			t.Errorf("%s: found %s", uplink, name)
		}
		if other := taken[name]; other != "" {
			t.Errorf("%s and %s both have %s", other, uplink, name)
		}
		taken[name] = uplink
	}
	if name := UplinkVeth("eth0"); name != "veth_eth0" {
		t.Errorf("found %s", name)
	}
}

// TestEscape: units that are started for a link have its name escaped, as
// systemd-escape(1) does it.
func TestEscape(t *testing.T) {
	for link, want := range map[string]string{
		"ens3": "ens3", "eno1np0d1s2-abc": `eno1np0d1s2\x2dabc`, "wan.0": "wan.0", ".w": `\x2ew`, "a:b_c": "a:b_c", "a+b": `a\x2bb`, "ü": `\xc3\xbc`,
	} {
		if got := escape(link); got != want {
			t.Errorf("%s: found %s, wanted %s", link, got, want)
		}
	}
}

// TestTheUplinkByAnyOfItsNames: what names the NIC that the host has given is no other
// uplink, at the second deploy as at the first.
func TestTheUplinkByAnyOfItsNames(t *testing.T) {
	moved, staying := &Facts{Uplink: "ens3", AltNames: []string{"enp0s3"}}, &Facts{Shared: &Shared{}}
	for _, c := range []struct {
		facts *Facts
		self  network.Host
		want  string
	}{
		{moved, network.Host{}, ""}, {moved, network.Host{Uplink: "ens3"}, ""}, {moved, network.Host{Uplink: "enp0s3"}, ""},
		{moved, network.Host{Uplink: "eth9"}, "uplink: found ens3 in use, wanted eth9"},
		{staying, network.Host{SharedUplink: true}, ""}, {staying, network.Host{SharedUplink: true, Uplink: "eth9"}, ""},
	} {
		if err := c.facts.Suit(c.self); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: found %v, wanted %q", c.self, err, c.want)
		}
	}
}
