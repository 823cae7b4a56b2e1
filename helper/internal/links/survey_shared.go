package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// SurveyShared finds what a host has to be given back with which the NIC stays, see
// Ways, and the smallest MTU of its interfaces to the outside, in bytes. It refuses hosts
// that have our names, networks or table already.
func SurveyShared(ranges network.Ranges) (facts *spec.Facts, err error) {
	err = again(func() error {
		return in("", func(h *netlink.Handle) error {
			v, err := look(h)
			if err != nil {
				return err
			}
			ways, mtu, err := findWays(v.links, v.routes, everywhere)
			if err == nil && len(ways.Outside) == 0 {
				ways, mtu, err = findIPv6Ways(v.links)
			}
			if err != nil {
				return err
			}
			facts = &spec.Facts{Shared: &ways, MTU: mtu}
			problems := v.conflicts(ranges)
			if len(ways.Outside) == 0 {
				problems = append(problems, spec.ErrNoWay)
			}
			return errors.Join(problems...)
		})
	})
	return facts, err
}

// Ways returns the interfaces with an IPv4 default route, in any table, or of IPv6 where there is
// none, those of them that do not forward, bridges among these, and whether the host is a router
// by itself.
func Ways() (ways spec.Shared, err error) {
	err = again(func() error {
		return in("", func(h *netlink.Handle) error {
			all, err := h.LinkList()
			if err != nil {
				return err
			}
			routes, err := dumpRoutes(unix.AF_INET, namesOf(all))
			if err == nil {
				ways, _, err = findWays(all, routes, everywhere)
			}
			if err == nil && len(ways.Outside) == 0 {
				ways, _, err = findIPv6Ways(all)
			}
			return err
		})
	})
	return ways, err
}

// findIPv6Ways is findWays for a host that has IPv6 alone.
func findIPv6Ways(all []netlink.Link) (ways spec.Shared, mtu int, err error) {
	routes, err := dumpRoutes(unix.AF_INET6, namesOf(all))
	if err != nil {
		return ways, 0, err
	}
	return findWays(all, routes, netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

func namesOf(all []netlink.Link) map[int]string {
	names := map[int]string{}
	for _, l := range all {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names
}

func findWays(all []netlink.Link, routes []foundRoute, everywhere netip.Prefix) (ways spec.Shared, mtu int, err error) {
	global, err := readSetting("net/ipv4/ip_forward")
	if err != nil {
		return ways, 0, err
	}
	byDefault, err := readSetting("net/ipv4/conf/default/forwarding")
	if err != nil {
		return ways, 0, err
	}
	ways.Router, ways.NewForward = global == "1", byDefault == "1"
	for _, l := range all {
		a := l.Attrs()
		leads := func(r foundRoute) bool {
			return r.To == everywhere && r.Table != spec.RouteTable && (r.index == a.Index || slices.Contains(r.others, a.Index))
		}
		if a.Name == spec.DirectHost || a.Name == spec.AccessLink || a.Flags&net.FlagLoopback != 0 || !slices.ContainsFunc(routes, leads) {
			continue // the gateway's own, or none
		}
		ways.Outside = append(ways.Outside, a.Name)
		if mtu == 0 || a.MTU < mtu {
			mtu = a.MTU
		}
		forwards, err := readSetting("net/ipv4/conf/" + a.Name + "/forwarding")
		if err != nil {
			return ways, 0, err
		}
		if forwards == "0" && !ways.Router { // or somebody wants it so
			ways.Opened = append(ways.Opened, a.Name)
			if l.Type() == "bridge" {
				ways.Bridges = append(ways.Bridges, a.Name)
			}
		}
	}
	return ways, mtu, nil
}

// taken names the interfaces that have these names already.
func (v *view) taken(names ...string) (problems []error) {
	for _, l := range v.links {
		if slices.Contains(names, l.Attrs().Name) {
			problems = append(problems, fmt.Errorf("interface %s: found one that is not Mobula's, wanted the name to be free", l.Attrs().Name))
		}
	}
	return problems
}

// conflicts names what has our names, subnets or table already.
func (v *view) conflicts(ranges network.Ranges) []error {
	problems := v.taken(spec.AccessLink, spec.AccessPort, spec.DirectHost, spec.DirectGateway, spec.WireLink, spec.SwitchBridge)
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if v.occupied {
		problem("network namespace %s: found one that is not Mobula's, wanted the name to be free", spec.Namespace)
	}
	for _, r := range v.routes {
		if r.Table == spec.RouteTable {
			problem("routing table %d: found a route to %s, wanted it to be free", spec.RouteTable, r.To)
		}
	}
	for _, r := range v.rules {
		if r.table == spec.RouteTable {
			problem("routing table %d: found rule %d, which leads to it, wanted it to be free", spec.RouteTable, r.priority)
		}
	}
	return append(problems, v.clashes(ranges)...)
}
