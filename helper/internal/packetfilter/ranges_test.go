package packetfilter

import (
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// TestOtherRanges: what a packet filter has to let pass comes from the gateway's address in
// the network's own ranges, and an uninstall, which knows of none, takes that away again.
func TestOtherRanges(t *testing.T) {
	others := plantest.OtherRanges()
	f := firewalldSeen{running: true, zones: []string{"public"}, runtime: []string{"public 51820/udp"}, permanent: []string{"public 51820/udp"}}
	written := actions(&spec.Opening{Ranges: others, Port: 51820}, seen{firewalld: f})
	if len(written) != 1 || !strings.Contains(written[0].write, `<source address="172.20.0.0/32"/>`) || strings.Contains(written[0].write, "10.30.") {
		t.Fatalf("found %+v", written)
	}
	f.policy, f.loaded = written[0].write, true
	const want = `rule family="ipv4" source address="172.20.0.0/32" accept`
	if gone := actions(nil, seen{firewalld: f}); len(gone) != 1 || gone[0].disarm != want {
		t.Errorf("found %+v, wanted %s", gone, want)
	}
	filters := read(t, "", "firewalld.json", false)
	for _, ranges := range []network.Ranges{others, {}} {
		said := strings.Join(filters.Say(Evidence{Ranges: ranges, Port: 51820, Outside: []string{"eth0"}}), "\n")
		if !strings.Contains(said, `source address="`+ranges.DirectGateway().String()+`/32"`) {
			t.Errorf("%s: found %s", ranges, said)
		}
	}
}
