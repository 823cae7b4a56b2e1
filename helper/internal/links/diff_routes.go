package links

import (
	"errors"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

func (d *differ) routes() {
	wanted := map[spec.Route]bool{}
	for _, r := range d.want.Routes {
		wanted[asFound(r)] = true
	}
	for _, r := range d.want.Routes {
		if !d.missing[LinkKey{r.NS, r.Link}] {
			d.wantRoute(r, wanted)
		}
	}
	before := map[spec.Route]bool{}
	for _, r := range append(append([]spec.Route{}, d.previous.Routes...), d.want.Former...) {
		before[whatItDoes(r)] = true
	}
	for _, r := range d.have.Routes {
		if r.To.Addr().Is6() || r.Protocol == protocolKernel {
			continue // as addresses; the kernel takes its own away
		}
		if !d.replaced[r] && !d.isWanted(r) && (r.Table == spec.RouteTable || before[whatItDoes(r)]) {
			d.add(reconcile.StepRoutes, reconcile.Remove, routeName(r), describeRoute(r), func() error { return d.kernel.DeleteRoute(r) })
		}
	}
}

// isWanted reports that a route of the kernel is one of the wanted ones.
func (d *differ) isWanted(have spec.Route) bool {
	for _, r := range d.want.Routes {
		if d.sameRoute(have, r) {
			return true
		}
	}
	return false
}

// sameRoute compares a found route with a wanted one. Who made it counts with the
// NIC's own only; of those one may be more than it was: as long as no address of the
// link reaches its gateway, that is taken to be on the link (see addRoute).
func (d *differ) sameRoute(have, want spec.Route) bool {
	have, want, exact := asFound(have), asFound(want), want.Uplink
	if !exact {
		have.Protocol = want.Protocol
	}
	if have == want || !exact || !have.OnLink || d.reaches(have) {
		return have == want
	}
	have.OnLink = false
	return have == want
}

// reaches reports that the gateway of a route is in the network of an address that
// its link has.
func (d *differ) reaches(r spec.Route) bool {
	for a := range d.have.Addresses {
		if a.NS == r.NS && a.Link == r.Link && a.Prefix.Masked().Contains(r.Via) {
			return true
		}
	}
	return false
}

func (d *differ) wantRoute(r spec.Route, wanted map[spec.Route]bool) {
	var old *spec.Route
	for place, have := range d.have.Routes {
		byKernel := have.Protocol == protocolKernel && !r.Uplink
		if KeyOf(have) != KeyOf(r) || have.Link != r.Link || byKernel || d.remade[LinkKey{have.NS, have.Link}] {
			continue
		}
		if d.sameRoute(have, r) {
			d.keepOrder(r, have, place)
			return
		}
		if old == nil && !wanted[have] && (have.Protocol != protocolKernel || r.Protocol == protocolKernel) {
			old = &have
		}
	}
	if d.have.IPv6Off && r.To.Addr().Is6() {
		return
	}
	if !r.Behind {
		d.front[KeyOf(r)] = added
	}
	step := routeStep(r)
	if old == nil {
		d.add(step, reconcile.Add, routeName(r), describeRoute(r), func() error { return d.addRoute(r) })
		return
	}
	d.replaced[*old] = true
	d.add(step, reconcile.Change, routeName(r), describeRoute(*old)+" → "+describeRoute(r), func() error { return d.changeRoute(*old, r) })
}

// added is in front of all that were found.
const added = -1

// keepOrder has a route that is there stay in front of those of its key that are
// wanted before it. The kernel takes the first one, and adds in front, too: so does
// what is missing, and what is found out of its place.
func (d *differ) keepOrder(r, have spec.Route, place int) {
	if r.Behind || r.To.Addr().Is6() {
		return
	}
	key := KeyOf(r)
	if front, behind := d.front[key]; !behind || place < front {
		d.front[key] = place
		return
	}
	d.front[key] = added
	d.add(routeStep(r), reconcile.Change, routeName(r), describeRoute(r)+": in front again", func() error {
		return errors.Join(d.kernel.DeleteRoute(have), d.addRoute(r))
	})
}

func routeStep(r spec.Route) reconcile.Step {
	if r.Uplink {
		return reconcile.StepUplink
	}
	return reconcile.StepRoutes
}

// addRoute adds a route. Of the NIC's own none may be missing because the gateway
// seems to be out of reach: it worked, so it is on the link.
func (d *differ) addRoute(r spec.Route) error {
	err := d.kernel.AddRoute(r)
	if err != nil && r.Uplink && r.Via.IsValid() && !r.OnLink {
		r.OnLink = true
		if d.kernel.AddRoute(r) == nil {
			return nil
		}
	}
	return err
}

// changeRoute adds before it deletes, where the kernel takes both.
func (d *differ) changeRoute(old, r spec.Route) error {
	if r.To.Addr().Is6() {
		return errors.Join(d.kernel.DeleteRoute(old), d.addRoute(r))
	}
	if err := d.addRoute(r); err != nil {
		return err
	}
	return d.kernel.DeleteRoute(old)
}

// kernelRoutes puts back the routes that the kernel made for addresses, where
// somebody deleted them since.
func (d *differ) kernelRoutes() {
	primary := map[spec.Route]bool{}
	for _, a := range d.want.Addresses {
		key := LinkKey{a.NS, a.Link}
		r, ok := madeFor(a, false)
		r.Uplink, r.Behind = a.Uplink, true
		network := spec.Route{NS: r.NS, Link: r.Link, To: r.To}
		if !ok || primary[network] || r.To.Addr().Is6() || !d.have.Links[key].Up || d.readdressed[key] || d.remade[key] {
			continue
		}
		primary[network] = true
		if !d.hasOrLacks(r) {
			d.add(routeStep(r), reconcile.Add, routeName(r), "the kernel's own, "+describeRoute(r), func() error { return d.kernel.AddRoute(r) })
		}
	}
}

// hasOrLacks reports that a route of the kernel is there, whichever address it is
// from, or has to be absent.
func (d *differ) hasOrLacks(r spec.Route) bool {
	for _, have := range d.have.Routes {
		if KeyOf(have) == KeyOf(r) && have.Link == r.Link && have.Protocol == r.Protocol && !have.Via.IsValid() {
			return true
		}
	}
	for _, absent := range d.want.Absent {
		if KeyOf(absent) == KeyOf(r) && absent.Link == r.Link {
			return true
		}
	}
	return false
}

// absent deletes routes that the kernel makes for addresses and that were not there.
func (d *differ) absent() {
	for _, r := range d.want.Absent {
		there := d.readdressed[LinkKey{r.NS, r.Link}]
		for _, have := range d.have.Routes {
			there = there || asFound(have) == asFound(r)
		}
		if there {
			d.add(reconcile.StepUplink, reconcile.Change, routeName(r), "the kernel's own goes", func() error { return d.kernel.DeleteRoute(r) })
		}
	}
}
