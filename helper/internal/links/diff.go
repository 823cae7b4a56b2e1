package links

import (
	"bytes"
	"context"
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
	d.rules()
	return d.ops, nil
}

type differ struct {
	kernel         Kernel
	have           *State
	want, previous *plan.Host
	// remade are links that will be made anew, without what they have now.
	remade map[LinkKey]bool
	ops    []reconcile.Operation
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

func (d *differ) addresses() {
	wanted := map[plan.Address]bool{}
	free := map[LinkKey]bool{{"", "lo"}: true, {plan.Namespace, "lo"}: true}
	ours := map[LinkKey]bool{}
	for _, link := range d.want.Links {
		key := LinkKey{link.NS, link.Name}
		ours[key], free[key] = true, free[key] || link.Free
	}
	for _, a := range d.want.Addresses {
		a := a
		step := reconcile.StepAddresses
		if a.Uplink {
			step = reconcile.StepUplink
		}
		a.Uplink = false
		wanted[a] = true
		if d.have.IPv6Off && a.Prefix.Addr().Is6() {
			continue // the operator has turned it off since
		}
		if !d.have.Addresses[a] || d.remade[LinkKey{a.NS, a.Link}] {
			d.add(step, reconcile.Add, "address "+a.Prefix.String(), "on "+a.Link, func() error { return d.kernel.AddAddress(a) })
		}
	}
	before := map[plan.Address]bool{}
	for _, a := range d.previous.Addresses {
		a.Uplink = false
		before[a] = true
	}
	for _, a := range sorted(d.have.Addresses) {
		a, key := a, LinkKey{a.NS, a.Link}
		if a.Prefix.Addr().Is6() {
			continue // put back, never taken away
		}
		if ours[key] && !wanted[a] && (!free[key] || before[a]) {
			d.add(reconcile.StepAddresses, reconcile.Remove, "address "+a.Prefix.String(), "on "+a.Link, func() error { return d.kernel.DeleteAddress(a) })
		}
	}
}

func (d *differ) routes() {
	wanted := map[RouteKey]bool{}
	for _, r := range d.want.Routes {
		r := r
		wanted[keyOf(r)] = true
		have, ok := d.have.Routes[keyOf(r)]
		ok = ok && !d.remade[LinkKey{have.NS, have.Link}]
		if ok && sameRoute(have, r) || d.have.IPv6Off && r.To.Addr().Is6() {
			continue
		}
		step, verb, detail := reconcile.StepRoutes, reconcile.Add, describeRoute(r)
		if r.Uplink {
			step = reconcile.StepUplink
		}
		if ok {
			verb, detail = reconcile.Change, describeRoute(have)+" → "+detail
		}
		d.add(step, verb, routeName(r), detail, func() error { return d.kernel.ReplaceRoute(r) })
	}
	before := map[plan.Route]bool{}
	for _, r := range d.previous.Routes {
		before[whatItDoes(r)] = true
	}
	for _, key := range sorted(d.have.Routes) {
		r := d.have.Routes[key]
		if r.To.Addr().Is6() {
			continue // as addresses
		}
		if !wanted[key] && (key.Table == plan.RouteTable || before[whatItDoes(r)]) {
			d.add(reconcile.StepRoutes, reconcile.Remove, routeName(r), describeRoute(r), func() error { return d.kernel.DeleteRoute(r) })
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
