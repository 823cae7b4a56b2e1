package links

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// Own is what a plan has in one network namespace, by what identifies it to the
// kernel. Whatever else comes and goes there is no concern of Mobula's: on a host
// with containers or a routing daemon that may be thousands of things a second.
type Own struct {
	links     map[string]bool // whether it should be up
	addresses map[ownAddress]bool
	routes    map[ownRoute]bool
	rules     map[ownRule]bool
	// forwarding is what interfaces should do of IPv4, by their names.
	forwarding map[string]string
	// nameOf returns the name of an interface of the namespace; "" if it is gone.
	nameOf func(index int) string
}

type ownAddress struct {
	address netip.Addr
	bits    uint8
}

type ownRoute struct {
	table  uint32
	to     netip.Prefix
	metric uint32
}

type ownRule struct{ priority, table uint32 }

// NewOwn returns what a plan has in the named namespace; "" is the host's own.
func NewOwn(p *spec.Host, namespace string) *Own {
	o := &Own{map[string]bool{}, map[ownAddress]bool{}, map[ownRoute]bool{}, map[ownRule]bool{}, ownForwarding(p, namespace),
		func(index int) string { return nameOf(namespace, index) }}
	for _, l := range p.Links {
		if l.NS == namespace {
			o.links[l.Name] = !l.Down
		}
	}
	for _, a := range p.Addresses {
		if a.NS == namespace {
			o.addresses[ownAddress{a.Prefix.Addr(), uint8(a.Prefix.Bits())}] = true
		}
	}
	for _, r := range p.Routes {
		if r.NS == namespace {
			o.routes[ownRoute{kernelTable(r.Table), r.To.Masked(), uint32(r.Metric)}] = true
		}
	}
	if namespace == "" {
		for _, r := range p.Rules {
			o.rules[ownRule{uint32(r.Priority), kernelTable(r.Table)}] = true
		}
	}
	return o
}

// kernelTable returns the number of a plan's routing table, whose 0 is the main one.
func kernelTable(table int) uint32 {
	if table == 0 {
		return unix.RT_TABLE_MAIN
	}
	return uint32(table)
}

// Watch reports what disappears or goes down of what own returns then, as text
// for the reader: links, addresses, routes and rules; and whose forwarding is changed.
// What is added breaks nothing, but packets may take other ways by it: moved is told of
// each change of anybody's, and has to be quick.
// It returns when the subscription ends.
func Watch(s *netns.Subscription, own func() *Own, lost func(what string), moved func()) error {
	for {
		messages, err := s.Receive()
		if err == nil || errors.Is(err, unix.ENOBUFS) {
			moved()
		}
		if errors.Is(err, unix.ENOBUFS) {
			lost("more than could be followed")
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range messages {
			if what := own().describeLoss(m); what != "" {
				lost(what)
			}
		}
	}
}

// Subscribe prepares for Watch.
func Subscribe(namespace string) (*netns.Subscription, error) {
	return netns.Subscribe(namespace, unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV4_NETCONF)
}

func (o *Own) describeLoss(m syscall.NetlinkMessage) string {
	switch m.Header.Type {
	case unix.RTM_DELLINK:
		if name, ours, _ := o.link(m); ours {
			return fmt.Sprintf("link %s deleted", name)
		}
	case unix.RTM_NEWLINK:
		if len(m.Data) >= unix.SizeofIfInfomsg {
			info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
			name, _, up := o.link(m)
			if up && info.Change&unix.IFF_UP != 0 && info.Flags&unix.IFF_UP == 0 {
				return fmt.Sprintf("link %s set down", name)
			}
		}
	case unix.RTM_DELADDR:
		if a, ok := netip.AddrFromSlice(attribute(m, unix.SizeofIfAddrmsg, unix.IFA_LOCAL)); ok && o.addresses[ownAddress{a, m.Data[1]}] {
			return fmt.Sprintf("address %s deleted", a)
		}
	case unix.RTM_DELROUTE:
		return o.route(m)
	case unix.RTM_DELRULE:
		if what := o.rule(m); what != "" {
			return what
		}
		return o.caught(m)
	case unix.RTM_NEWRULE:
		return o.caught(m)
	case unix.RTM_NEWNETCONF:
		return o.forwards(m)
	}
	return ""
}

func (o *Own) link(m syscall.NetlinkMessage) (name string, ours, up bool) {
	name = strings.TrimRight(string(attribute(m, unix.SizeofIfInfomsg, unix.IFLA_IFNAME)), "\x00")
	up, ours = o.links[name]
	return name, ours, up
}

// route reads struct rtmsg (rtnetlink(7)).
func (o *Own) route(m syscall.NetlinkMessage) string {
	if len(m.Data) < unix.SizeofRtMsg || m.Data[5] == unix.RTPROT_KERNEL {
		return ""
	}
	to, known := netip.AddrFromSlice(attribute(m, unix.SizeofRtMsg, unix.RTA_DST))
	if !known {
		to = netip.IPv4Unspecified()
	}
	prefix := netip.PrefixFrom(to, int(m.Data[1]))
	r := ownRoute{number(m, unix.SizeofRtMsg, unix.RTA_TABLE, uint32(m.Data[4])), prefix, number(m, unix.SizeofRtMsg, unix.RTA_PRIORITY, 0)}
	switch {
	case !o.routes[r]:
		return ""
	case prefix.Bits() == 0:
		return "default route deleted"
	default:
		return fmt.Sprintf("route to %s deleted", prefix)
	}
}

// rule reads struct fib_rule_hdr, which is laid out as struct rtmsg.
func (o *Own) rule(m syscall.NetlinkMessage) string {
	if len(m.Data) < unix.SizeofRtMsg {
		return ""
	}
	r := ownRule{number(m, unix.SizeofRtMsg, unix.FRA_PRIORITY, 0), number(m, unix.SizeofRtMsg, unix.FRA_TABLE, uint32(m.Data[4]))}
	elsewhere := r.table == spec.RouteTable && r.priority < spec.RulePriority && len(o.rules) > 0 // see placed
	if !o.rules[r] && !elsewhere {
		return ""
	}
	return fmt.Sprintf("rule %d deleted", r.priority)
}

// number returns one attribute of 32 bits, or what holds without it.
func number(m syscall.NetlinkMessage, header int, kind uint16, without uint32) uint32 {
	if b := attribute(m, header, kind); len(b) == 4 {
		return binary.NativeEndian.Uint32(b)
	}
	return without
}

// attribute returns one attribute of a message (rtnetlink(7)) or nil.
func attribute(m syscall.NetlinkMessage, header int, kind uint16) []byte {
	if len(m.Data) < header {
		return nil
	}
	b := m.Data[header:]
	for len(b) >= unix.SizeofRtAttr {
		a := (*unix.RtAttr)(unsafe.Pointer(&b[0]))
		if int(a.Len) < unix.SizeofRtAttr || int(a.Len) > len(b) {
			return nil
		}
		if a.Type&0x3fff == kind {
			return b[unix.SizeofRtAttr:a.Len]
		}
		step := (int(a.Len) + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
		if step > len(b) {
			return nil
		}
		b = b[step:]
	}
	return nil
}
