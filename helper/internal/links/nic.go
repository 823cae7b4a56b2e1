package links

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// identity returns what a network card is known by; nothing of other links, which
// may have the address of a card that they stand on.
func identity(l netlink.Link) spec.NIC {
	a := l.Attrs()
	if l.Type() != "device" || a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) == 0 {
		return spec.NIC{}
	}
	nic := spec.NIC{MAC: a.PermHWAddr, AltNames: a.AltNames, Device: a.ParentDev}
	if len(nic.MAC) == 0 { // kernels before 5.5 do not tell
		nic.MAC = a.HardwareAddr
	}
	return nic
}

// NIC returns where a physical link is that the plan means: the card with its
// address, whatever it is named now (two cards may have changed names); else the
// link of its name, the one with the name as another one, and the card in its place.
// What fits two is none.
func (s *State) NIC(link spec.Link) (LinkKey, bool) {
	named, byName := LinkKey{link.NS, link.Name}, false
	for _, ns := range []string{link.NS, "", spec.Namespace} {
		if _, there := s.Links[LinkKey{ns, link.Name}]; there && !byName {
			named, byName = LinkKey{ns, link.Name}, true
		}
	}
	known := link.NIC
	sameMAC := func(_ LinkKey, nic spec.NIC) bool { return known.MAC != nil && bytes.Equal(nic.MAC, known.MAC) }
	if byName && sameMAC(named, s.Links[named].NIC) {
		return named, true
	}
	if key, one := s.only(sameMAC); one || byName {
		if one {
			return key, true
		}
		return named, true
	}
	if key, one := s.only(func(_ LinkKey, nic spec.NIC) bool { return slices.Contains(nic.AltNames, link.Name) }); one {
		return key, true
	}
	if key, one := s.only(func(key LinkKey, _ spec.NIC) bool { return slices.Contains(known.AltNames, key.Name) }); one {
		return key, true
	}
	return s.only(func(_ LinkKey, nic spec.NIC) bool { return known.Device != "" && nic.Device == known.Device })
}

// only returns the card that fits, if it is one.
func (s *State) only(fits func(LinkKey, spec.NIC) bool) (found LinkKey, one bool) {
	fitting := 0
	for key, l := range s.Links {
		if l.NIC.MAC != nil && fits(key, l.NIC) {
			found = key
			fitting++
		}
	}
	return found, fitting == 1
}

// FindNIC looks for the uplink in the host's own namespace and in the gateway's. A boot
// asks many times a second, so it looks at nothing but links. One that udev is about to
// name is not there yet.
func FindNIC(facts *spec.Facts) (name string, card net.HardwareAddr, found bool) {
	s := &State{Links: map[LinkKey]Link{}}
	for _, ns := range []string{"", spec.Namespace} {
		if !netns.Exists(ns) {
			continue
		}
		err := again(func() error {
			return in(ns, func(h *netlink.Handle) error { _, err := s.observeLinks(h, ns); return err })
		})
		if err != nil {
			return "", nil, false
		}
	}
	key, found := s.NIC(facts.NIC())
	if found && key.NS == "" && !facts.IsUplink(key.Name) && isUnnamed("/", key.Name) {
		return "", nil, false
	}
	return key.Name, s.Links[key].NIC.MAC, found
}

// isUnnamed reports that udev has not done with a link of the host that it knows of, so
// that its name is the kernel's and may change any moment: udev has written nothing about
// it, and has something to do (udev_queue_get_queue_is_empty(3) looks at the same file).
func isUnnamed(root, name string) bool {
	index, err := os.ReadFile(filepath.Join(root, "sys/class/net", name, "ifindex"))
	if err != nil {
		return false
	}
	_, written := os.Stat(filepath.Join(root, "run/udev/data", "n"+strings.TrimSpace(string(index))))
	_, busy := os.Stat(filepath.Join(root, "run/udev/queue"))
	return written != nil && busy == nil
}
