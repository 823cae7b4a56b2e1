package links

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// Netlink is the real Kernel.
type Netlink struct{}

// in calls f with a netlink handle of the given namespace.
func in(ns string, f func(*netlink.Handle) error) error {
	var handle *netlink.Handle
	err := netns.Do(ns, func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	defer handle.Close()
	return f(handle)
}

// AddNamespace implements Kernel.
func (Netlink) AddNamespace(name string) error { return netns.Create(name) }

// DeleteNamespace implements Kernel.
func (Netlink) DeleteNamespace(name string) error { return netns.Delete(name) }

// AddLink implements Kernel. What stands in its way under the same name is a
// leftover of ours and is removed.
func (k Netlink) AddLink(link spec.Link, peer *spec.Link) error {
	for _, l := range []*spec.Link{&link, peer} {
		if l == nil {
			continue
		}
		if err := k.DeleteLink(LinkKey{l.NS, l.Name}); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = link.Name, link.MTU, link.MAC
	var err error
	switch {
	case link.Kind == spec.Bridge:
		err = makeLink(link.NS, &netlink.Bridge{LinkAttrs: attrs})
	case link.Kind == spec.WireGuardDevice && link.Underlay:
		err = makeFromHost(link.NS, &netlink.Wireguard{LinkAttrs: attrs})
	case link.Kind == spec.WireGuardDevice:
		err = makeLink(link.NS, &netlink.Wireguard{LinkAttrs: attrs})
	case link.Kind == spec.Veth:
		err = makeVeth(link, *peer, attrs)
	default:
		return fmt.Errorf("link %s: a link of kind %q cannot be made", link.Name, link.Kind)
	}
	if err != nil {
		return fmt.Errorf("making link %s: %w", link.Name, err)
	}
	if peer != nil {
		if err := k.SetLink(*peer); err != nil {
			return err
		}
	}
	return k.SetLink(link)
}

// SetLink implements Kernel.
func (k Netlink) SetLink(link spec.Link) error {
	if link.Kind == spec.Physical {
		if err := k.move(link); err != nil {
			return err
		}
	}
	return in(link.NS, func(h *netlink.Handle) error {
		found, err := h.LinkByName(link.Name)
		if err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
		attrs := found.Attrs()
		if link.MTU != 0 && attrs.MTU != link.MTU && link.Kind != spec.Internal {
			err = h.LinkSetMTU(found, link.MTU)
		}
		if err == nil && link.MAC != nil && attrs.HardwareAddr.String() != link.MAC.String() {
			err = h.LinkSetHardwareAddr(found, link.MAC)
		}
		if err == nil {
			err = setMaster(h, found, link)
		}
		if err == nil && !link.Down && attrs.Flags&net.FlagUp == 0 {
			err = h.LinkSetUp(found)
		}
		if err != nil {
			return fmt.Errorf("setting link %s: %w", link.Name, err)
		}
		return nil
	})
}

func setMaster(h *netlink.Handle, found netlink.Link, link spec.Link) error {
	if link.Master == "" {
		if found.Attrs().MasterIndex == 0 || link.Free || isSwitchPort(h, found) {
			return nil
		}
		return h.LinkSetNoMaster(found)
	}
	master, err := h.LinkByName(link.Master)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", link.Master, err)
	}
	if found.Attrs().MasterIndex == master.Attrs().Index {
		return nil
	}
	return h.LinkSetMasterByIndex(found, master.Attrs().Index)
}

// isSwitchPort tells ports of Open vSwitch, which the kernel shows as ports of
// the datapath's own device.
func isSwitchPort(h *netlink.Handle, link netlink.Link) bool {
	master, err := h.LinkByIndex(link.Attrs().MasterIndex)
	return err == nil && master.Type() == "openvswitch"
}

// move brings a physical link into its namespace from wherever it is. Nothing
// but the kernel's own default is left of its addresses and routes.
func (k Netlink) move(link spec.Link) error {
	from := spec.Namespace
	if link.NS == from {
		from = ""
	}
	if !netns.Exists(from) || link.NS != "" && isThere(link) {
		return nil // in the gateway's namespace the name is ours alone
	}
	target, err := netns.Open(link.NS)
	if err != nil {
		return err
	}
	defer target.Close()
	return in(from, func(h *netlink.Handle) error {
		found, err := h.LinkByName(link.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil && found.Attrs().MasterIndex != 0 {
			err = h.LinkSetNoMaster(found)
		}
		if err == nil {
			err = moveTo(from, found.Attrs().Index, target, link.Index)
		}
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("%w: another interface has this name there; give that one another name (ip link set %s name …)", err, link.Name)
		}
		if err != nil {
			return fmt.Errorf("moving link %s into %s: %w", link.Name, namespaceName(link.NS), err)
		}
		return nil
	})
}

func isThere(link spec.Link) bool {
	return in(link.NS, func(h *netlink.Handle) error { _, err := h.LinkByName(link.Name); return err }) == nil
}

// moveTo moves a link into another namespace, with the number there that it is to
// have, if that is free. Kernels before 5.13 choose it themselves.
func moveTo(from string, index int, target *os.File, wanted int) error {
	move := func(wanted int) error {
		return netns.Do(from, func() error {
			r := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
			header := nl.NewIfInfomsg(unix.AF_UNSPEC)
			header.Index = int32(index)
			r.AddData(header)
			r.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(target.Fd()))))
			if wanted != 0 {
				r.AddData(nl.NewRtAttr(unix.IFLA_NEW_IFINDEX, nl.Uint32Attr(uint32(wanted))))
			}
			_, err := r.Execute(unix.NETLINK_ROUTE, 0)
			return err
		})
	}
	err := move(wanted)
	if wanted != 0 && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST)) {
		err = move(0)
	}
	return err
}

// RenameLink implements Kernel. One that has the name already is no error.
func (Netlink) RenameLink(key LinkKey, name string) error {
	return in(key.NS, func(h *netlink.Handle) error {
		found, err := h.LinkByName(key.Name)
		if err == nil && found.Attrs().Name == name {
			return nil
		}
		if err == nil {
			err = h.LinkSetDown(found)
		}
		if err == nil {
			err = freeAltName(h, found, name)
		}
		if err == nil {
			err = h.LinkSetName(found, name)
		}
		if err != nil {
			return fmt.Errorf("naming link %s %s: %w", key.Name, name, err)
		}
		return nil
	})
}

// freeAltName: a link cannot get a name that is another one of its own.
func freeAltName(h *netlink.Handle, link netlink.Link, name string) error {
	if !slices.Contains(link.Attrs().AltNames, name) {
		return nil
	}
	return h.LinkDelAltName(link, name)
}

// DeleteLink implements Kernel. A missing link is no error.
func (Netlink) DeleteLink(key LinkKey) error {
	if !netns.Exists(key.NS) {
		return nil
	}
	return in(key.NS, func(h *netlink.Handle) error {
		found, err := h.LinkByName(key.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil {
			err = h.LinkDel(found)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("deleting link %s: %w", key.Name, err)
		}
		return nil
	})
}

// AddAddress implements Kernel.
func (Netlink) AddAddress(a spec.Address) error {
	return atLink(a.NS, a.Link, "adding "+addressName(a), unix.EEXIST, func(index int) error {
		return request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, addressMessage(a, index))
	})
}

// DeleteAddress implements Kernel.
func (Netlink) DeleteAddress(a spec.Address) error {
	return ifThere(a.NS, a.Link, "deleting "+addressName(a), unix.EADDRNOTAVAIL, func(index int) error {
		return request(unix.RTM_DELADDR, 0, addressMessage(spec.Address{Prefix: a.Prefix, Peer: a.Peer}, index))
	})
}

// AddRoute implements Kernel.
func (Netlink) AddRoute(r spec.Route) error {
	flags := unix.NLM_F_CREATE
	if r.Behind {
		flags |= unix.NLM_F_APPEND
	}
	return atLink(r.NS, r.Link, "setting "+routeName(r), unix.EEXIST, func(index int) error {
		return request(unix.RTM_NEWROUTE, flags, routeMessage(r, index))
	})
}

// DeleteRoute implements Kernel.
func (Netlink) DeleteRoute(r spec.Route) error {
	return ifThere(r.NS, r.Link, "deleting "+routeName(r), unix.ESRCH, func(index int) error {
		return request(unix.RTM_DELROUTE, 0, routeMessage(r, index))
	})
}

// request sends one message to the kernel, in the calling thread's namespace.
func request(kind, flags int, message []nl.NetlinkRequestData) error {
	r := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	for _, part := range message {
		r.AddData(part)
	}
	_, err := r.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// AddRule implements Kernel.
func (Netlink) AddRule(r spec.Rule) error {
	return ruleError("adding", r, unix.EEXIST, func(h *netlink.Handle) error { return h.RuleAdd(kernelRule(r)) })
}

// DeleteRule implements Kernel.
func (Netlink) DeleteRule(r spec.Rule) error {
	return ruleError("deleting", r, unix.ENOENT, func(h *netlink.Handle) error { return h.RuleDel(kernelRule(r)) })
}

func ruleError(doing string, r spec.Rule, done unix.Errno, f func(*netlink.Handle) error) error {
	if err := in("", f); err != nil && !errors.Is(err, done) {
		return fmt.Errorf("%s rule %s: %w", doing, describeRule(r), err)
	}
	return nil
}

func kernelRule(r spec.Rule) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = unix.AF_INET, r.Priority, r.Table
	if r.Table == 0 {
		rule.Table = unix.RT_TABLE_MAIN
	}
	if r.Specific {
		rule.SuppressPrefixlen = 0
	}
	if r.From.IsValid() {
		rule.Src = ipNet(r.From)
	}
	if r.To.IsValid() {
		rule.Dst = ipNet(r.To)
	}
	return rule
}

// Set implements Kernel.
func (Netlink) Set(s spec.Setting) error {
	return netns.Do(s.NS, func() error {
		if s.NIC != "" && isIPv6MTU(s.Key) {
			waitUntilReady(s.NIC)
		}
		if found, err := readSetting(s.Key); err == nil && found == s.Value {
			return nil // also where a kernel without IPv6 has no such file
		}
		err := os.WriteFile(settingPath(s.Key), []byte(s.Value), 0o644)
		if s.NIC != "" && errors.Is(err, fs.ErrNotExist) {
			return nil // this kernel has no such setting any more
		}
		if err != nil {
			return fmt.Errorf("setting %s: %w", s.Key, err)
		}
		return nil
	})
}

// settingPath names the setting of the calling thread's namespace: /proc/sys/net
// shows that of whoever opens it.
func settingPath(key string) string { return filepath.Join("/proc/sys", strings.TrimPrefix(key, "/")) }

// atLink calls f in the namespace of an existing link; the error done means that
// there was nothing to do.
func atLink(ns, name, doing string, done unix.Errno, f func(index int) error) error {
	return netns.Do(ns, func() error {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = f(link.Attrs().Index)
		}
		if err != nil && !errors.Is(err, done) {
			return fmt.Errorf("%s on %s: %w", doing, name, err)
		}
		return nil
	})
}

// ifThere is atLink for what goes together with the link.
func ifThere(ns, name, doing string, done unix.Errno, f func(index int) error) error {
	if !netns.Exists(ns) {
		return nil
	}
	if err := atLink(ns, name, doing, done, f); !errors.As(err, &netlink.LinkNotFoundError{}) {
		return err
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
