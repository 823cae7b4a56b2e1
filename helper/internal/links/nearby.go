package links

import (
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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
	g := ground{}
	for _, l := range links {
		g[l.Attrs().Index] = l
	}
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

// devices are the kinds of links, as the kernel names them, that have others beyond them: "device" is
// what has a driver of its own; a veth leads out of a container.
var devices = []string{"device", "veth", "bond", "team", "vlan", "macvlan", "ipvlan", "bridge"}

// ours are the links that lead into the network itself.
var ours = []string{spec.AccessLink, spec.AccessPort, spec.DirectHost, spec.DirectGateway, spec.WireLink, spec.SwitchBridge, spec.TunnelPort}

// carries reports that a link is up and stands on a device, and that Mobula is no part of it.
func (g ground) carries(index int) bool {
	l := g[index]
	if l == nil || l.Attrs().Flags&net.FlagUp == 0 || l.Attrs().Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
		return false
	}
	return g.stands(l)
}

func (g ground) stands(l netlink.Link) bool {
	a := l.Attrs()
	if slices.Contains(ours, a.Name) || !slices.Contains(devices, l.Type()) {
		return false
	}
	switch l.Type() {
	case "vlan", "macvlan", "ipvlan":
		below := g[a.ParentIndex]
		return below == nil || a.NetNsID >= 0 || g.stands(below) // it may be in another namespace
	case "bridge":
		return g.joins(a.Index)
	}
	return true
}

// joins reports that a bridge has a port beyond which others are. Containers and virtual machines
// are of this host alone, and a tunnel among the ports may lead anywhere.
func (g ground) joins(bridge int) (outside bool) {
	for _, port := range g {
		if port.Attrs().MasterIndex != bridge {
			continue
		}
		switch kind := port.Type(); {
		case slices.Contains(ours, port.Attrs().Name):
			return false
		case kind == "veth" || kind == "tuntap" || kind == "tun":
		case !g.stands(port):
			return false
		default:
			outside = true
		}
	}
	return outside
}
