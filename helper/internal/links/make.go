package links

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// UnderlayAlias is the alias (ip-link(8)) of a WireGuard device that has spec.Link.Underlay:
// the kernel does not tell in which namespace its UDP socket is.
const UnderlayAlias = "mobula: packets go through the host's namespace"

// Underlay reports whether a link is a WireGuard device that has spec.Link.Underlay.
// One that is nowhere has not.
func Underlay(key LinkKey) (underlay bool, err error) {
	if !netns.Exists(key.NS) {
		return false, nil
	}
	err = in(key.NS, func(h *netlink.Handle) error {
		found, err := h.LinkByName(key.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil {
			underlay = isUnderlay(found)
		}
		return err
	})
	return underlay, err
}

func isUnderlay(l netlink.Link) bool {
	return kindOf(l) == spec.WireGuardDevice && l.Attrs().Alias == UnderlayAlias
}

func makeLink(ns string, link netlink.Link) error {
	return in(ns, func(h *netlink.Handle) error { return h.LinkAdd(link) })
}

// makeFromHost makes a link in a namespace by a request from the host's own one, where
// WireGuard has its UDP socket then: it takes the requester's namespace for the one it
// was created in (rtnl_newlink in net/core/rtnetlink.c hands it to wg_newlink in
// drivers/net/wireguard/device.c). So no link is ever seen in the host's own. The alias
// comes last, and cannot come with the link: one without it is not finished.
func makeFromHost(ns string, link netlink.Link) error {
	file, err := netns.Open(ns)
	if err != nil {
		return err
	}
	defer file.Close()
	link.Attrs().Namespace = netlink.NsFd(file.Fd())
	if err := makeLink("", link); err != nil {
		return err
	}
	return in(ns, func(h *netlink.Handle) error {
		made, err := h.LinkByName(link.Attrs().Name)
		if err != nil {
			return err
		}
		return h.LinkSetAlias(made, UnderlayAlias)
	})
}

func makeVeth(link, peer spec.Link, attrs netlink.LinkAttrs) error {
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peer.Name, PeerHardwareAddr: peer.MAC}
	if peer.NS != link.NS {
		file, err := netns.Open(peer.NS)
		if err != nil {
			return err
		}
		defer file.Close()
		veth.PeerNamespace = netlink.NsFd(file.Fd())
	}
	veth.Index = link.Index
	err := makeLink(link.NS, veth)
	if veth.Index != 0 && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST)) { // another link has the number
		veth.Index = 0
		err = makeLink(link.NS, veth)
	}
	return err
}
