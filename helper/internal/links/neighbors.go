package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// hasNeighbors are the links with permanent neighbors.
var hasNeighbors = []LinkKey{{"", spec.AccessLink}, {spec.Namespace, spec.SwitchBridge}}

// neighbors are compared link by link, one operation each. Of those on the host's own
// link only Mobula's go: the operator may have some there.
func (d *differ) neighbors() {
	come, leave := map[LinkKey][]spec.Neighbor{}, map[LinkKey][]spec.Neighbor{}
	wanted, before := map[spec.Neighbor]bool{}, map[spec.Neighbor]bool{}
	for _, n := range d.want.Neighbors {
		wanted[n] = true
		// With the last address of a link its neighbors go (fib_disable_ip in the kernel).
		if key := (LinkKey{n.NS, n.Link}); !d.have.Neighbors[n] || d.remade[key] || d.readdressed[key] {
			come[key] = append(come[key], n)
		}
	}
	for _, n := range d.previous.Neighbors {
		before[n] = true
	}
	for n := range d.have.Neighbors {
		if key := (LinkKey{n.NS, n.Link}); !wanted[n] && (n.NS != "" || before[n]) && !d.remade[key] {
			leave[key] = append(leave[key], n)
		}
	}
	for _, key := range hasNeighbors {
		key, come, leave := key, come[key], leave[key]
		inOrder(leave)
		if len(come)+len(leave) > 0 && d.stays(key) {
			d.add(reconcile.StepRoutes, reconcile.Change, "neighbors on "+key.Name, fmt.Sprintf("%d come, %d go", len(come), len(leave)),
				func() error { return d.kernel.SetNeighbors(key, come, leave) })
		}
	}
}

// stays reports that a link is wanted: with one that goes its neighbors go.
func (d *differ) stays(key LinkKey) bool {
	for _, l := range d.want.Links {
		if l.NS == key.NS && l.Name == key.Name {
			return true
		}
	}
	return false
}

// observeNeighbors notes the permanent ones.
func (s *State) observeNeighbors(h *netlink.Handle, ns string, names map[int]string) error {
	all, err := h.NeighList(0, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, n := range all {
		ip, ok := netip.AddrFromSlice(n.IP)
		key := LinkKey{ns, names[n.LinkIndex]}
		permanent := n.State&netlink.NUD_PERMANENT != 0 && n.Flags&netlink.NTF_PROXY == 0
		if ok && permanent && (key == hasNeighbors[0] || key == hasNeighbors[1]) && len(n.HardwareAddr) == 6 {
			s.Neighbors[spec.Neighbor{NS: ns, Link: key.Name, Address: ip.Unmap(), MAC: [6]byte(n.HardwareAddr)}] = true
		}
	}
	return nil
}

// SetNeighbors implements Kernel. An address may be among those that come and those
// that leave.
func (Netlink) SetNeighbors(key LinkKey, come, leave []spec.Neighbor) error {
	return in(key.NS, func(h *netlink.Handle) error {
		link, err := h.LinkByName(key.Name)
		if err != nil {
			return fmt.Errorf("neighbors on %s: %w", key.Name, err)
		}
		entry := func(n spec.Neighbor) *netlink.Neigh {
			return &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: n.Address.AsSlice(), HardwareAddr: net.HardwareAddr(n.MAC[:])}
		}
		for _, n := range leave {
			if err := h.NeighDel(entry(n)); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("deleting neighbor %s on %s: %w", n.Address, key.Name, err)
			}
		}
		for _, n := range come {
			if err := h.NeighSet(entry(n)); err != nil {
				return fmt.Errorf("setting neighbor %s on %s: %w", n.Address, key.Name, err)
			}
		}
		return nil
	})
}
