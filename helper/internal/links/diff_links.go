package links

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

func (d *differ) links() {
	wanted, made := map[LinkKey]bool{}, map[string]bool{}
	byName := map[string]spec.Link{}
	for _, link := range d.want.Links {
		byName[link.Name] = link
	}
	for _, link := range d.want.Links {
		wanted[LinkKey{link.NS, link.Name}] = true
		switch {
		case made[link.Name]:
		case link.Kind == spec.Veth && !d.pairStands(link, byName[link.Peer]):
			peer := byName[link.Peer]
			made[peer.Name] = true
			d.remade[LinkKey{link.NS, link.Name}], d.remade[LinkKey{peer.NS, peer.Name}] = true, true
			d.add(reconcile.StepLinks, reconcile.Add, "link "+link.Name, "veth to "+peer.Name, func() error { return d.kernel.AddLink(link, &peer) })
		case (link.Kind == spec.Bridge || link.Kind == spec.WireGuardDevice) && !d.stands(link):
			d.make(link)
		case link.Kind == spec.Physical:
			d.nic(link)
		default:
			d.linkAttributes(link, d.have.Links[LinkKey{link.NS, link.Name}], true)
		}
	}
	for _, key := range d.surplusLinks(wanted) {
		d.add(reconcile.StepLinks, reconcile.Remove, "link "+key.Name, "", func() error { return d.kernel.DeleteLink(key) })
	}
}

// make makes a bridge or the WireGuard device anew. That one is there already where it
// has its UDP socket elsewhere, which cannot change.
func (d *differ) make(link spec.Link) {
	key := LinkKey{link.NS, link.Name}
	verb, detail, interrupts := reconcile.Add, string(link.Kind), 0
	if d.have.Links[key].Kind == link.Kind {
		verb, detail, interrupts = reconcile.Change, "its packets go through its own namespace", d.peers()
		if link.Underlay {
			detail = "its packets go through the host's own namespace"
		}
	}
	d.remade[key] = true
	d.add(reconcile.StepLinks, verb, "link "+link.Name, detail, func() error { return d.kernel.AddLink(link, nil) })
	d.ops[len(d.ops)-1].Interrupts = interrupts
}

// peers counts those of WireGuard until now.
func (d *differ) peers() int {
	for _, h := range []*spec.Host{d.previous, d.want} {
		if h.WireGuard != nil {
			return len(h.WireGuard.Peers)
		}
	}
	return 0
}

// surplusLinks returns Mobula's own links that are not wanted, the host's side
// of a veth pair only: the other end goes with it. The switch removes its own.
func (d *differ) surplusLinks(wanted map[LinkKey]bool) []LinkKey {
	var surplus []LinkKey
	for key, link := range d.have.Links {
		owned := strings.HasPrefix(key.Name, "mo-") || strings.HasPrefix(key.Name, "veth_")
		otherEnd := link.Kind == spec.Veth && key.NS != "" && link.Peer != ""
		removable := link.Kind == spec.Veth || link.Kind == spec.Bridge || link.Kind == spec.WireGuardDevice
		if owned && removable && !wanted[key] && !otherEnd && d.isOurs(key) {
			surplus = append(surplus, key)
		}
	}
	sort.Slice(surplus, func(i, j int) bool { return surplus[i].Name > surplus[j].Name })
	return surplus
}

// isOurs keeps other people's veth_… links of the host's own namespace safe: ours
// are those whose MAC address carries our prefix.
func (d *differ) isOurs(key LinkKey) bool {
	return key.NS != "" || bytes.HasPrefix(d.have.Links[key].MAC, []byte{0x02, 0x6d, 0x6f})
}

func (d *differ) stands(link spec.Link) bool {
	have, ok := d.have.Links[LinkKey{link.NS, link.Name}]
	return ok && have.Kind == link.Kind && (link.Kind != spec.WireGuardDevice || have.Underlay == link.Underlay)
}

func (d *differ) pairStands(a, b spec.Link) bool { return d.stands(a) && d.stands(b) }

// nic brings the NIC where it belongs, under the name that the plan knows.
func (d *differ) nic(link spec.Link) {
	at, found := d.have.NIC(link)
	key := LinkKey{link.NS, link.Name}
	if !found && link.Optional {
		d.missing[key] = true
		return
	}
	there := found && at == key
	have := Link{}
	if there {
		have = d.have.Links[key]
	}
	if found && at.Name != link.Name {
		d.add(reconcile.StepUplink, reconcile.Change, "link "+at.Name, "becomes "+link.Name+" in "+namespaceName(link.NS), func() error {
			moved := spec.Link{Name: at.Name, NS: link.NS, Kind: spec.Physical, Index: link.Index, Down: true}
			if err := d.kernel.SetLink(moved); err != nil {
				return err
			}
			return d.kernel.RenameLink(LinkKey{link.NS, at.Name}, link.Name)
		})
		d.ops[len(d.ops)-1].Reconnects = true
	}
	d.nicSettings(link, there)
	d.linkAttributes(link, have, there)
	d.lateNICSettings(link, there)
}

// linkAttributes compares a link with what it is, moves included.
func (d *differ) linkAttributes(link spec.Link, have Link, there bool) {
	var details []string
	step := reconcile.StepLinks
	switch link.Kind {
	case spec.Internal:
		step = reconcile.StepAddresses // it comes with the switch
	case spec.Physical:
		if step = reconcile.StepUplink; !there {
			details = append(details, "moves into "+namespaceName(link.NS))
		}
	}
	if link.Master != have.Master && !(link.Free && have.Master != "") {
		details = append(details, fmt.Sprintf("port of %s", orNone(link.Master)))
	}
	if link.MTU != 0 && have.MTU != link.MTU && have.Name != "" {
		details = append(details, fmt.Sprintf("MTU %d → %d", have.MTU, link.MTU))
	}
	if link.MAC != nil && !bytes.Equal(have.MAC, link.MAC) {
		details = append(details, "MAC "+link.MAC.String())
	}
	if !have.Up && !link.Down {
		details = append(details, "up")
	}
	if len(details) > 0 {
		d.add(step, reconcile.Change, "link "+link.Name, strings.Join(details, ", "), func() error { return d.kernel.SetLink(link) })
		d.ops[len(d.ops)-1].Reconnects = link.Kind == spec.Physical && !there
	}
}
