package links

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
)

// Links is the reconcile.Subject for everything of State.
type Links struct{ kernel Kernel }

// New returns the subject on the given kernel.
func New(kernel Kernel) *Links { return &Links{kernel} }

// Name implements reconcile.Subject.
func (l *Links) Name() string { return "links" }

// Diff implements reconcile.Subject.
func (l *Links) Diff(_ context.Context, want, previous *plan.Host) ([]reconcile.Operation, error) {
	if previous == nil {
		previous = &plan.Host{}
	}
	have, err := l.kernel.Observe([]string{plan.Namespace}, plan.RouteTable, want.Settings)
	if err != nil {
		return nil, err
	}
	d := differ{kernel: l.kernel, have: have, want: want, previous: previous, remade: map[LinkKey]bool{}}
	d.namespaces()
	d.settings()
	d.links()
	d.addresses()
	d.routes()
	d.kernelRoutes()
	d.absent()
	d.rules()
	return d.ops, nil
}

// protocolKernel marks routes that the kernel makes (RTPROT_KERNEL, rtnetlink(7)).
const protocolKernel = 2

type differ struct {
	kernel         Kernel
	have           *State
	want, previous *plan.Host
	// remade are links that will be made anew, without what they have now.
	remade map[LinkKey]bool
	// readdressed are links that get an address, and with it routes of the kernel.
	readdressed map[LinkKey]bool
	// replaced are routes that go when others come.
	replaced map[plan.Route]bool
	ops      []reconcile.Operation
}

func (d *differ) add(step reconcile.Step, verb reconcile.Verb, object, detail string, do func() error) {
	d.ops = append(d.ops, reconcile.Operation{Step: step, Verb: verb, Object: object, Detail: detail,
		Do: func(context.Context) error { return do() }})
}

func (d *differ) namespaces() {
	wanted := map[string]bool{}
	for _, name := range d.want.Namespaces {
		name := name
		wanted[name] = true
		if !d.have.Namespaces[name] {
			d.add(reconcile.StepNamespaces, reconcile.Add, "namespace "+name, "", func() error { return d.kernel.AddNamespace(name) })
		}
	}
	for _, name := range sorted(d.have.Namespaces) {
		name := name
		if !wanted[name] {
			d.add(reconcile.StepNamespaces, reconcile.Remove, "namespace "+name, "", func() error { return d.kernel.DeleteNamespace(name) })
		}
	}
}

func (d *differ) settings() {
	for _, s := range d.want.Settings {
		s := s
		if s.NIC != "" {
			continue // see nicSettings
		}
		if found, ok := d.have.Settings[SettingKey{s.NS, s.Key}]; !ok || found != s.Value {
			d.add(reconcile.StepSettings, reconcile.Change, "setting "+s.Key, strings.TrimSpace(found+" → "+s.Value), func() error { return d.kernel.Set(s) })
		}
	}
}

func (d *differ) links() {
	wanted, made := map[LinkKey]bool{}, map[string]bool{}
	byName := map[string]plan.Link{}
	for _, link := range d.want.Links {
		byName[link.Name] = link
	}
	for _, link := range d.want.Links {
		link := link
		wanted[LinkKey{link.NS, link.Name}] = true
		switch {
		case made[link.Name]:
		case link.Kind == plan.Veth && !d.pairStands(link, byName[link.Peer]):
			peer := byName[link.Peer]
			made[peer.Name] = true
			d.remade[LinkKey{link.NS, link.Name}], d.remade[LinkKey{peer.NS, peer.Name}] = true, true
			d.add(reconcile.StepLinks, reconcile.Add, "link "+link.Name, "veth to "+peer.Name, func() error { return d.kernel.AddLink(link, &peer) })
		case (link.Kind == plan.Bridge || link.Kind == plan.WireGuardDevice) && !d.stands(link):
			d.remade[LinkKey{link.NS, link.Name}] = true
			d.add(reconcile.StepLinks, reconcile.Add, "link "+link.Name, string(link.Kind), func() error { return d.kernel.AddLink(link, nil) })
		default:
			d.linkAttributes(link)
		}
	}
	for _, key := range d.surplusLinks(wanted) {
		key := key
		d.add(reconcile.StepLinks, reconcile.Remove, "link "+key.Name, "", func() error { return d.kernel.DeleteLink(key) })
	}
}

// surplusLinks returns Mobula's own links that are not wanted, the host's side
// of a veth pair only: the other end goes with it. The switch removes its own.
func (d *differ) surplusLinks(wanted map[LinkKey]bool) []LinkKey {
	var surplus []LinkKey
	for key, link := range d.have.Links {
		owned := strings.HasPrefix(key.Name, "mo-") || strings.HasPrefix(key.Name, "veth_")
		otherEnd := link.Kind == plan.Veth && key.NS != "" && link.Peer != ""
		removable := link.Kind == plan.Veth || link.Kind == plan.Bridge || link.Kind == plan.WireGuardDevice
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

func (d *differ) stands(link plan.Link) bool {
	have, ok := d.have.Links[LinkKey{link.NS, link.Name}]
	return ok && have.Kind == link.Kind
}

func (d *differ) pairStands(a, b plan.Link) bool { return d.stands(a) && d.stands(b) }

// linkAttributes compares a link that stands, moves included.
func (d *differ) linkAttributes(link plan.Link) {
	have, ok := d.have.Links[LinkKey{link.NS, link.Name}]
	var details []string
	step := reconcile.StepLinks
	switch link.Kind {
	case plan.Internal:
		step = reconcile.StepAddresses // it comes with the switch
	case plan.Physical:
		step = reconcile.StepUplink
		d.nicSettings(link, ok)
		if !ok {
			details = append(details, "moves into "+namespaceName(link.NS))
		}
	}
	if link.Master != have.Master && !(link.Free && have.Master != "") {
		details = append(details, fmt.Sprintf("port of %s", orNone(link.Master)))
	}
	if link.MTU != 0 && have.MTU != link.MTU && ok {
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
		d.ops[len(d.ops)-1].Reconnects = link.Kind == plan.Physical && !ok
	}
}

// nicSettings gives the NIC its own settings back, before it is set up: moving
// resets them (inetdev_init, ipv6_add_dev in the kernel).
func (d *differ) nicSettings(link plan.Link, there bool) {
	var all []plan.Setting
	for _, s := range d.want.Settings {
		if found, ok := d.have.Settings[SettingKey{s.NS, s.Key}]; s.NIC == link.Name && (!there || ok && found != s.Value) {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return
	}
	moved := link
	moved.Down = true
	if !there {
		d.add(reconcile.StepUplink, reconcile.Change, "link "+link.Name, "moves into "+namespaceName(link.NS)+", still down", func() error { return d.kernel.SetLink(moved) })
		d.ops[len(d.ops)-1].Reconnects = true
	}
	d.add(reconcile.StepUplink, reconcile.Change, "settings of "+link.Name, fmt.Sprintf("%d as they were", len(all)), func() (err error) {
		for _, s := range all {
			err = errors.Join(err, d.kernel.Set(s))
		}
		return err
	})
}

func (d *differ) addresses() {
	free := map[LinkKey]bool{{"", "lo"}: true, {plan.Namespace, "lo"}: true}
	ours := map[LinkKey]bool{}
	for _, link := range d.want.Links {
		key := LinkKey{link.NS, link.Name}
		ours[key], free[key] = true, free[key] || link.Free
	}
	surplus := map[plan.Address]bool{}
	for a := range d.have.Addresses {
		key := LinkKey{a.NS, a.Link}
		// Those of IPv6 are put back, never taken away.
		surplus[a] = a.Prefix.Addr().Is4() && ours[key] && !d.isWantedAddress(a) && (!free[key] || d.wasOurs(a))
	}
	there := sorted(d.have.Addresses)
	for _, a := range d.want.Addresses {
		d.wantAddress(a, there, surplus)
	}
	for _, a := range there {
		a := a
		if surplus[a] {
			d.add(reconcile.StepAddresses, reconcile.Remove, addressName(a), "on "+a.Link, func() error { return d.kernel.DeleteAddress(a) })
		}
	}
}

// wasOurs reports that an address was put there by Mobula.
func (d *differ) wasOurs(a plan.Address) bool {
	for _, before := range d.previous.Addresses {
		if before.Same(a) {
			return true
		}
	}
	return false
}

func (d *differ) isWantedAddress(have plan.Address) bool {
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
func (d *differ) wantAddress(a plan.Address, there []plan.Address, surplus map[plan.Address]bool) {
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

func (d *differ) renewed(a plan.Address) {
	if d.readdressed == nil {
		d.readdressed = map[LinkKey]bool{}
	}
	d.readdressed[LinkKey{a.NS, a.Link}] = true
}

func (d *differ) routes() {
	wanted := map[plan.Route]bool{}
	for _, r := range d.want.Routes {
		wanted[asFound(r)] = true
	}
	for _, r := range d.want.Routes {
		d.wantRoute(r, wanted)
	}
	before := map[plan.Route]bool{}
	for _, r := range d.previous.Routes {
		before[whatItDoes(r)] = true
	}
	for _, r := range d.have.Routes {
		r := r
		if r.To.Addr().Is6() || r.Protocol == protocolKernel {
			continue // as addresses; the kernel takes its own away
		}
		if !d.replaced[r] && !d.isWanted(r) && (r.Table == plan.RouteTable || before[whatItDoes(r)]) {
			d.add(reconcile.StepRoutes, reconcile.Remove, routeName(r), describeRoute(r), func() error { return d.kernel.DeleteRoute(r) })
		}
	}
}

// isWanted reports that a route of the kernel is one of the wanted ones.
func (d *differ) isWanted(have plan.Route) bool {
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
func (d *differ) sameRoute(have, want plan.Route) bool {
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
func (d *differ) reaches(r plan.Route) bool {
	for a := range d.have.Addresses {
		if a.NS == r.NS && a.Link == r.Link && a.Prefix.Masked().Contains(r.Via) {
			return true
		}
	}
	return false
}

func (d *differ) wantRoute(r plan.Route, wanted map[plan.Route]bool) {
	var old *plan.Route
	for _, have := range d.have.Routes {
		have := have
		byKernel := have.Protocol == protocolKernel && !r.Uplink
		if KeyOf(have) != KeyOf(r) || have.Link != r.Link || byKernel || d.remade[LinkKey{have.NS, have.Link}] {
			continue
		}
		if d.sameRoute(have, r) {
			return
		}
		if old == nil && !wanted[have] && (have.Protocol != protocolKernel || r.Protocol == protocolKernel) {
			old = &have
		}
	}
	if d.have.IPv6Off && r.To.Addr().Is6() {
		return
	}
	step := reconcile.StepRoutes
	if r.Uplink {
		step = reconcile.StepUplink
	}
	if old == nil {
		d.add(step, reconcile.Add, routeName(r), describeRoute(r), func() error { return d.addRoute(r) })
		return
	}
	if d.replaced == nil {
		d.replaced = map[plan.Route]bool{}
	}
	d.replaced[*old] = true
	d.add(step, reconcile.Change, routeName(r), describeRoute(*old)+" → "+describeRoute(r), func() error { return d.changeRoute(*old, r) })
}

// addRoute adds a route. Of the NIC's own none may be missing because the gateway
// seems to be out of reach: it worked, so it is on the link.
func (d *differ) addRoute(r plan.Route) error {
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
func (d *differ) changeRoute(old, r plan.Route) error {
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
	primary := map[plan.Route]bool{}
	for _, a := range d.want.Addresses {
		key := LinkKey{a.NS, a.Link}
		r, ok := madeFor(a, false)
		r.Uplink, r.Behind = a.Uplink, true
		network := plan.Route{NS: r.NS, Link: r.Link, To: r.To}
		if !ok || primary[network] || r.To.Addr().Is6() || !d.have.Links[key].Up || d.readdressed[key] || d.remade[key] {
			continue
		}
		primary[network] = true
		if step := reconcile.StepRoutes; !d.hasOrLacks(r) {
			if r.Uplink {
				step = reconcile.StepUplink
			}
			d.add(step, reconcile.Add, routeName(r), "the kernel's own, "+describeRoute(r), func() error { return d.kernel.AddRoute(r) })
		}
	}
}

// hasOrLacks reports that a route of the kernel is there, whichever address it is
// from, or has to be absent.
func (d *differ) hasOrLacks(r plan.Route) bool {
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
		r := r
		there := d.readdressed[LinkKey{r.NS, r.Link}]
		for _, have := range d.have.Routes {
			there = there || asFound(have) == asFound(r)
		}
		if there {
			d.add(reconcile.StepUplink, reconcile.Change, routeName(r), "the kernel's own goes", func() error { return d.kernel.DeleteRoute(r) })
		}
	}
}

func (d *differ) rules() {
	wanted := map[plan.Rule]bool{}
	for _, r := range d.want.Rules {
		r := r
		wanted[r] = true
		if !d.have.Rules[r] {
			d.add(reconcile.StepRoutes, reconcile.Add, "rule "+describeRule(r), "", func() error { return d.kernel.AddRule(r) })
		}
	}
	for _, r := range sorted(d.have.Rules) {
		r := r
		if !wanted[r] {
			d.add(reconcile.StepRoutes, reconcile.Remove, "rule "+describeRule(r), "", func() error { return d.kernel.DeleteRule(r) })
		}
	}
}

// sorted returns the keys in an order that is always the same.
func sorted[K comparable, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool { return fmt.Sprint(keys[i]) < fmt.Sprint(keys[j]) })
	return keys
}
