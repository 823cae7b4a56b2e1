package plan

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// TestOtherRanges: the plan of a network in other ranges is that of the default ones with
// the first bytes of these everywhere.
func TestOtherRanges(t *testing.T) {
	other := strings.NewReplacer("10.30.", "172.20.", "10.31.", "192.168.", "30.10.in-addr", "20.172.in-addr", "31.10.in-addr", "168.192.in-addr")
	ranges := network.NewRanges(172<<8|20, 192<<8|168)
	for path, c := range map[string]struct {
		id    uint16
		facts spec.Facts
		own   func(*network.Host)
	}{
		"host1-ifupdown":           {1, withProgram(facts(spec.Ifupdown)), func(*network.Host) {}},
		"host256-systemd-networkd": {256, withProgram(facts(spec.Networkd)), func(*network.Host) {}},
		"host256-ifupdown":         {256, withProgram(facts(spec.Ifupdown)), func(h *network.Host) { h.ManualAccess = true }},
		"host256-shared": {256, withProgram(sharedFacts(spec.Ifupdown, spec.Networkd, spec.NetworkManager)), func(h *network.Host) {
			if h.ID == 256 {
				h.SharedUplink, h.Publish = true, nil
			}
		}},
	} {
		d := document(t, func(d *network.Document) {
			d.Ranges, d.Clients[0].Address = ranges, netip.MustParseAddr("172.20.128.1")
			for i := range d.Hosts {
				c.own(&d.Hosts[i])
			}
		})
		golden, err := os.ReadFile("testdata/" + path + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(text(mustBuild(t, d, c.id, c.facts)), "Ranges:"+ranges.String()+" ", "")
		if want := other.Replace(string(golden)); got != want {
			t.Errorf("%s: found\n%s\nwanted\n%s", path, got, want)
		}
	}
}
