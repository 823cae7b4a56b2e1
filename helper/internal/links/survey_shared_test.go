package links_test

import (
	"errors"
	"fmt"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// TestWaysOutside: those of IPv4 count, and those of IPv6 where there are no others; what leads
// nowhere is none.
func TestWaysOutside(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"none", "", "[]"},
		{"IPv4", "route add default via 192.0.2.1 dev ens3", "[ens3]"},
		{"IPv4, and IPv6 elsewhere", "route add default via 192.0.2.1 dev ens3; route add ::/0 via 2001:db8::1 dev lan0", "[ens3]"},
		{"IPv6 alone", "route add ::/0 via 2001:db8::1 dev lan0", "[lan0]"},
		{"IPv6 that is refused", "route add unreachable ::/0 metric 4000", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !netnstest.Alone(t) {
				return
			}
			netnstest.Namespace(t, "isp")
			ip(t, "link add ens3 type veth peer name cable netns isp; link set ens3 up; link add lan0 mtu 1400 type veth peer name cable2 netns isp; link set lan0 up; "+
				"address add 192.0.2.2/24 dev ens3; address add 2001:db8::7/64 dev lan0 nodad; "+c.lines)
			ways, err := links.Ways()
			if got := fmt.Sprint(ways.Outside); err != nil || got != c.want {
				t.Errorf("found %s, %v, wanted %s", got, err, c.want)
			}
			facts, err := links.SurveyShared(network.Ranges{})
			if none := errors.Is(err, spec.ErrNoWay); none != (c.want == "[]") {
				t.Errorf("the survey says %v", err)
			}
			if c.want == "[lan0]" && facts.MTU != 1400 {
				t.Errorf("found an MTU of %d", facts.MTU)
			}
		})
	}
}
