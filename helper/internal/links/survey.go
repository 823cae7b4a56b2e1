package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
)

// Survey finds the uplink of a host that Mobula has not changed yet, with its
// addresses and routes. uplink is its name, or "" for that of the default route.
// The error names everything that stands in the way of moving it.
func Survey(uplink string) (*plan.Facts, error) {
	var facts *plan.Facts
	err := again(func() error {
		return in("", func(h *netlink.Handle) (err error) {
			facts, err = survey(h, uplink)
			return err
		})
	})
	return facts, err
}

func survey(h *netlink.Handle, uplink string) (*plan.Facts, error) {
	link, err := findUplink(h, uplink)
	if err != nil {
		return nil, err
	}
	a := link.Attrs()
	facts := &plan.Facts{Uplink: a.Name, MAC: a.HardwareAddr, MTU: a.MTU}
	problems := []error{movable(link), conflicts(h, a.Name)}
	addresses, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if address.Flags&unix.IFA_F_PERMANENT == 0 {
			problems = append(problems, fmt.Errorf("uplink %s: found address %s from DHCP (it has a lifetime), wanted a static one", a.Name, address.IPNet))
		}
		facts.Addresses = append(facts.Addresses, prefix(address.IPNet))
	}
	if len(facts.Addresses) == 0 {
		problems = append(problems, fmt.Errorf("uplink %s: found no IPv4 address, wanted at least one", a.Name))
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: a.Index, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_KERNEL {
			continue
		}
		if r.Protocol == unix.RTPROT_DHCP {
			problems = append(problems, fmt.Errorf("uplink %s: found a route from DHCP, wanted static configuration", a.Name))
		}
		facts.Routes = append(facts.Routes, planRoute(r, "", a.Name))
	}
	if err := surveyIPv6(h, link, facts); err != nil {
		return nil, err
	}
	// Routes to a gateway's own network first: the others need them.
	for _, all := range [][]plan.Route{facts.Routes, facts.IPv6Routes} {
		sort.SliceStable(all, func(i, j int) bool { return all[i].To.Bits() > all[j].To.Bits() })
	}
	return facts, errors.Join(problems...)
}

// surveyIPv6 notes what does not come back by itself when the NIC does.
func surveyIPv6(h *netlink.Handle, link netlink.Link, facts *plan.Facts) error {
	addresses, err := ipv6Addresses(h, link)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		facts.IPv6Addresses = append(facts.IPv6Addresses, prefix(a.IPNet))
	}
	routes, err := ipv6Routes(h)
	for _, r := range routes {
		if r.LinkIndex == link.Attrs().Index {
			facts.IPv6Routes = append(facts.IPv6Routes, planRoute(r, "", link.Attrs().Name))
		}
	}
	return err
}

func findUplink(h *netlink.Handle, name string) (netlink.Link, error) {
	if name != "" {
		link, err := h.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil, fmt.Errorf("uplink: found no interface %q, wanted an existing one", name)
		}
		return link, err
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	best := -1
	for i, r := range routes {
		isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified()
		if isDefault && r.LinkIndex != 0 && (best < 0 || r.Priority < routes[best].Priority) {
			best = i
		}
	}
	if best < 0 {
		return nil, errors.New("uplink: found no default route, wanted one or the variable uplink")
	}
	return h.LinkByIndex(routes[best].LinkIndex)
}

// movable tells why a link cannot move into another namespace.
func movable(link netlink.Link) error {
	a := link.Attrs()
	switch link.Type() {
	case "bridge", "bond", "team", "openvswitch", "tun", "wireguard":
		return fmt.Errorf("uplink %s: found a %s, wanted a NIC", a.Name, link.Type())
	}
	if a.Flags&net.FlagLoopback != 0 {
		return fmt.Errorf("uplink %s: found the loopback, wanted a NIC", a.Name)
	}
	if a.MasterIndex != 0 {
		return fmt.Errorf("uplink %s: found a port of another bridge or bond, wanted a NIC of its own", a.Name)
	}
	return nil
}

// conflicts names what has our names or subnets already.
func conflicts(h *netlink.Handle, uplink string) error {
	var problems []error
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	names := map[int]string{}
	ours := map[string]bool{}
	for _, name := range []string{plan.AccessLink, plan.AccessPort, plan.DirectHost, plan.DirectGateway, plan.WireLink,
		plan.ExternalLink, plan.UplinkPort, plan.SwitchBridge, plan.UplinkVeth(uplink)} {
		ours[name] = true
	}
	if netns.Exists(plan.Namespace) {
		problems = append(problems, fmt.Errorf("network namespace %s: found one that is not Mobula's, wanted the name to be free", plan.Namespace))
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		if ours[l.Attrs().Name] {
			problems = append(problems, fmt.Errorf("interface %s: found one that is not Mobula's, wanted the name to be free", l.Attrs().Name))
		}
	}
	addresses, err := h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	for _, a := range addresses {
		if address := prefix(a.IPNet).Addr(); inOurs(netip.PrefixFrom(address, address.BitLen())) {
			problems = append(problems, fmt.Errorf("interface %s: found address %s, wanted %s and %s to be free", names[a.LinkIndex], a.IPNet, network.Wire, network.Access))
		}
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_KERNEL && r.Dst != nil && inOurs(prefix(r.Dst)) {
			problems = append(problems, fmt.Errorf("interface %s: found a route to %s, wanted %s and %s to be free", names[r.LinkIndex], r.Dst, network.Wire, network.Access))
		}
	}
	return errors.Join(problems...)
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

// Exists reports whether the named link is in the host's own namespace or in
// the gateway's.
func Exists(name string) bool {
	for _, ns := range []string{"", plan.Namespace} {
		err := in(ns, func(h *netlink.Handle) error { _, err := h.LinkByName(name); return err })
		if err == nil {
			return true
		}
	}
	return false
}
