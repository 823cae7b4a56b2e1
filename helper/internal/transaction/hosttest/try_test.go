package hosttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/wireguard"
)

// verdict is what became of a host.
type verdict string

const (
	refused verdict = "refused"
	carried verdict = "carried"
	// impossible: what the host should have does not go together.
	impossible verdict = "impossible"
)

// bench is a host with Mobula's parts on it.
type bench struct {
	*testing.T
	*transaction.Host
	clock
	made   *host
	before snapshot
	change *store.Change
	self   network.Host // as the document has it
}

// try has Mobula come and go. What it leaves has to be what it found.
func try(t *testing.T, h *host) verdict {
	if err := h.prepare(t); err != nil {
		return impossible + verdict(": "+err.Error())
	}
	b := newBench(t, h)
	b.before = settled(t)
	moved := b.change
	v := b.come()
	mayStay := !t.Failed() && b.stay()
	if b.change = moved; !t.Failed() && v == carried && mayStay && h.seed%2 == 1 {
		b.thereAndBack()
	}
	return v
}

// come moves the NIC and has Mobula go again.
func (b *bench) come() verdict {
	t, h := b.T, b.made
	_, err := survey(b.ctx(), b.made.ranges, network.Host{Uplink: h.asked}, nil)
	if want := fmt.Sprintf("uplink %s: found a %s, wanted a NIC", h.asked, h.kind); h.kind != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("a %s as uplink: error %v, wanted one with %q", h.kind, err, want)
	}
	if err != nil {
		t.Logf("refused: %v", err)
		if h.certain() {
			t.Error("wanted it to be taken: it has nothing that could not be given back")
		}
		if _, err := b.Apply(b.ctx(), b.change, b.options()); err == nil {
			t.Error("a host that the survey refuses was changed")
		}
		b.same("a refusal")
		return refused
	}
	b.answers("a host without Mobula")
	b.apply()
	b.answers("an apply")
	b.reaches("an apply")
	if err := b.Rollback(b.ctx()); err != nil {
		b.failed("rolling back", err)
	}
	b.same("a rollback")
	b.answers("a rollback")
	b.apply()
	b.confirm()
	if did, err := b.repair(); err != nil || len(did) > 0 {
		t.Errorf("repairing what is fine: did %q, %v", did, err)
	}
	b.uninstall()
	b.same("an uninstall")
	return carried
}

func newBench(t *testing.T, h *host) *bench {
	t.Helper()
	b := &bench{T: t, made: h}
	kept := store.New("/run/kept")
	key, err := kept.Keys().Create()
	if err != nil {
		t.Fatal(err)
	}
	b.Host = &transaction.Host{
		Store: kept, Alarm: &b.clock, Run: store.New(spec.RunDir), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Survey:   survey,
		SSHPorts: func(context.Context, network.Ranges) ([]uint16, error) { return []uint16{22}, nil },
		Reconciler: func(*spec.Facts, bool) *reconcile.Reconciler {
			return &reconcile.Reconciler{Log: slog.New(slog.NewTextHandler(os.Stdout, nil)), Subjects: drivers(kept.Keys())}
		},
	}
	h.draw("document")
	self := plantest.Host([]uint16{1, 256, 300, 32766, 32767}[h.Intn(5)])
	self.PublicKey, self.Uplink, self.ManualAccess = key, h.asked, h.Intn(3) == 0
	b.self = self
	b.change = b.changeOf(self)
	return b
}

// changeOf gives the host a network with another one.
func (b *bench) changeOf(self network.Host) *store.Change {
	d := plantest.Document(self, plantest.Host(2))
	d.Ranges = b.made.ranges
	return &store.Change{HostID: self.ID, Document: d}
}

// reaches holds that the host looks for the other member inside: whatever else it has,
// nothing that the survey let pass takes its addresses.
func (b *bench) reaches(after string) {
	b.Helper()
	r := b.made.ranges
	ways := map[netip.Addr]string{r.IntrawireAddress(2): spec.DirectHost}
	if !b.self.ManualAccess && r.HasAccessAddress(b.self.ID) {
		ways[r.GatewayAddress(2)], ways[r.AccessAddress(2)], ways[r.GatewayAddress(32767)] = spec.AccessLink, spec.AccessLink, spec.AccessLink
	}
	if clashes, err := links.Clashes(r, b.self.ManualAccess); err != nil || len(clashes) > 0 {
		b.Errorf("after %s found %v, %v, wanted no clash with what is Mobula's own", after, clashes, err)
	}
	for to, link := range ways {
		out, err := exec.Command("ip", "route", "get", to.String()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), " dev "+link+" ") {
			b.Errorf("after %s the way to %s is %s (%v), wanted it by %s\n%s", after, to, out, err, link, b.ways())
		}
	}
}

// survey is that of the kernel and of the packet filter: of files the host has none.
func survey(ctx context.Context, ranges network.Ranges, self network.Host, known *spec.Facts) (*spec.Facts, error) {
	ways, err := links.Ways()
	switch {
	case err != nil:
		return nil, err
	case self.SharedUplink && known != nil:
		return known.Stays(ways)
	case self.SharedUplink:
		return links.SurveyShared(ranges)
	}
	facts, err := links.Survey(ranges, self.Uplink, known != nil)
	if facts == nil {
		return nil, err
	}
	if known != nil {
		facts = facts.Moves(known, ways.Router)
	}
	facts.ResolvConf, facts.SSHPorts = spec.File{Path: spec.ResolvConfPath, Missing: true}, []uint16{22}
	return facts, errors.Join(err, system.SurveyHooks(ctx, facts))
}

func (b *bench) ctx() context.Context { return context.Background() }

func (b *bench) options() transaction.Options {
	return transaction.Options{ConfirmTimeout: time.Minute, AllowAlone: true}
}

func (b *bench) failed(doing string, err error) {
	b.Helper()
	b.Fatalf("%s: %v", doing, err)
}

func (b *bench) apply() {
	b.Helper()
	ops, err := b.Apply(b.ctx(), b.change, b.options())
	if err != nil {
		b.failed("applying", err)
	}
	if len(ops) == 0 {
		b.Fatal("nothing was applied")
	}
}

func (b *bench) confirm() {
	b.Helper()
	if _, err := b.Confirm(b.ctx(), ""); err != nil {
		b.failed("confirming", err)
	}
}

// repair tells what was repaired but relays, which follow the host's routing: there is
// none over a NIC whose carrier is not known yet.
func (b *bench) repair() ([]string, error) {
	did, err := b.Repair(b.ctx())
	return slices.DeleteFunc(did, func(op string) bool { return strings.Contains(op, " relays: ") }), err
}

func (b *bench) uninstall() {
	b.Helper()
	b.change = &store.Change{HostID: b.change.HostID, Down: true}
	b.apply()
	b.confirm()
}

// same holds that the host is what it was. What the kernel does by itself, such
// as carrier, takes a moment.
func (b *bench) same(after string) {
	b.Helper()
	difference := ""
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if difference = b.before.difference(look(b.T)); difference == "" {
			break
		}
		if time.Now().After(deadline) {
			b.Errorf("after %s the host differs:\n%s", after, difference)
			break
		}
	}
	if netns.Exists(spec.Namespace) != b.before.occupied || netns.Leftover(spec.Namespace) && !b.before.leftover {
		b.Errorf("after %s found the gateway's namespace: %v, and its file: %v", after, netns.Exists(spec.Namespace), netns.Leftover(spec.Namespace))
	}
}

// answers holds that the provider's gateway reaches the host, if it is a host of
// which that is known. A bridge forwards once it has heard of its port's carrier
// (linkwatch), so the first packets may be lost.
func (b *bench) answers(after string) {
	b.Helper()
	if !b.made.gateway.IsValid() || !b.made.certain() {
		return
	}
	err := netns.Do("isp", func() error {
		var out []byte
		var err error
		for try := 0; try < 10; try++ {
			// Of what it heard before it knows nothing.
			if out, err = exec.Command("ip", "neighbor", "flush", "all").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			if out, err = exec.Command("ping", "-n", "-c", "1", "-W", "1", b.made.address.String()).CombinedOutput(); err == nil {
				return nil
			}
		}
		return fmt.Errorf("%w: %s", err, out)
	})
	if err != nil {
		b.Errorf("after %s the host does not answer: %v\n%s", after, err, b.ways())
	}
}

// ways says what each namespace knows of its links, addresses, routes and neighbors.
func (b *bench) ways() string {
	var said strings.Builder
	for _, ns := range []string{"isp", spec.Namespace, ""} {
		if ns != "" && !netns.Exists(ns) {
			continue
		}
		for _, question := range []string{"ip -s link", "ip address", "ip rule", "ip route show table all", "ip neighbor", "nft list ruleset"} {
			_ = netns.Do(ns, func() error {
				parts := strings.Fields(question)
				out, err := exec.Command(parts[0], parts[1:]...).CombinedOutput()
				fmt.Fprintf(&said, "-- %q: %s: %v\n%s", ns, question, err, out)
				return nil
			})
		}
	}
	return said.String()
}

// clock is the way back, which nobody needs here.
type clock struct{ armed bool }

func (c *clock) Arm(context.Context, time.Duration) error { c.armed = true; return nil }
func (c *clock) Disarm(context.Context) error             { c.armed = false; return nil }
func (c *clock) Armed(context.Context) bool               { return c.armed }

// drivers are the real ones. A kernel without WireGuard gets a bridge in its place.
func drivers(keys wireguard.KeyStore) []reconcile.Subject {
	all := []reconcile.Subject{firewall.New(spec.Namespace, spec.RunDir), firewall.NewDoorway(spec.RunDir), firewall.NewRelaying(spec.RunDir, links.Onward), vswitch{}}
	if whole() {
		return append(all, links.New(links.Netlink{}), wireguard.New(spec.Namespace, spec.WireLink, keys))
	}
	return append(all, links.New(withoutWireGuard{}))
}

// withoutWireGuard is the real kernel with another kind of link for WireGuard.
type withoutWireGuard struct{ links.Netlink }

func (k withoutWireGuard) AddLink(link spec.Link, peer *spec.Link) error {
	underlay := link.Kind == spec.WireGuardDevice && link.Underlay
	if link.Kind == spec.WireGuardDevice {
		link.Kind = spec.Bridge
	}
	err := k.Netlink.AddLink(link, peer)
	if err == nil && underlay {
		err = inGateway("link", "set", "dev", link.Name, "alias", links.UnderlayAlias)
	}
	return err
}

func (k withoutWireGuard) Observe(namespaces []string, table int, settings []spec.Setting) (*links.State, error) {
	s, err := k.Netlink.Observe(namespaces, table, settings)
	if err != nil {
		return nil, err
	}
	key := links.LinkKey{NS: spec.Namespace, Name: spec.WireLink}
	if l, ok := s.Links[key]; ok {
		out, _ := exec.Command("ip", "-n", key.NS, "link", "show", "dev", key.Name).Output()
		l.Kind, l.Underlay = spec.WireGuardDevice, strings.Contains(string(out), links.UnderlayAlias)
		s.Links[key] = l
	}
	return s, nil
}

// vswitch stands in for Open vSwitch: a bridge is the switch's own interface.
type vswitch struct{}

func (vswitch) Name() string { return "switch" }

func (vswitch) Diff(_ context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
	have := inGateway("link", "show", "dev", spec.SwitchBridge) == nil
	op := reconcile.Operation{Step: reconcile.StepSwitch, Verb: reconcile.Add, Object: "switch"}
	switch {
	case want.Switch != nil && !have:
		op.Do = func(context.Context) error {
			return inGateway("link", "add", "name", spec.SwitchBridge, "mtu", fmt.Sprint(want.Switch.MTU), "address", want.Switch.MAC.String(), "type", "bridge")
		}
	case want.Switch == nil && have:
		op.Verb, op.Do = reconcile.Remove, func(context.Context) error { return inGateway("link", "del", spec.SwitchBridge) }
	default:
		return nil, nil
	}
	return []reconcile.Operation{op}, nil
}

func inGateway(args ...string) error {
	if !netns.Exists(spec.Namespace) {
		return errors.New("no namespace")
	}
	out, err := exec.Command("ip", append([]string{"-n", spec.Namespace}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
