package links

import (
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/spec"
)

// Attributes of <linux/netconf.h>, which x/sys does not name. They follow struct
// netconfmsg, one byte and three of padding.
const (
	netconfIndex         = 1
	netconfForwarding    = 2
	netconfReversePath   = 3
	sizeofNetconfMessage = 4

	netconfAll = -1 // NETCONFA_IFINDEX_ALL
)

// ownForwarding returns what a plan has single interfaces of a namespace do.
func ownForwarding(p *spec.Host, namespace string) map[string]string {
	own := map[string]string{}
	for _, s := range p.Settings {
		name := interfaceOf(s.Key)
		if s.NS == namespace && name != "" && strings.HasPrefix(s.Key, "net/ipv4/conf/") && strings.HasSuffix(s.Key, "/forwarding") {
			own[name] = s.Value
		}
	}
	return own
}

// forwards reads what the kernel tells when somebody sets whether an interface forwards.
// When sysctl(8) changes net.ipv4.ip_forward it tells first of all of them, and then of
// each, which it sets (inet_forward_change); what of the host is forwarded changes then,
// too. Of a new interface it tells all its settings in one message; that is none of those.
// The name is asked for only where it matters.
func (o *Own) forwards(m syscall.NetlinkMessage) string {
	const absent = ^uint32(0)
	value := number(m, sizeofNetconfMessage, netconfForwarding, absent)
	if value == absent || attribute(m, sizeofNetconfMessage, netconfReversePath) != nil || len(o.forwarding) == 0 {
		return ""
	}
	index := int(int32(number(m, sizeofNetconfMessage, netconfIndex, 0)))
	if index == netconfAll {
		return "net.ipv4.ip_forward set to " + onOff(value) + ", and by it forwarding of each interface"
	}
	if !o.minds(value) {
		return ""
	}
	name := o.nameOf(index)
	if want, ours := o.forwarding[name]; ours && want != onOff(value) {
		return "forwarding of " + name + " changed"
	}
	return ""
}

// minds reports that some interface should do otherwise.
func (o *Own) minds(value uint32) bool {
	for _, want := range o.forwarding {
		if want != onOff(value) {
			return true
		}
	}
	return false
}

func onOff(value uint32) string {
	if value == 0 {
		return "0"
	}
	return "1"
}

// nameOf returns "" for an interface that is gone, and for what stands for new ones, which
// has a number below zero.
func nameOf(namespace string, index int) (name string) {
	if index <= 0 {
		return ""
	}
	_ = in(namespace, func(h *netlink.Handle) error {
		link, err := h.LinkByIndex(index)
		if err == nil {
			name = link.Attrs().Name
		}
		return err
	})
	return name
}
