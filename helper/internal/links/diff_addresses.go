package links

import (
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

func (d *differ) addresses() {
	free := map[LinkKey]bool{{"", "lo"}: true, {spec.Namespace, "lo"}: true}
	ours := map[LinkKey]bool{}
	for _, link := range d.want.Links {
		key := LinkKey{link.NS, link.Name}
		ours[key], free[key] = true, free[key] || link.Free
	}
	surplus := map[spec.Address]bool{}
	for a := range d.have.Addresses {
		key := LinkKey{a.NS, a.Link}
		// Those of IPv6 are put back, never taken away.
		surplus[a] = a.Prefix.Addr().Is4() && ours[key] && !d.isWantedAddress(a) && (!free[key] || d.wasOurs(a))
	}
	there := sorted(d.have.Addresses)
	for _, a := range d.want.Addresses {
		if !d.missing[LinkKey{a.NS, a.Link}] {
			d.wantAddress(a, there, surplus)
		}
	}
	for _, a := range there {
		if surplus[a] {
			d.add(reconcile.StepAddresses, reconcile.Remove, addressName(a), "on "+a.Link, func() error { return d.kernel.DeleteAddress(a) })
		}
	}
}

// wasOurs reports that an address was put there by Mobula.
func (d *differ) wasOurs(a spec.Address) bool {
	for _, before := range d.previous.Addresses {
		if before.Same(a) {
			return true
		}
	}
	return false
}

func (d *differ) isWantedAddress(have spec.Address) bool {
	for _, a := range d.want.Addresses {
		if a.Same(have) {
			return true
		}
	}
	return false
}

// wantAddress adds a wanted address if it is missing. Attributes count with the
// NIC's own only. One that takes the place of a surplus one in the same network
// comes after it: the kernel would take it along as a secondary address.
func (d *differ) wantAddress(a spec.Address, there []spec.Address, surplus map[spec.Address]bool) {
	step, exact := reconcile.StepAddresses, a.Uplink
	if a.Uplink {
		step = reconcile.StepUplink
	}
	a.Uplink = false
	if d.have.IPv6Off && a.Prefix.Addr().Is6() {
		return // the operator has turned it off since
	}
	found, standing := a, d.have.Addresses[a]
	for _, other := range there {
		if !standing && other.Same(a) {
			found, standing = other, true
		}
	}
	for _, old := range there {
		if surplus[old] && !standing && old.NS == a.NS && old.Link == a.Link && old.Prefix.Masked() == a.Prefix.Masked() {
			found, standing, exact = old, true, true
			surplus[old] = false
		}
	}
	switch {
	case !standing || d.remade[LinkKey{a.NS, a.Link}]:
		d.add(step, reconcile.Add, addressName(a), "on "+a.Link, func() error { return d.kernel.AddAddress(a) })
		d.renewed(a)
	case found != a && exact:
		d.add(step, reconcile.Change, addressName(a), "on "+a.Link+" instead of "+addressName(found), func() error {
			if err := d.kernel.DeleteAddress(found); err != nil {
				return err
			}
			return d.kernel.AddAddress(a)
		})
		d.renewed(a)
	}
}

func (d *differ) renewed(a spec.Address) {
	if d.readdressed == nil {
		d.readdressed = map[LinkKey]bool{}
	}
	d.readdressed[LinkKey{a.NS, a.Link}] = true
}
