package links

import (
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/spec"
)

// What a rule is added with no priority for comes before all others but the first
// (fib_default_rule_pref in the kernel), and so before Mobula's: wg-quick(8) does so with
// what takes all of the host's traffic. Mobula's two rules for the direct link go before
// such a rule then, and back when it is gone.

// ahead is how many priorities they take: RulePriority and the next.
const ahead = 2

// catcher is a rule that may take any packet, whichever it is from or to.
type catcher struct {
	priority, table int
	all             bool
}

// readCatcher reads an RTM_NEWRULE or RTM_DELRULE message (<linux/fib_rules.h>).
func readCatcher(m []byte, _ map[int]string) (c catcher, err error) {
	if len(m) < unix.SizeofRtMsg {
		return c, fmt.Errorf("a rule in %d bytes", len(m))
	}
	const invert, protocol, fromPort, toPort = 2, 22, 23, 24 // FIB_RULE_INVERT, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE
	all := attributes(m[unix.SizeofRtMsg:])
	c = catcher{int(numberIn(all[nl.FRA_PRIORITY])), int(m[4]), true}
	if t, ok := all[nl.FRA_TABLE]; ok {
		c.table = int(numberIn(t))
	}
	selects := m[1] != 0 || m[2] != 0 || numberIn(all[nl.FRA_FWMARK]) != 0
	for _, kind := range []uint16{nl.FRA_IIFNAME, nl.FRA_OIFNAME, nl.FRA_L3MDEV, protocol, fromPort, toPort} {
		_, has := all[kind]
		selects = selects || has
	}
	inverted := numberIn(m[8:12])&invert != 0
	c.all = !selects || inverted
	return c, nil
}

// comesFirst reports that a rule comes before Mobula's where those are at home.
func (c catcher) comesFirst() bool {
	return c.all && c.table != spec.RouteTable && c.priority < spec.RulePriority
}

// firstCatcher returns the priority before which Mobula's rules have to be; 0: they are at
// home. What is the host's own stays the host's: they never come before its addresses.
func firstCatcher(rules []catcher) (first int) {
	local := 0
	for _, c := range rules {
		if c.table == unix.RT_TABLE_LOCAL {
			local = max(local, c.priority)
		}
	}
	for _, c := range rules {
		if c.comesFirst() && c.priority > local && (first == 0 || c.priority < first) {
			first = c.priority
		}
	}
	if first <= local+ahead {
		return 0 // there is no room
	}
	return first
}

// placed returns a wanted rule where it has to be.
func (d *differ) placed(r spec.Rule) spec.Rule {
	if d.have.Catcher != 0 && r.Table == spec.RouteTable && r.Priority < spec.RulePriority+ahead {
		r.Priority += d.have.Catcher - ahead - spec.RulePriority
	}
	return r
}

// caught tells of rules that come or go before Mobula's.
func (o *Own) caught(m syscall.NetlinkMessage) string {
	c, err := readCatcher(m.Data, nil)
	if err != nil || len(o.rules) == 0 || !c.comesFirst() || c.table == unix.RT_TABLE_LOCAL {
		return ""
	}
	if m.Header.Type == unix.RTM_NEWRULE {
		return fmt.Sprintf("rule %d of somebody else's comes first", c.priority)
	}
	return fmt.Sprintf("rule %d of somebody else's is gone", c.priority)
}
