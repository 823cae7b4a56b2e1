package links

import (
	"context"
	"fmt"
	"sort"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// Links is the reconcile.Subject for everything of State.
type Links struct{ kernel Kernel }

// New returns the subject on the given kernel.
func New(kernel Kernel) *Links { return &Links{kernel} }

// Name implements reconcile.Subject.
func (l *Links) Name() string { return "links" }

// Diff implements reconcile.Subject.
func (l *Links) Diff(_ context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	if previous == nil {
		previous = &spec.Host{}
	}
	have, err := l.kernel.Observe([]string{spec.Namespace}, spec.RouteTable, withLikes(want.Settings))
	if err != nil {
		return nil, err
	}
	want = like(want, have)
	d := differ{kernel: l.kernel, have: have, want: want, previous: previous, remade: map[LinkKey]bool{}, reforwarded: map[string]bool{}, missing: map[LinkKey]bool{}, replaced: map[spec.Route]bool{}, front: map[RouteKey]int{}}
	d.namespaces()
	d.settings()
	d.links()
	d.linkSettings()
	d.addresses()
	d.routes()
	d.kernelRoutes()
	d.absent()
	d.neighbors()
	d.rules()
	return d.ops, nil
}

// protocolKernel marks routes that the kernel makes (RTPROT_KERNEL, rtnetlink(7)).
const protocolKernel = 2

type differ struct {
	kernel         Kernel
	have           *State
	want, previous *spec.Host
	// remade are links that will be made anew, without what they have now.
	remade map[LinkKey]bool
	// reforwarded are namespaces where a setting changes that of each interface.
	reforwarded map[string]bool
	// missing are optional links that are nowhere.
	missing map[LinkKey]bool
	// readdressed are links that get an address, and with it routes of the kernel.
	readdressed map[LinkKey]bool
	// replaced are routes that go when others come.
	replaced map[spec.Route]bool
	// front is where the first route of a key is among those that were found, of
	// those wanted until now.
	front map[RouteKey]int
	ops   []reconcile.Operation
}

func (d *differ) add(step reconcile.Step, verb reconcile.Verb, object, detail string, do func() error) {
	d.ops = append(d.ops, reconcile.Operation{Step: step, Verb: verb, Object: object, Detail: detail,
		Do: func(context.Context) error { return do() }})
}

func (d *differ) namespaces() {
	wanted := map[string]bool{}
	for _, name := range d.want.Namespaces {
		wanted[name] = true
		if !d.have.Namespaces[name] {
			d.add(reconcile.StepNamespaces, reconcile.Add, "namespace "+name, "", func() error { return d.kernel.AddNamespace(name) })
		}
	}
	for _, name := range sorted(d.have.Namespaces) {
		if !wanted[name] {
			d.add(reconcile.StepNamespaces, reconcile.Remove, "namespace "+name, "", func() error { return d.kernel.DeleteNamespace(name) })
		}
	}
}

func (d *differ) rules() {
	wanted := map[spec.Rule]bool{}
	for _, r := range d.want.Rules {
		r := d.placed(r)
		wanted[r] = true
		if !d.have.Rules[r] {
			d.add(reconcile.StepRoutes, reconcile.Add, "rule "+describeRule(r), "", func() error { return d.kernel.AddRule(r) })
		}
	}
	for _, r := range sorted(d.have.Rules) {
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
	inOrder(keys)
	return keys
}

// inOrder sorts by what the keys print as.
func inOrder[K any](keys []K) {
	type printed struct {
		key  K
		text string
	}
	all := make([]printed, len(keys))
	for i, key := range keys {
		all[i] = printed{key, fmt.Sprint(key)}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].text < all[j].text })
	for i, one := range all {
		keys[i] = one.key
	}
}
