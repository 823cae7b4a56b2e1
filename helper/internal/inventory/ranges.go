package inventory

import (
	"fmt"

	"mobula/helper/internal/network"
)

// Variables that are the network's: every host says the same.
const (
	wireNetwork   = "wire_network"
	accessNetwork = "access_network"
)

func (h *host) readWireNetwork(value any) string {
	h.networks[0] = value
	return ""
}

func (h *host) readAccessNetwork(value any) string {
	h.networks[1] = value
	return ""
}

// ranges returns the networks that the hosts name. What is wrong with them is said once,
// and then they are those of a network that names none.
func (c *compilation) ranges(hosts []*host) network.Ranges {
	wire, goodWire := c.slash16(hosts, 0, wireNetwork)
	access, goodAccess := c.slash16(hosts, 1, accessNetwork)
	c.noRanges = !goodWire || !goodAccess
	if c.noRanges {
		return network.Ranges{}
	}
	ranges := network.NewRanges(wire, access)
	problems := (&network.Document{Ranges: ranges, UnderlayMTU: DefaultUnderlayMTU}).Validate()
	for _, p := range problems {
		c.reportShared(hosts, p.Field, p.Found, p.Want)
	}
	if c.noRanges = len(problems) > 0; c.noRanges {
		return network.Ranges{}
	}
	c.asDeployed(hosts, ranges)
	return ranges
}

// slash16 reads one of the networks; 0: no host names it.
func (c *compilation) slash16(hosts []*host, i int, field string) (n network.Slash16, good bool) {
	var first *host
	for _, h := range hosts {
		if h.bad[field] { // everything is said already
			return 0, false
		}
		if first == nil {
			first = h
		}
		if mine, others := shown(h.networks[i]), shown(first.networks[i]); mine != others {
			h.bad[field] = true
			c.report(h.Name, field, fmt.Sprintf("%s, and %s of %s", mine, others, first.Name), "the same for all hosts, under all: vars")
			return 0, false
		}
	}
	if first == nil || first.networks[i] == nil {
		return 0, true
	}
	text, _ := first.networks[i].(string)
	n, err := network.ParseSlash16(text)
	if err != nil {
		c.reportShared(hosts, field, shown(first.networks[i]), network.WantSlash16)
		return 0, false
	}
	return n, true
}

// asDeployed holds that a network in use keeps its ranges: every address in it follows
// from them. What was deployed last is not known if the file about it is lost; the hosts
// refuse it, too.
func (c *compilation) asDeployed(hosts []*host, ranges network.Ranges) {
	used := false
	for _, h := range hosts {
		used = used || !c.keys.Hosts[h.Name].PublicKey.IsZero()
	}
	before := c.keys.Ranges
	if !used || c.keys.Generation == "" || before == ranges {
		return
	}
	for _, n := range []struct{ field, is, was string }{
		{wireNetwork, ranges.Wire().String(), before.Wire().String()},
		{accessNetwork, ranges.Access().String(), before.Access().String()},
	} {
		if n.is != n.was {
			c.reportShared(hosts, n.field, n.is, n.was+", with which these hosts are deployed: addresses in use do not change. "+
				"To have others, uninstall all hosts first (playbooks/uninstall.yml), and remove wireguard_pubkeys.yml and mobula_state.yml")
		}
	}
}

// reportShared is report for a variable of all hosts, which one of them stands for.
func (c *compilation) reportShared(hosts []*host, field, found, want string) {
	name := ""
	at, known := c.sources.groupVariable(field)
	for _, h := range hosts {
		if place, own := c.sources.ownVariable(h.Name, field); own && !known {
			name, at, known = h.Name, place, true
		}
	}
	c.problems.add(Problem{at.file, at.line, name, field, found, want})
}
