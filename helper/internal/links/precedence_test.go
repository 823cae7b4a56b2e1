package links

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// TestRulesComeFirst: Mobula's rules go before those that may take any packet, whichever
// somebody adds, and come back; never before the host's own addresses. On the real kernel.
func TestRulesComeFirst(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	p, err := plan.Build(plantest.Document(plantest.Host(1)), 1, *plantest.Facts())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Subscribe("")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	own, heard := NewOwn(p, ""), make(chan string, 100)
	go func() {
		_ = Watch(s, func() *Own { return own }, func(what string) { heard <- what }, func() {})
	}()
	for _, c := range []struct {
		what, rule string // of ip-rule(8)
		catcher    int
	}{
		{"all", "priority 700 lookup 77", 700},
		{"all but what has a mark, as of wg-quick", "priority 701 not fwmark 51820 lookup 77", 701},
		{"specific routes of the main table", "priority 702 lookup main suppress_prefixlength 0", 702},
		{"as far down as there is room", "priority 3 lookup 77", 3},
		{"where there is none", "priority 2 lookup 77", 0},
		{"behind ours", "priority 5000 lookup 77", 0},
		{"of one source", "priority 703 from 192.0.2.0/24 lookup 77", 0},
		{"to one destination", "priority 704 to 192.0.2.0/24 lookup 77", 0},
		{"of a mark", "priority 705 fwmark 7 lookup 77", 0},
		{"by an interface", "priority 706 iif eth7 lookup 77", 0},
		{"of one protocol", "priority 707 ipproto tcp dport 80 lookup 77", 0},
		{"of a VRF", "priority 1000 l3mdev", 0},
		{"ours", "priority 708 to 10.30.0.0/16 lookup 1030", 0},
		{"the host's addresses, elsewhere", "priority 709 lookup local", 0},
	} {
		netnstest.Run(t, "", "sh", "-c", "ip rule add "+c.rule)
		state, err := Netlink{}.Observe(nil, spec.RouteTable, nil)
		if err != nil || state.Catcher != c.catcher {
			t.Errorf("%s: found %d, %v, wanted %d", c.what, state.Catcher, err, c.catcher)
		}
		netnstest.Run(t, "", "sh", "-c", "ip rule del "+c.rule)
		if c.catcher != 0 {
			for _, want := range []string{"comes first", "is gone"} {
				if what := <-heard; what[len(what)-len(want):] != want {
					t.Errorf("%s: heard %q, wanted %q", c.what, what, want)
				}
			}
		}
	}
	netnstest.Run(t, "", "sh", "-c", "ip rule add priority 100 lookup local; ip rule del priority 0; ip rule add priority 50 lookup 77; ip rule add priority 101 lookup 78")
	if state, err := (Netlink{}).Observe(nil, spec.RouteTable, nil); err != nil || state.Catcher != 0 {
		t.Errorf("behind the host's addresses: found %d, %v, wanted none", state.Catcher, err)
	}
	if got := own.caught(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWRULE}}); got != "" {
		t.Errorf("cut short: %q", got)
	}
}
