package links

import (
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/plan"
)

// Observe implements Kernel.
func (Netlink) Observe(namespaces []string, table int, settings []plan.Setting) (*State, error) {
	s := &State{
		Namespaces: map[string]bool{}, Links: map[LinkKey]Link{}, Addresses: map[plan.Address]bool{},
		Routes: map[RouteKey]plan.Route{}, Rules: map[plan.Rule]bool{}, Settings: map[SettingKey]string{},
	}
	for _, ns := range append([]string{""}, namespaces...) {
		if !netns.Exists(ns) {
			continue
		}
		if ns != "" {
			s.Namespaces[ns] = true
		}
		if err := in(ns, func(h *netlink.Handle) error { return s.observe(h, ns, table) }); err != nil {
			return nil, err
		}
	}
	return s, s.observeSettings(settings)
}

func (s *State) observe(h *netlink.Handle, ns string, table int) error {
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	names := map[int]string{}
	switchDevices := map[int]bool{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		switchDevices[l.Attrs().Index] = l.Type() == "openvswitch" && l.Attrs().Name == "ovs-system"
	}
	for _, l := range links {
		a := l.Attrs()
		link := Link{Up: a.Flags&net.FlagUp != 0, Link: plan.Link{Name: a.Name, NS: ns, Kind: kindOf(l), MTU: a.MTU, MAC: a.HardwareAddr}}
		if link.Kind == plan.Veth {
			link.Peer = "?" // known only by index; that it has one is enough
		}
		if !switchDevices[a.MasterIndex] {
			link.Master = names[a.MasterIndex]
		}
		s.Links[LinkKey{ns, a.Name}] = link
	}
	addresses, err := h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		s.Addresses[plan.Address{NS: ns, Link: names[a.LinkIndex], Prefix: prefix(a.IPNet)}] = true
	}
	if ns == "" {
		if err := s.observeRules(h, table); err != nil {
			return err
		}
	}
	return s.observeRoutes(h, ns, table, names)
}

func (s *State) observeRoutes(h *netlink.Handle, ns string, table int, names map[int]string) error {
	for _, t := range []int{unix.RT_TABLE_MAIN, table} {
		routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: t}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_KERNEL {
				continue
			}
			route := planRoute(r, ns, names[r.LinkIndex])
			s.Routes[keyOf(route)] = route
		}
	}
	return nil
}

func planRoute(r netlink.Route, ns, link string) plan.Route {
	route := plan.Route{NS: ns, Table: r.Table, To: prefix(r.Dst), Metric: r.Priority, Link: link,
		OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0, Protocol: int(r.Protocol)}
	if route.Table == unix.RT_TABLE_MAIN {
		route.Table = 0
	}
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		route.Via = via.Unmap()
	}
	if source, ok := netip.AddrFromSlice(r.Src); ok {
		route.Source = source.Unmap()
	}
	return route
}

func (s *State) observeRules(h *netlink.Handle, table int) error {
	rules, err := h.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	for _, r := range rules {
		rule := plan.Rule{Priority: r.Priority, Table: r.Table}
		if r.Src != nil {
			rule.From = prefix(r.Src)
		}
		if r.Dst != nil {
			rule.To = prefix(r.Dst)
		}
		s.Rules[rule] = true
	}
	return nil
}

func (s *State) observeSettings(settings []plan.Setting) error {
	for _, setting := range settings {
		if setting.NS != "" && !s.Namespaces[setting.NS] {
			continue
		}
		err := netns.Do(setting.NS, func() error {
			value, err := os.ReadFile(settingPath(setting.Key))
			if err == nil {
				s.Settings[SettingKey{setting.NS, setting.Key}] = strings.TrimSpace(string(value))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func kindOf(l netlink.Link) plan.Kind {
	switch l.Type() {
	case "veth":
		return plan.Veth
	case "bridge":
		return plan.Bridge
	case "wireguard":
		return plan.WireGuardDevice
	case "openvswitch":
		return plan.Internal
	}
	if l.Attrs().Flags&net.FlagLoopback != 0 {
		return plan.Loopback
	}
	return plan.Physical
}

// prefix converts; nil is the default route.
func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
