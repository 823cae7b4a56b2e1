package links

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
)

// SurveyShared finds what a host has to be given back with which the NIC stays: that
// its interfaces to the outside do not forward. It also returns the smallest MTU of
// these, in bytes. It refuses hosts that have our names, networks or table already.
func SurveyShared() (facts *plan.Facts, err error) {
	err = again(func() error {
		return in("", func(h *netlink.Handle) error {
			v, err := look(h)
			if err != nil {
				return err
			}
			facts, err = v.surveyShared(readSetting)
			return err
		})
	})
	return facts, err
}

func (v *view) surveyShared(read func(key string) (string, error)) (*plan.Facts, error) {
	facts := &plan.Facts{Shared: &plan.Shared{}}
	problems := v.conflicts()
	global, err := read("net/ipv4/ip_forward")
	if err != nil {
		return nil, err
	}
	for _, l := range v.links {
		a := l.Attrs()
		if !slices.ContainsFunc(v.routes, func(r foundRoute) bool {
			return r.To == everywhere && (r.index == a.Index || slices.Contains(r.others, a.Index))
		}) {
			continue
		}
		facts.Shared.Outside = append(facts.Shared.Outside, a.Name)
		if facts.MTU == 0 || a.MTU < facts.MTU {
			facts.MTU = a.MTU
		}
		forwards, err := read("net/ipv4/conf/" + a.Name + "/forwarding")
		switch {
		case err != nil:
			problems = append(problems, err)
		case forwards == "0" && global == "0":
			facts.Shared.Opened = append(facts.Shared.Opened, a.Name)
			if l.Type() == "bridge" {
				facts.Shared.Bridges = append(facts.Shared.Bridges, a.Name)
			}
		case forwards == "0":
			problems = append(problems, fmt.Errorf("interface %s: found forwarding off though net.ipv4.ip_forward is on, wanted both alike: guests would not get outside", a.Name))
		}
	}
	if facts.MTU == 0 {
		problems = append(problems, errors.New("uplink: found no default route, wanted one"))
	}
	return facts, errors.Join(problems...)
}

// conflicts names what has our names, those given among them, subnets or table already.
func (v *view) conflicts(names ...string) (problems []error) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	names = append(names, plan.AccessLink, plan.AccessPort, plan.DirectHost, plan.DirectGateway, plan.WireLink, plan.SwitchBridge)
	if v.occupied {
		problem("network namespace %s: found one that is not Mobula's, wanted the name to be free", plan.Namespace)
	}
	for _, l := range v.links {
		if slices.Contains(names, l.Attrs().Name) {
			problem("interface %s: found one that is not Mobula's, wanted the name to be free", l.Attrs().Name)
		}
	}
	for _, a := range v.addresses {
		if inOurs(netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen())) {
			problem("interface %s: found address %s, wanted %s and %s to be free", a.Link, a.Prefix, network.Wire, network.Access)
		}
	}
	for _, r := range v.routes {
		switch {
		case r.Table == plan.RouteTable:
			problem("routing table %d: found a route to %s, wanted it to be free", plan.RouteTable, r.To)
		case r.Table == 0 && r.Protocol != protocolKernel && inOurs(r.To):
			problem("interface %s: found a route to %s, wanted %s and %s to be free", r.Link, r.To, network.Wire, network.Access)
		}
	}
	for _, r := range v.rules {
		if r.table == plan.RouteTable {
			problem("routing table %d: found rule %d, which leads to it, wanted it to be free", plan.RouteTable, r.priority)
		}
	}
	return problems
}

// inOurs reports that p overlaps one of the networks but is not a route to
// everything or to a supernet of them.
func inOurs(p netip.Prefix) bool {
	for _, ours := range []netip.Prefix{network.Wire, network.Access} {
		if p.Bits() >= ours.Bits() && ours.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
