package links

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Nearby returns the addresses by which others that are in one network with the named
// namespace ("": the host's own) can reach it there, each with that network: one of each family,
// network and interface, private ones first (RFC 1918, 4193). What Mobula or any other tunnel carries is no
// such network, nor is one in which there are machines of this host alone.
func Nearby(namespace string) (all []netip.Prefix, err error) {
	err = again(func() error {
		return in(namespace, func(h *netlink.Handle) error {
			links, err := h.LinkList()
			if err != nil {
				return err
			}
			addresses, err := h.AddrList(nil, unix.AF_UNSPEC)
			all = nearby(links, addresses)
			return err
		})
	})
	return all, err
}

func nearby(links []netlink.Link, addresses []netlink.Addr) (all []netip.Prefix) {
	g := groundOf(links)
	type network struct {
		link int
		of   netip.Prefix
	}
	seen := map[network]bool{}
	for _, a := range addresses {
		n, ok := prefixOf(a)
		if !ok || !g.carries(a.LinkIndex) || seen[network{a.LinkIndex, n.Masked()}] {
			continue
		}
		seen[network{a.LinkIndex, n.Masked()}] = true
		all = append(all, n)
	}
	slices.SortStableFunc(all, func(a, b netip.Prefix) int {
		switch {
		case a.Addr().IsPrivate() == b.Addr().IsPrivate():
			return 0
		case a.Addr().IsPrivate():
			return -1
		}
		return 1
	})
	return all
}

// prefixOf returns an address that lasts, if it is one of several in its network.
func prefixOf(a netlink.Addr) (n netip.Prefix, ok bool) {
	address, ok := netip.AddrFromSlice(a.IP)
	if !ok || a.IPNet == nil || a.Scope != unix.RT_SCOPE_UNIVERSE {
		return n, false
	}
	passing := unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	if address = address.Unmap(); address.Is6() {
		passing |= unix.IFA_F_TEMPORARY // of IPv4 this bit means another one in the same network
	}
	bits, _ := a.Mask.Size()
	n = netip.PrefixFrom(address, bits)
	return n, a.Flags&passing == 0 && address.IsGlobalUnicast() && bits < address.BitLen()
}

// ground has the links of a namespace by their indices.
type ground map[int]netlink.Link

func groundOf(links []netlink.Link) ground {
	g := ground{}
	for _, l := range links {
		g[l.Attrs().Index] = l
	}
	return g
}

// ours are the links that lead into the network itself.
var ours = []string{spec.AccessLink, spec.AccessPort, spec.DirectHost, spec.DirectGateway, spec.WireLink, spec.SwitchBridge, spec.TunnelPort}

// inside are the kinds of ports beyond which there is at most a container of this host.
var inside = []string{"veth", "dummy", "ifb", "netkit"}

// carries reports that a link is up and leads to other hosts by a device.
func (g ground) carries(index int) bool {
	l := g[index]
	return l != nil && l.Attrs().Flags&net.FlagUp != 0 && l.Attrs().Flags&(net.FlagLoopback|net.FlagPointToPoint) == 0 && g.stands(l)
}

// stands reports that a link is a device, or stands on one, and that neither Mobula nor another
// tunnel is a part of it.
func (g ground) stands(l netlink.Link) bool {
	a := l.Attrs()
	if slices.Contains(ours, a.Name) {
		return false
	}
	switch l.Type() {
	case "device":
		return g.isHardware(l)
	case "ipoib", "dsa":
		return true
	case "veth": // of a container, which has nothing else; on its host others are beyond its bridge
		return a.NetNsID >= 0 && !g.hasHardware()
	case "vlan", "macvlan", "ipvlan":
		below := g[a.ParentIndex]
		return below == nil || a.NetNsID >= 0 || g.stands(below) // it may be in another namespace
	case "bridge", "bond", "team":
		return g.joins(l)
	}
	return false
}

// isHardware tells a device from a tunnel that has no kind either (l2tp_eth.c). Kernels before 5.14 do
// not say what a link is a device of (IFLA_PARENT_DEV_NAME), of any.
func (g ground) isHardware(l netlink.Link) bool {
	said := func(l netlink.Link) bool { return l.Attrs().ParentDev != "" }
	if said(l) {
		return true
	}
	for _, other := range g {
		if said(other) {
			return false
		}
	}
	return l.Attrs().Flags&net.FlagLoopback == 0
}

func (g ground) hasHardware() bool {
	for _, l := range g {
		if l.Type() == "device" && l.Attrs().Flags&net.FlagLoopback == 0 && g.isHardware(l) {
			return true
		}
	}
	return false
}

// joins reports that a bridge, bond or team has a port beyond which other hosts are. Containers and virtual
// machines are of this host alone, and a tunnel among the ports may lead anywhere.
func (g ground) joins(l netlink.Link) (outside bool) {
	for _, port := range g {
		if port.Attrs().MasterIndex != l.Attrs().Index {
			continue
		}
		switch {
		case slices.Contains(ours, port.Attrs().Name):
			return false
		case l.Attrs().Name == spec.ExternalLink: // made of the NIC that has moved, whatever it is
			outside = outside || port.Attrs().Name != spec.UplinkPort
		case slices.Contains(inside, port.Type()) || isMachine(port):
		case !g.stands(port):
			return false
		default:
			outside = true
		}
	}
	return outside
}

// isMachine reports that a tap is a virtual machine's: programs that tunnel do not speak its headers
// (IFF_VNET_HDR, Documentation/networking/tuntap.rst).
func isMachine(l netlink.Link) bool {
	tap, ok := l.(*netlink.Tuntap)
	return ok && tap.Flags&netlink.TUNTAP_VNET_HDR != 0
}

// Outside6 returns the IPv6 address from which the named namespace ("": the host's own) sends to hosts
// that are in none of its networks, temporary ones among them (RFC 8981); zero: it has none that others
// can answer to, or sends through Mobula's own network.
func Outside6(namespace string) (at netip.Addr, err error) {
	err = again(func() error {
		return in(namespace, func(h *netlink.Handle) error {
			at = netip.Addr{}
			routes, err := h.RouteGet(internet6)
			switch {
			case slices.ContainsFunc(noWay, func(e error) bool { return errors.Is(err, e) }):
				return nil
			case err != nil:
				return err
			case len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST:
				return nil
			}
			links, err := h.LinkList()
			if err != nil {
				return err
			}
			if source, ok := netip.AddrFromSlice(routes[0].Src); ok && network.IsGlobal6(source) && !groundOf(links).isOurs(routes[0].LinkIndex) {
				at = source
			}
			return nil
		})
	})
	return at, err
}

// internet6 is an address that is in nobody's network, and has the way of those that are in others'.
var internet6 = net.ParseIP("2000::1")

// noWay is what the kernel says of an address to which it has no way (ip6_route_output, fib6_rules.c).
var noWay = []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EOPNOTSUPP, unix.EADDRNOTAVAIL}

// isOurs reports that a link leads into the network itself, or stands on one that does.
func (g ground) isOurs(index int) bool {
	l := g[index]
	if l == nil {
		return false
	}
	a := l.Attrs()
	switch l.Type() {
	case "vlan", "macvlan", "macvtap", "ipvlan": // of a veth it is the other end
		if a.NetNsID < 0 && g.isOurs(a.ParentIndex) {
			return true
		}
	}
	for port, other := range g {
		if other.Attrs().MasterIndex == index && g.isOurs(port) {
			return true
		}
	}
	return slices.Contains(ours, a.Name)
}
