package links

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/plan"
)

// Observe implements Kernel.
func (Netlink) Observe(namespaces []string, table int, settings []plan.Setting) (s *State, err error) {
	err = again(func() error {
		s, err = observe(namespaces, table, settings)
		return err
	})
	return s, err
}

// again looks at the kernel once more if something changed while it listed what
// there is (NLM_F_DUMP_INTR, netlink(7)).
func again(look func() error) (err error) {
	for try := 0; try < 10; try++ {
		if err = look(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

func observe(namespaces []string, table int, settings []plan.Setting) (*State, error) {
	s := &State{
		Namespaces: map[string]bool{}, Links: map[LinkKey]Link{}, Addresses: map[plan.Address]bool{},
		Routes: map[RouteKey]plan.Route{}, Rules: map[plan.Rule]bool{}, Settings: map[SettingKey]string{},
	}
	for _, ns := range append([]string{""}, namespaces...) {
		if !netns.Exists(ns) {
			if netns.Leftover(ns) {
				s.Namespaces[ns] = false
			}
			continue
		}
		if ns != "" {
			s.Namespaces[ns] = true
		}
		if err := in(ns, func(h *netlink.Handle) error { return s.observe(h, ns, table) }); err != nil {
			return nil, err
		}
	}
	var err error
	s.IPv6Off, err = ipv6Off()
	return s, errors.Join(err, s.observeSettings(settings))
}

// ipv6Off reports that the operator wants no IPv6 on new interfaces.
func ipv6Off() (bool, error) {
	value, err := readSetting("net/ipv6/conf/default/disable_ipv6")
	return value == "1", err
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
		if err := s.observeIPv6(h, names); err != nil {
			return err
		}
	}
	return s.observeRoutes(h, ns, table, names)
}

// observeIPv6 adds the host's own IPv6 addresses and routes, without which the
// kernel or routers made: Mobula puts back those of the NIC.
func (s *State) observeIPv6(h *netlink.Handle, names map[int]string) error {
	addresses, err := ipv6Addresses(h, nil)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		s.Addresses[plan.Address{Link: names[a.LinkIndex], Prefix: prefix(a.IPNet)}] = true
	}
	routes, err := ipv6Routes(h)
	for _, r := range routes {
		route := planRoute(r, "", names[r.LinkIndex])
		s.Routes[keyOf(route)] = route
	}
	return err
}

// ipv6Addresses returns the permanent global addresses of a link; nil: of all.
func ipv6Addresses(h *netlink.Handle, link netlink.Link) ([]netlink.Addr, error) {
	all, err := h.AddrList(link, netlink.FAMILY_V6)
	var some []netlink.Addr
	for _, a := range all {
		if a.Flags&unix.IFA_F_PERMANENT != 0 && a.IP.IsGlobalUnicast() && a.IP.To4() == nil {
			some = append(some, a)
		}
	}
	return some, err
}

// ipv6Routes returns the routes of the main table that an administrator made.
func ipv6Routes(h *netlink.Handle) ([]netlink.Route, error) {
	all, err := h.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	var some []netlink.Route
	for _, r := range all {
		if r.Dst == nil {
			r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		made := r.Protocol != unix.RTPROT_KERNEL && r.Protocol != unix.RTPROT_RA
		if made && r.Type == unix.RTN_UNICAST && r.LinkIndex != 0 && len(r.Dst.IP) == net.IPv6len && !r.Dst.IP.IsMulticast() {
			some = append(some, r)
		}
	}
	return some, err
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

// observeRules notes the rules that lead to the given table, and those of Mobula's
// priorities that lead to specific routes of the main table.
func (s *State) observeRules(h *netlink.Handle, table int) error {
	rules, err := h.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range rules {
		rule := plan.Rule{Priority: r.Priority, Table: r.Table, Specific: r.SuppressPrefixlen == 0}
		if r.Table == unix.RT_TABLE_MAIN && rule.Specific && plan.RulePriority <= r.Priority && r.Priority <= plan.MaxRulePriority {
			rule.Table = 0
		} else if r.Table != table {
			continue
		}
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
			value, err := readSetting(setting.Key)
			if err == nil {
				s.Settings[SettingKey{setting.NS, setting.Key}] = value
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readSetting returns the value of a setting. A kernel that began with
// ipv6.disable=1 has none of IPv6, and as good as disable_ipv6 set.
func readSetting(key string) (string, error) {
	value, err := os.ReadFile(settingPath(key))
	if errors.Is(err, fs.ErrNotExist) && path.Base(key) == "disable_ipv6" {
		return "1", nil
	}
	return strings.TrimSpace(string(value)), err
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
