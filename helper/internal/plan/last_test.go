package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// TestHostWithoutAccessAddress: what would be the access address of the last host ID
// is the broadcast address of the access network. The host goes outside by the
// direct link instead, and its name leads to where it answers.
func TestHostWithoutAccessAddress(t *testing.T) {
	d := document(t, func(d *network.Document) { d.Hosts[2].ID, d.Hosts[2].Hostname = network.MaxHostID, "last.example.com" })
	h := mustBuild(t, d, network.MaxHostID, facts(spec.Ifupdown))
	for _, a := range h.Addresses {
		if a.Prefix.Addr() == (network.Ranges{}).AccessBroadcast() {
			t.Errorf("%s has %s", a.Link, a.Prefix)
		}
	}
	var ways []string
	for _, r := range h.Routes {
		if r.NS == "" && r.Table == 0 && r.To == spec.Everywhere {
			ways = append(ways, fmt.Sprint(r.Link, " via ", r.Via, " onlink ", r.OnLink, " from ", r.Source))
		}
	}
	if want := "[mo-dir-hs via 10.30.0.0 onlink true from 10.30.127.255]"; fmt.Sprint(ways) != want {
		t.Errorf("default routes: %v, wanted %s", ways, want)
	}
	for _, n := range d.PrivateNames() {
		if n.Name == "last.example.com" && n.Address != netip.MustParseAddr("10.30.127.255") {
			t.Errorf("its name stands for %s", n.Address)
		}
	}
}
