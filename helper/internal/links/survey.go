package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Survey finds the uplink of a host that Mobula has not changed yet, with its
// addresses, routes and settings. uplink is its name, or "" for that of the default
// route. What cannot be given back exactly as it is, or is not known to be, is
// refused: the error names everything that stands in the way of moving the NIC. In use:
// Mobula is on the host, with which the NIC has stayed.
func Survey(ranges network.Ranges, uplink string, inUse bool) (*spec.Facts, error) {
	var facts *spec.Facts
	err := again(func() error {
		return in("", func(h *netlink.Handle) error {
			v, err := look(h)
			if err != nil {
				return err
			}
			if facts, err = v.survey(ranges, uplink, inUse); facts == nil {
				return err
			}
			nic, problem := h.LinkByName(facts.Uplink)
			if problem != nil {
				return problem
			}
			facts.Baseline.Settings, problem = nicSettings(nic.Attrs())
			return errors.Join(err, problem)
		})
	})
	return facts, err
}

// survey judges the view.
func (v *view) survey(ranges network.Ranges, uplink string, inUse bool) (*spec.Facts, error) {
	link, err := v.findUplink(uplink)
	if err != nil {
		return nil, err
	}
	a := link.Attrs()
	u := &uplinkView{view: v, link: a}
	facts := &spec.Facts{Uplink: a.Name, MAC: a.HardwareAddr, MTU: a.MTU, Index: a.Index}
	known := identity(link)
	facts.CardMAC, facts.AltNames, facts.Device = known.MAC, a.AltNames, known.Device
	u.movable(link)
	u.alone()
	u.itself()
	u.problems = append(u.problems, v.taken(spec.ExternalLink, spec.UplinkPort, spec.UplinkVeth(u.link.Name))...)
	if !inUse {
		u.problems = append(u.problems, v.conflicts(ranges)...)
	}
	facts.Baseline = u.baseline()
	for _, a := range facts.Baseline.Addresses {
		if a.Prefix.Addr().Is4() {
			facts.Addresses = append(facts.Addresses, a.Prefix)
		} else if a.Prefix.Addr().IsGlobalUnicast() {
			facts.IPv6Addresses = append(facts.IPv6Addresses, a.Prefix)
		}
	}
	for _, r := range facts.Baseline.Routes {
		switch {
		case r.Protocol == protocolKernel: // older helpers look at no such routes
		case r.To.Addr().Is4():
			facts.Routes = append(facts.Routes, r)
		default:
			facts.IPv6Routes = append(facts.IPv6Routes, r)
		}
	}
	return facts, errors.Join(u.problems...)
}

// Through returns the interface by which the host reaches an address. One of its own
// is reached by the loopback.
func Through(to netip.Addr) (name string, err error) {
	err = in("", func(h *netlink.Handle) error {
		routes, err := h.RouteGet(to.AsSlice())
		if err != nil {
			return err
		}
		if len(routes) == 0 {
			return fmt.Errorf("%s: found no route", to)
		}
		link, err := h.LinkByIndex(routes[0].LinkIndex)
		if err == nil {
			name = link.Attrs().Name
		}
		return err
	})
	return name, err
}

// uplinkView judges one interface as uplink.
type uplinkView struct {
	*view
	link     *netlink.LinkAttrs
	problems []error
}

// found notes what was found of the uplink, and what is wanted instead.
func (u *uplinkView) found(what, want string) {
	u.problems = append(u.problems, fmt.Errorf("uplink %s: found %s, wanted %s", u.link.Name, what, want))
}

// lost notes what would not come back when the NIC does.
func (u *uplinkView) lost(format string, args ...any) {
	u.found(fmt.Sprintf(format, args...), "none: it cannot be given back as it is after the NIC has moved")
}

func (v *view) findUplink(name string) (netlink.Link, error) {
	if name != "" {
		for _, l := range v.links {
			if a := l.Attrs(); a.Name == name || slices.Contains(a.AltNames, name) {
				return l, nil
			}
		}
		return nil, fmt.Errorf("uplink: found no interface %q, wanted an existing one", name)
	}
	var best *foundRoute
	for i, r := range v.routes {
		if r.Table == 0 && r.To == everywhere && (r.index != 0 || len(r.others) > 0) && (best == nil || r.Metric < best.Metric) {
			best = &v.routes[i]
		}
	}
	switch {
	case best == nil:
		return nil, errors.New("uplink: found no default route, wanted one or the variable uplink")
	case best.index == 0:
		return nil, errors.New("uplink: found a default route with several next hops, wanted one with one, or the variable uplink")
	}
	for _, l := range v.links {
		if l.Attrs().Index == best.index {
			return l, nil
		}
	}
	return nil, fmt.Errorf("uplink: found a default route over interface %d, wanted one that exists", best.index)
}

var everywhere = netip.MustParsePrefix("0.0.0.0/0")

// movable tells why a link cannot move into another namespace and come back, also
// after a reboot. Only devices that nobody has to make do: those without a kind. A
// veth whose other end is in another namespace is one to the host in a container.
func (u *uplinkView) movable(link netlink.Link) {
	a := u.link
	cable := link.Type() == "veth" && a.NetNsID >= 0
	switch {
	case a.Flags&net.FlagLoopback != 0:
		u.found("the loopback", "a NIC")
	case link.Type() != "device" && !cable:
		u.found("a "+link.Type(), "a NIC: nobody would make it again when the host boots")
	case a.EncapType != "ether":
		u.found("hardware of type "+a.EncapType, "Ethernet")
	}
	if a.MasterIndex != 0 {
		u.found(fmt.Sprintf("a port of %s", u.nameOf(a.MasterIndex)), "a NIC of its own")
	}
	if a.Flags&net.FlagUp == 0 {
		u.found("it down", "it up")
	}
	if a.Xdp != nil && a.Xdp.Attached {
		u.lost("an XDP program")
	}
}

func (u *uplinkView) nameOf(index int) string {
	if name := u.names[index]; name != "" {
		return name
	}
	return fmt.Sprintf("interface %d", index)
}

// alone names what stands on the uplink or hangs on it.
func (u *uplinkView) alone() {
	for _, l := range u.links {
		a := l.Attrs()
		vxlan, isVXLAN := l.(*netlink.Vxlan)
		above := a.ParentIndex == u.link.Index && a.NetNsID < 0 && a.Index != u.link.Index && a.Index != u.link.ParentIndex
		if above || isVXLAN && vxlan.VtepDevIndex == u.link.Index {
			u.lost("%s, a %s on it", a.Name, l.Type())
		}
		if a.MasterIndex == u.link.Index {
			u.lost("%s, a port of it", a.Name)
		}
	}
	for _, address := range u.neighbors[u.link.Index] {
		u.lost("a permanent or proxy neighbor entry for %s", address)
	}
	for _, id := range u.nextHops[u.link.Index] {
		u.lost("nexthop object %d", id)
	}
	for _, q := range u.qdiscs {
		if a := q.Attrs(); a.LinkIndex == u.link.Index && a.Handle != 0 { // the kernel's own have none
			u.lost("queueing discipline %s %s", q.Type(), netlink.HandleStr(a.Handle))
		}
	}
	u.rulesOf()
}

// rulesOf names rules that mean the uplink: they would stay, without what they mean.
func (u *uplinkView) rulesOf() {
	selects := func(p netip.Prefix) bool {
		if !p.IsValid() || p.Bits() == 0 {
			return false
		}
		for _, a := range u.addresses {
			if a.index == u.link.Index && p.Contains(a.Prefix.Addr()) {
				return true
			}
		}
		return false
	}
	is := func(name string) bool {
		return name != "" && (name == u.link.Name || slices.Contains(u.link.AltNames, name))
	}
	through := map[int]bool{}
	for _, r := range u.routes {
		through[r.Table] = through[r.Table] || r.index == u.link.Index && r.Table != 0 && !r.local
	}
	for _, r := range u.rules {
		switch {
		case is(r.in) || is(r.out):
			u.lost("rule %d, which names it", r.priority)
		case selects(r.from) || selects(r.to):
			u.lost("rule %d, which selects its address", r.priority)
		case through[r.table]:
			u.lost("rule %d, which leads to table %d with routes over it", r.priority, r.table)
		}
	}
}
