package links

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

// Watch reports what disappears or goes down in a namespace, as text for the
// reader: links, addresses, routes and rules. It returns when the subscription
// ends. What is added is of no interest: it breaks nothing.
func Watch(s *netns.Subscription, lost func(what string)) error {
	for {
		messages, err := s.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			lost("more than could be followed")
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range messages {
			if what := describeLoss(m); what != "" {
				lost(what)
			}
		}
	}
}

// Subscribe prepares for Watch.
func Subscribe(namespace string) (*netns.Subscription, error) {
	return netns.Subscribe(namespace, unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE)
}

func describeLoss(m syscall.NetlinkMessage) string {
	switch m.Header.Type {
	case unix.RTM_DELLINK:
		return ownLink(m, "deleted")
	case unix.RTM_NEWLINK:
		if len(m.Data) >= unix.SizeofIfInfomsg {
			info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
			if info.Change&unix.IFF_UP != 0 && info.Flags&unix.IFF_UP == 0 {
				return ownLink(m, "set down")
			}
		}
	case unix.RTM_DELADDR:
		if a := attribute(m, unix.SizeofIfAddrmsg, unix.IFA_LOCAL); len(a) == 4 {
			return fmt.Sprintf("address %s deleted", net.IP(a))
		}
	case unix.RTM_DELROUTE:
		if len(m.Data) >= unix.SizeofRtMsg && m.Data[5] != unix.RTPROT_KERNEL {
			if to := attribute(m, unix.SizeofRtMsg, unix.RTA_DST); len(to) == 4 {
				return fmt.Sprintf("route to %s deleted", net.IP(to))
			}
			return "default route deleted"
		}
	case unix.RTM_DELRULE:
		return "rule deleted"
	}
	return ""
}

// ownLink names a link that may be Mobula's.
func ownLink(m syscall.NetlinkMessage, what string) string {
	name := strings.TrimRight(string(attribute(m, unix.SizeofIfInfomsg, unix.IFLA_IFNAME)), "\x00")
	if !strings.HasPrefix(name, "mo-") && !strings.HasPrefix(name, "veth_") && name != "ovsbr-mobula" {
		return ""
	}
	return fmt.Sprintf("link %s %s", name, what)
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
