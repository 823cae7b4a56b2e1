package links_test

import (
	"net"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

// TestWhichCardIsMeant: of the cards of a host, the plan's is known by its address, its
// names and its place, in this order. The cards here have neither the address nor the
// place that the plan knows, unless a case says so.
func TestWhichCardIsMeant(t *testing.T) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	card := func(last byte, names ...string) spec.NIC {
		return spec.NIC{MAC: mac(last), AltNames: names, Device: "0000:00:0" + string('0'+rune(last)) + ".0"}
	}
	wanted := spec.Link{Name: "ens3", Kind: spec.Physical, NIC: spec.NIC{MAC: mac(1), AltNames: []string{"enp0s3", "outside"}, Device: "0000:00:01.0"}}
	in := func(ns, name string) links.LinkKey { return links.LinkKey{NS: ns, Name: name} }
	type cards map[links.LinkKey]spec.NIC
	for _, c := range []struct {
		name string
		have cards
		want links.LinkKey // zero: none
	}{
		{"none is left", cards{in("", "eth9"): card(9)}, links.LinkKey{}},
		{"renamed", cards{in("", "eth9"): card(1), in("", "ens3"): card(2)}, in("", "eth9")},
		{"another card of its name", cards{in("", "ens3"): card(2), in("", "enp0s3"): card(3)}, in("", "ens3")},
		{"the name is another one of a card", cards{in("", "eth9"): card(2, "x", "ens3"), in("", "eth8"): card(3, "y")}, in("", "eth9")},
		{"the name is another one of a card that has moved", cards{in(spec.Namespace, "eth9"): card(2, "ens3")}, in(spec.Namespace, "eth9")},
		{"the name is another one of two cards", cards{in("", "eth9"): card(2, "ens3"), in("", "eth8"): card(3, "ens3")}, links.LinkKey{}},
		{"a card is named as it was named, too", cards{in("", "outside"): card(2), in("", "eth8"): card(3)}, in("", "outside")},
		{"a card that has moved is named as it was named, too", cards{in(spec.Namespace, "enp0s3"): card(2), in("", "eth8"): card(3)}, in(spec.Namespace, "enp0s3")},
		{"two cards are named as it was named", cards{in("", "outside"): card(2), in("", "enp0s3"): card(3)}, links.LinkKey{}},
		{"two cards are named as it was named, one is in its place", cards{in("", "outside"): {MAC: mac(2), Device: "0000:00:01.0"}, in("", "enp0s3"): card(3)}, in("", "outside")},
		{"what is named as it was named, too, is no card", cards{in("", "enp0s3"): {}, in("", "outside"): card(2)}, in("", "outside")},
		{"the present name comes before earlier ones", cards{in("", "enp0s3"): card(2), in("", "eth9"): card(3, "ens3")}, in("", "eth9")},
		{"names come before the place", cards{in("", "outside"): card(2), in("", "eth8"): {MAC: mac(3), Device: "0000:00:01.0"}}, in("", "outside")},
		{"another card in its place", cards{in("", "eth9"): {MAC: mac(2), Device: "0000:00:01.0"}, in("", "eth8"): card(3)}, in("", "eth9")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &links.State{Links: map[links.LinkKey]links.Link{}}
			for key, nic := range c.have {
				s.Links[key] = links.Link{Link: spec.Link{Name: key.Name, NS: key.NS, Kind: spec.Physical, NIC: nic}}
			}
			if got, found := s.NIC(wanted); found != (c.want != links.LinkKey{}) || found && got != c.want {
				t.Errorf("found %+v (%v), wanted %+v", got, found, c.want)
			}
		})
	}
}
