package links

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/spec"
)

// mostOwn is how many of a host's addresses are looked at where none is the one that
// others know, as behind a router: 3,000 routes each.
const mostOwn = 8

// Onward asks the kernel how the host would send to the others to which it relays, from
// its address that they know, or from each of those that it has outside.
func Onward(d *spec.Doorway) (onward *spec.Onward, err error) {
	err = again(func() error {
		return in("", func(h *netlink.Handle) error {
			onward, err = onwardOf(h, d)
			return err
		})
	})
	return onward, err
}

func onwardOf(h *netlink.Handle, d *spec.Doorway) (*spec.Onward, error) {
	all, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	links, leads := map[int]spec.OnwardLink{}, map[int]bool{}
	for _, l := range all {
		a := l.Attrs()
		links[a.Index], leads[a.Index] = spec.OnwardLink{Name: a.Name, Index: a.Index, MTU: a.MTU}, slices.Contains(d.Outside, a.Name)
	}
	own, err := ownAddresses(h, d.Endpoint, leads)
	if err != nil {
		return nil, err
	}
	onward := &spec.Onward{}
	for _, from := range own {
		for _, to := range d.Targets() {
			hop, index, err := firstHop(h, from, to)
			if err != nil {
				return nil, err
			}
			link, known := links[index]
			if !known || link.Name == d.Direct || link.Name == d.Access {
				continue // there is none, or it has just come
			}
			leads[index] = true
			onward.Ways = append(onward.Ways, spec.Way{From: from, To: to, Hop: hop, Link: link.Name})
		}
	}
	for index, link := range links {
		if leads[index] {
			onward.Links = append(onward.Links, link)
		}
	}
	slices.SortFunc(onward.Links, func(a, b spec.OnwardLink) int { return cmp.Compare(a.Name, b.Name) })
	return onward, nil
}

// ownAddresses returns the address that others know if the host has it, wherever, and else
// those of the links that lead outside.
func ownAddresses(h *netlink.Handle, known netip.Addr, outside map[int]bool) (own []netip.Addr, err error) {
	all, err := h.AddrList(nil, unix.AF_INET)
	for _, a := range all {
		address, ok := netip.AddrFromSlice(a.IP.To4())
		switch {
		case ok && address == known:
			return []netip.Addr{known}, err
		case ok && outside[a.LinkIndex] && a.Scope == unix.RT_SCOPE_UNIVERSE && !slices.Contains(own, address):
			own = append(own, address)
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return own[:min(len(own), mostOwn)], err
}

// firstHop asks for one route. The kernel answers with an error where there is none
// (fib_props in fib_semantics.c, and EINVAL for a blackhole); an interface that the plan
// cannot name, or a hop that is no IPv4 address, is none either: index is 0 then.
func firstHop(h *netlink.Handle, from, to netip.Addr) (hop netip.Addr, index int, err error) {
	routes, err := h.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{SrcAddr: from.AsSlice()})
	for _, none := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.ENODEV} {
		if errors.Is(err, none) {
			return hop, 0, nil
		}
	}
	if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST || routes[0].Via != nil || routes[0].Encap != nil {
		return hop, 0, err
	}
	if hop, ok := netip.AddrFromSlice(routes[0].Gw.To4()); ok {
		return hop, routes[0].LinkIndex, nil
	}
	return to, routes[0].LinkIndex, nil
}
