package links_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/links/linkstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// bridge stands in for the switch: it makes and removes the bridge's interface.
type bridge struct{ kernel *linkstest.Kernel }

func (bridge) Name() string { return "switch" }

func (b bridge) Diff(_ context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
	state, err := b.kernel.Observe([]string{spec.Namespace}, spec.RouteTable, nil)
	have, exists := state.Links[links.LinkKey{NS: spec.Namespace, Name: spec.SwitchBridge}]
	op := reconcile.Operation{Step: reconcile.StepSwitch, Verb: reconcile.Add, Object: "bridge"}
	switch {
	case want.Switch != nil && (!exists || have.MTU != want.Switch.MTU || have.MAC.String() != want.Switch.MAC.String()):
		op.Do = func(context.Context) error {
			return b.kernel.AddInternal(spec.Link{Name: want.Switch.Bridge, NS: spec.Namespace, MAC: want.Switch.MAC, MTU: want.Switch.MTU})
		}
	case want.Switch == nil && exists:
		op.Verb, op.Do = reconcile.Remove, func(context.Context) error {
			return b.kernel.DeleteLink(links.LinkKey{NS: spec.Namespace, Name: spec.SwitchBridge})
		}
	default:
		return nil, err
	}
	return []reconcile.Operation{op}, err
}

// bench is a kernel with the hands on it.
type bench struct {
	*testing.T
	kernel *linkstest.Kernel
	hands  *reconcile.Reconciler
}

func newBench(t *testing.T, f *spec.Facts) *bench {
	t.Helper()
	k := linkstest.New()
	if err := k.Configure(f); err != nil {
		t.Fatal(err)
	}
	return &bench{t, k, &reconcile.Reconciler{Subjects: []reconcile.Subject{links.New(k), bridge{k}},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
}

// bring changes the kernel to what is wanted, in one pass, and returns what it did.
func (b *bench) bring(want, previous *spec.Host) []string {
	b.Helper()
	ctx := context.Background()
	ops, err := b.hands.Plan(ctx, want, previous)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.hands.Execute(ctx, ops); err != nil {
		b.Fatalf("%v\nof\n%s\nat\n%s", err, strings.Join(texts(ops), "\n"), b.kernel)
	}
	again, err := b.hands.Plan(ctx, want, want)
	if err != nil {
		b.Fatal(err)
	}
	if len(again) > 0 {
		b.Fatalf("a second look finds\n%s\nafter\n%s\nin\n%s", strings.Join(texts(again), "\n"), strings.Join(texts(ops), "\n"), b.kernel)
	}
	return texts(ops)
}

func texts(ops []reconcile.Operation) []string {
	all := make([]string, len(ops))
	for i, op := range ops {
		all[i] = op.String()
	}
	return all
}

func mustBuild(t testing.TB, d *network.Document, id uint16, f *spec.Facts) *spec.Host {
	t.Helper()
	h, err := plan.Build(d, id, *f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestBuiltAndGoneGolden(t *testing.T) {
	for _, id := range []uint16{1, 256} {
		for _, manual := range []bool{false, true} {
			name := fmt.Sprintf("host%d-%s", id, map[bool]string{false: "auto", true: "manual"}[manual])
			t.Run(name, func(t *testing.T) {
				facts := plantest.Facts()
				b := newBench(t, facts)
				original := b.kernel.String()
				self := plantest.Host(id)
				self.ManualAccess = manual
				want := mustBuild(t, plantest.Document(self, plantest.Host(300)), id, facts)
				there := b.bring(want, nil)
				built := b.kernel.String()
				back := b.bring(plan.Without(*facts), want)
				text := "# from a host without Mobula\n" + strings.Join(there, "\n") + "\n\n# there\n" + built +
					"\n# and back\n" + strings.Join(back, "\n") + "\n"
				golden(t, "testdata/"+name+".txt", text)
				if after := b.kernel.String(); after != original {
					t.Errorf("after Mobula left:\n%s\nbefore it came:\n%s", after, original)
				}
			})
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; run with -update and read the difference\n%s", path, got)
	}
}

// manyAddresses is a host whose uplink has all that an uplink may have.
func manyAddresses() *spec.Facts {
	f := plantest.Facts()
	f.Uplink, f.MTU = "enp0s31f6", 9000
	f.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.7/24"),
		netip.MustParsePrefix("198.51.100.9/32"), netip.MustParsePrefix("203.0.113.4/29")}
	via, anywhere := netip.MustParseAddr("198.51.100.1"), netip.MustParsePrefix("0.0.0.0/0")
	f.Routes = []spec.Route{
		{To: netip.MustParsePrefix("198.51.100.1/32"), Link: f.Uplink},
		{To: anywhere, Via: via, Link: f.Uplink, Source: netip.MustParseAddr("198.51.100.9")},
		{To: anywhere, Via: netip.MustParseAddr("203.0.113.1"), Link: f.Uplink, Metric: 100, Protocol: 3},
		{To: netip.MustParsePrefix("172.16.0.0/12"), Via: netip.MustParseAddr("10.255.0.1"), OnLink: true, Link: f.Uplink},
	}
	return f
}

func TestUplinkWithManyAddressesAndRoutes(t *testing.T) {
	facts := manyAddresses()
	b := newBench(t, facts)
	original := b.kernel.String()
	want := mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts)
	b.bring(want, nil)
	if problem := b.kernel.Reachable(facts); problem != "" {
		t.Error(problem)
	}
	b.bring(plan.Without(*facts), want)
	if after := b.kernel.String(); after != original {
		t.Errorf("after:\n%s\nbefore:\n%s", after, original)
	}
}

// TestForeignThingsStay holds that what Mobula did not make is not touched.
func TestForeignThingsStay(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	foreign := spec.Link{Name: "veth_other", Kind: spec.Veth, MTU: 1500, MAC: []byte{2, 0, 0, 0, 0, 1}}
	if err := b.kernel.AddLink(foreign, &spec.Link{Name: "veth_end", Kind: spec.Veth, MTU: 1500, MAC: []byte{2, 0, 0, 0, 0, 2}}); err != nil {
		t.Fatal(err)
	}
	if err := b.kernel.AddAddress(spec.Address{Link: "veth_other", Prefix: netip.MustParsePrefix("172.17.0.1/16")}); err != nil {
		t.Fatal(err)
	}
	if err := b.kernel.AddRoute(spec.Route{To: netip.MustParsePrefix("172.18.0.0/16"), Via: netip.MustParseAddr("172.17.0.2"), Link: "veth_other"}); err != nil {
		t.Fatal(err)
	}
	if err := b.kernel.AddRule(spec.Rule{Priority: 5, To: netip.MustParsePrefix("172.18.0.0/16"), Table: 7}); err != nil {
		t.Fatal(err)
	}
	original := b.kernel.String()
	want := mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts)
	b.bring(want, nil)
	// What the operator does with the links that are left to him stays, too.
	if err := b.kernel.AddAddress(spec.Address{Link: spec.AccessLink, Prefix: netip.MustParsePrefix("10.31.200.1/16")}); err != nil {
		t.Fatal(err)
	}
	if did := b.bring(want, want); len(did) > 0 {
		t.Errorf("did %v", did)
	}
	b.bring(plan.Without(*facts), want)
	if after := b.kernel.String(); after != original {
		t.Errorf("after:\n%s\nbefore:\n%s", after, original)
	}
}

func TestIPv6TurnedOffSinceTheFirstDeploy(t *testing.T) {
	facts := plantest.Facts()
	b := newBench(t, facts)
	want := mustBuild(t, plantest.Document(plantest.Host(1)), 1, facts)
	b.bring(want, nil)
	if err := b.kernel.Set(spec.Setting{Key: "net/ipv6/conf/default/disable_ipv6", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	b.bring(plan.Without(*facts), want)
	if after := b.kernel.String(); strings.Contains(after, "2001:db8") || !strings.Contains(after, facts.Addresses[0].String()) {
		t.Errorf("wanted the IPv4 addresses back, and no IPv6:\n%s", after)
	}
	if did := b.bring(plan.Without(*facts), want); len(did) > 0 {
		t.Errorf("after that: %v", did)
	}
}
