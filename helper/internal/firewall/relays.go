package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"

	"mobula/helper/internal/spec"
)

// relays is what the template of the relays' ruleset sees: names, and elements of sets and
// maps.
type relays struct {
	Devices, Own                       []string
	Numbered                           []string // interfaces
	Ports, Relays, RelayPorts, Senders []string
	Usual, Others                      []string
	Chains                             []wayChain
}

// wayChain sends on by one interface, to one hop or to who is on the link itself.
type wayChain struct {
	Name, Hop, Link string
	Over            string // lengths of packets that another interface may bring and that find no way; "": there are none
}

// RenderRelays returns the ruleset for nft -f in the host's own namespace; "" if there is
// nobody to relay to. The same plan and ways give the same text.
func RenderRelays(d *spec.Doorway, onward *spec.Onward) string {
	v := relays{}
	longest, mtu := 0, map[string]int{}
	for _, l := range onward.Links {
		v.Devices = append(v.Devices, strconv.Quote(l.Name))
		v.Numbered = append(v.Numbered, fmt.Sprintf("%d: %s", l.Index, l.Name))
		mtu[l.Name], longest = l.MTU, max(longest, l.MTU)
	}
	chainOf := map[spec.Way]string{}
	for i, hop := range hops(onward.Ways) {
		c := wayChain{Name: fmt.Sprintf("way_%d", i+1), Hop: "ip daddr", Link: strconv.Quote(hop.Link)}
		if hop.Hop.IsValid() {
			c.Hop = hop.Hop.String()
		}
		if mtu[hop.Link] < longest {
			c.Over = fmt.Sprintf("%d-%d", mtu[hop.Link]+1, longest)
		}
		v.Chains, chainOf[hop] = append(v.Chains, c), c.Name
	}
	reached := v.addWays(onward.Ways, d.Targets(), chainOf)
	for _, r := range d.Relays {
		v.Senders = append(v.Senders, sendersOf(r)...)
		if reached[r.Endpoint.Addr()] {
			v.Ports = append(v.Ports, fmt.Sprint(r.Port))
			v.Relays = append(v.Relays, fmt.Sprintf("%d : %s", r.Port, r.Endpoint.Addr()))
			v.RelayPorts = append(v.RelayPorts, fmt.Sprintf("%d : %d", r.Port, r.Endpoint.Port()))
		}
	}
	if len(v.Ports) == 0 || len(v.Devices) == 0 {
		return ""
	}
	return execute("relays.nft", v)
}

// hopOf is what ways have in common that one chain serves: Hop is zero for who is on the
// link itself.
func hopOf(w spec.Way) spec.Way {
	hop := spec.Way{Link: w.Link}
	if w.Hop != w.To {
		hop.Hop = w.Hop
	}
	return hop
}

// hops returns the different ones of the ways, in an order of their own.
func hops(ways []spec.Way) (all []spec.Way) {
	known := map[spec.Way]bool{}
	for _, w := range ways {
		if hop := hopOf(w); !known[hop] {
			known[hop], all = true, append(all, hop)
		}
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		return a.Link < b.Link || a.Link == b.Link && a.Hop.Less(b.Hop)
	})
	return all
}

// addWays fills Own, Usual and Others: most others are behind the same hop, and each of the
// rest is an element of its own. It returns who is reached.
func (v *relays) addWays(ways []spec.Way, targets []netip.Addr, chainOf map[spec.Way]string) (reached map[netip.Addr]bool) {
	reached = map[netip.Addr]bool{}
	by := map[netip.Addr]map[netip.Addr]string{} // chains, by from and to
	var own []netip.Addr
	for _, w := range ways {
		if by[w.From] == nil {
			by[w.From], own = map[netip.Addr]string{}, append(own, w.From)
		}
		by[w.From][w.To], reached[w.To] = "goto "+chainOf[hopOf(w)], true
	}
	slices.SortFunc(own, netip.Addr.Compare)
	v.Own = addresses(own)
	for _, from := range own {
		usual := mostUsed(by[from])
		v.Usual = append(v.Usual, fmt.Sprintf("%s : %s", from, usual))
		done := map[netip.Addr]bool{}
		for _, to := range targets {
			way := by[from][to]
			if way == "" {
				way = "drop"
			}
			if way != usual && reached[to] && !done[to] {
				v.Others = append(v.Others, fmt.Sprintf("%s . %s : %s", from, to, way))
			}
			done[to] = true
		}
	}
	return reached
}

// mostUsed returns the first in the alphabet of those that most have.
func mostUsed(chains map[netip.Addr]string) (most string) {
	count := map[string]int{}
	for _, name := range chains {
		count[name]++
	}
	for name, n := range count {
		if n > count[most] || n == count[most] && name < most {
			most = name
		}
	}
	return most
}
