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
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// Observe implements Kernel.
func (Netlink) Observe(namespaces []string, table int, settings []spec.Setting) (s *State, err error) {
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

func observe(namespaces []string, table int, settings []spec.Setting) (*State, error) {
	s := &State{
		Namespaces: map[string]bool{}, Links: map[LinkKey]Link{}, Addresses: map[spec.Address]bool{}, Neighbors: map[spec.Neighbor]bool{},
		Rules: map[spec.Rule]bool{}, Settings: map[SettingKey]string{},
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
	names, err := s.observeLinks(h, ns)
	if err != nil {
		return err
	}
	if err := s.observeNeighbors(h, ns, names); err != nil {
		return err
	}
	if ns == "" {
		if err := s.observeRules(h, table); err != nil {
			return err
		}
	}
	return netns.Do(ns, func() error { return s.observeAddressesAndRoutes(ns, table, names) })
}

// observeLinks notes the links of a namespace and returns their names by index.
func (s *State) observeLinks(h *netlink.Handle, ns string) (map[int]string, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	names, switchDevices := namesOf(links), map[int]bool{}
	for _, l := range links {
		switchDevices[l.Attrs().Index] = l.Type() == "openvswitch" && l.Attrs().Name == "ovs-system"
	}
	for _, l := range links {
		a := l.Attrs()
		link := Link{Up: a.Flags&net.FlagUp != 0, Link: spec.Link{Name: a.Name, NS: ns, Kind: kindOf(l), MTU: a.MTU, MAC: a.HardwareAddr, NIC: identity(l), Underlay: isUnderlay(l)}}
		if link.Kind == spec.Veth {
			link.Peer = "?" // known only by index; that it has one is enough
		}
		if !switchDevices[a.MasterIndex] {
			link.Master = names[a.MasterIndex]
		}
		s.Links[LinkKey{ns, a.Name}] = link
	}
	return names, nil
}

func (s *State) observeAddressesAndRoutes(ns string, table int, names map[int]string) error {
	families := []int{unix.AF_INET}
	if ns == "" {
		families = append(families, unix.AF_INET6) // the NIC gets its own back
	}
	for _, family := range families {
		addresses, err := dumpAddresses(family, names)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if family == unix.AF_INET || a.permanent {
				a.NS = ns
				s.Addresses[a.Address] = true
			}
		}
		routes, err := dumpRoutes(family, names)
		if err != nil {
			return err
		}
		for _, r := range routes {
			stays := family == unix.AF_INET || r.Protocol != unix.RTPROT_RA && !r.expires
			if r.unicast && r.index != 0 && stays && (r.Table == 0 || r.Table == table && family == unix.AF_INET) {
				r.NS = ns
				s.Routes = append(s.Routes, r.Route)
			}
		}
	}
	return nil
}

// dumpAddresses returns all addresses in the calling thread's namespace.
func dumpAddresses(family int, names map[int]string) ([]foundAddress, error) {
	all, err := dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(family), names, readAddress)
	var some []foundAddress
	for _, a := range all {
		if a.Prefix.Addr().Is6() == (family == unix.AF_INET6) { // a kernel without IPv6 tells of IPv4
			some = append(some, a)
		}
	}
	return some, err
}

// dumpRoutes returns the routes of all tables in the calling thread's namespace.
func dumpRoutes(family int, names map[int]string) ([]foundRoute, error) {
	all, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}}, names, readRoute)
	var some []foundRoute
	for _, r := range all {
		if r.To.Addr().Is6() == (family == unix.AF_INET6) && !(r.To.Addr().IsMulticast() && r.local) {
			some = append(some, r)
		}
	}
	return some, err
}

func dump[T any](ask int, answer uint16, header nl.NetlinkRequestData, names map[int]string, read func([]byte, map[int]string) (T, error)) ([]T, error) {
	r := nl.NewNetlinkRequest(ask, unix.NLM_F_DUMP)
	r.AddData(header)
	messages, err := r.Execute(unix.NETLINK_ROUTE, answer)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // a kernel without this
	}
	if err != nil {
		return nil, err
	}
	var all []T
	for _, m := range messages {
		one, err := read(m, names)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// observeRules notes the rules that lead to the given table, and those of Mobula's
// priorities that lead to specific routes of the main table.
func (s *State) observeRules(h *netlink.Handle, table int) error {
	rules, err := h.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range rules {
		rule := spec.Rule{Priority: r.Priority, Table: r.Table, Specific: r.SuppressPrefixlen == 0}
		if r.Table == unix.RT_TABLE_MAIN && rule.Specific && spec.RulePriority <= r.Priority && r.Priority <= spec.MaxRulePriority {
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
	catchers, err := dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET}}, nil, readCatcher)
	s.Catcher = firstCatcher(catchers)
	return err
}

func (s *State) observeSettings(settings []spec.Setting) error {
	for _, setting := range settings {
		if setting.NS != "" && !s.Namespaces[setting.NS] {
			continue
		}
		name := interfaceOf(setting.Key)
		if _, there := s.Links[LinkKey{setting.NS, name}]; name != "" && !there {
			continue
		}
		err := netns.Do(setting.NS, func() error {
			value, err := readSetting(setting.Key)
			if name != "" && errors.Is(err, fs.ErrNotExist) {
				return nil // gone since, or the kernel has no such setting
			}
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

func kindOf(l netlink.Link) spec.Kind {
	switch l.Type() {
	case "veth":
		return spec.Veth
	case "bridge":
		return spec.Bridge
	case "wireguard":
		return spec.WireGuardDevice
	case "openvswitch":
		return spec.Internal
	}
	if l.Attrs().Flags&net.FlagLoopback != 0 {
		return spec.Loopback
	}
	return spec.Physical
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
