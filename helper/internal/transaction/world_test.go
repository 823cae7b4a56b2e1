package transaction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/firewall/firewalltest"
	"mobula/helper/internal/links"
	"mobula/helper/internal/links/linkstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/system/systemtest"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// world is a host with everything that Mobula changes on it, and the ways in
// which changing it can go wrong.
type world struct {
	*testing.T
	dir   string
	host  *Host
	facts *spec.Facts
	// staying: the NIC stays with the host, which has these ways outside.
	staying bool
	ways    spec.Shared
	ranges  network.Ranges // of its documents
	kernel  *linkstest.Kernel
	wg      *wireguardtest.Kernel
	system  *systemtest.Machine
	nft     *firewalltest.NFT
	vswitch *fakeSwitch
	// resolved is systemd-resolved; nil: it is not installed.
	resolved *resolved
	// sshPorts are those of SSH, or sshError why nobody knows.
	sshPorts []uint16
	sshError error
	// armed tells that the clock of the way back runs, to start that program.
	armed   bool
	armedBy string
	// program is the version that host is, installed are all that the host has, and
	// yielded what they did for another.
	program   string
	installed map[string]bool
	yielded   []string
	own       network.Key
	// fresh is what the host's keys rotate to; its file is made by rotating.
	fresh, freshPrivate network.Key

	// cloudInit writes /etc/hosts at each boot.
	cloudInit bool
	// followed is what the agent had done after the last boot, when there were routes.
	followed []string

	steps []string // all steps of the current walk, by name
	fault fault
}

// fault is what happens at one step.
type fault struct {
	step  int // from 1; 0: none
	after bool
	kind  faultKind
}

type faultKind string

const (
	failure  faultKind = "error"
	killed   faultKind = "kill"
	powerCut faultKind = "power cut"
	failures faultKind = "errors from here on" // until the next boot or alarm
)

func (f fault) String() string {
	return fmt.Sprintf("%s %s step %d", f.kind, map[bool]string{false: "before", true: "after"}[f.after], f.step)
}

// death is what a killed helper panics with.
type death struct{ faultKind }

var errInjected = errors.New("injected")

// step is one thing that can be interrupted.
func (w *world) step(name string, do func() error) error {
	w.steps = append(w.steps, name)
	hit := w.fault.step == len(w.steps)
	if w.fault.kind == failures && w.fault.step > 0 && w.fault.step <= len(w.steps) {
		return errInjected
	}
	if hit && !w.fault.after {
		return w.strike()
	}
	err := do()
	if hit && err == nil {
		return w.strike()
	}
	return err
}

func (w *world) strike() error {
	if w.fault.kind == failure {
		return errInjected
	}
	panic(death{w.fault.kind})
}

// run does something that may be killed on the way.
func (w *world) run(do func() error) (err error, dead faultKind) {
	defer func() {
		if r := recover(); r != nil {
			d, ok := r.(death)
			if !ok {
				panic(r)
			}
			dead = d.faultKind
		}
	}()
	return do(), ""
}

// with sets the fault of the next walk.
func (w *world) with(f fault) { w.fault, w.steps = f, nil }

// Arm implements Alarm.
func (w *world) Arm(context.Context, time.Duration) error {
	return w.step("arm", func() error { w.armed = true; return nil })
}

// Armed implements Alarm.
func (w *world) Armed(context.Context) bool { return w.armed }

// Disarm implements Alarm.
func (w *world) Disarm(context.Context) error {
	return w.step("disarm", func() error { w.armed = false; return nil })
}

// WriteFile implements store.Disk.
func (w *world) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return w.step("write "+filepath.Base(path), func() error { return os.WriteFile(path, data, mode) })
}

// Rename implements store.Disk.
func (w *world) Rename(from, to string) error {
	return w.step("rename "+filepath.Base(from), func() error { return os.Rename(from, to) })
}

// Remove implements store.Disk.
func (w *world) Remove(path string) error {
	return w.step("remove "+filepath.Base(path), func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// watched lets faults happen at the operations of a subject.
type watched struct {
	reconcile.Subject
	w *world
}

func (s watched) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	ops, err := s.Subject.Diff(ctx, want, previous)
	for i := range ops {
		op := ops[i]
		ops[i].Do = func(ctx context.Context) error { return s.w.step(op.String(), func() error { return op.Do(ctx) }) }
	}
	return ops, err
}

func newWorld(t *testing.T, managers ...spec.Manager) *world {
	t.Helper()
	return newWorldOf(t, plantest.Facts(managers...))
}

// newStaying is a host with which the NIC stays.
func newStaying(t *testing.T, managers ...spec.Manager) *world {
	t.Helper()
	w := newEitherOf(t, plantest.Facts(managers...), len(managers) > 0 && managers[0] != spec.Ifupdown)
	w.staying = true
	return w
}

// newEitherOf is a host with these facts whose NIC may stay or move: with a file of private
// names of its own, one NIC that leads outside, and systemd-resolved or not.
func newEitherOf(t *testing.T, facts *spec.Facts, withResolved bool) *world {
	t.Helper()
	if withResolved {
		facts.ResolvConf = spec.File{Path: spec.ResolvConfPath, Target: "../run/systemd/resolve/stub-resolv.conf"}
	}
	w := newWorldOf(t, facts)
	if withResolved {
		w.resolved = &resolved{world: w}
		w.resolved.starts()
	}
	w.ways = spec.Shared{Outside: []string{w.facts.Uplink}, Opened: []string{w.facts.Uplink}}
	err := errors.Join(w.system.Put(spec.HostsPath, "127.0.0.1 localhost\n", 0o644), w.putUFW())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// newWorldOf is a host with these facts.
func newWorldOf(t *testing.T, facts *spec.Facts) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, facts: facts, kernel: linkstest.New(), sshPorts: []uint16{22}}
	w.program, w.installed = programNow, map[string]bool{programNow: true}
	w.dir = dir
	w.system = newSystem(w)
	w.lead(programNow)
	w.vswitch = &fakeSwitch{w: w}
	w.wg = &wireguardtest.Kernel{Link: func() any { return w.kernel.Identity(spec.Namespace, spec.WireLink) }, Made: w.underlay}
	w.nft = &firewalltest.NFT{Namespace: func(name string) any { return w.kernel.Identity(name, "lo") }, Devices: w.kernel.Devices}
	w.kernel.Occupied = func(string) bool { return w.system.Running(spec.UnitVSwitch) }
	if err := w.kernel.Configure(w.facts); err != nil {
		t.Fatal(err)
	}
	w.system.StartManagers()
	w.restart()
	key, err := w.host.Store.Keys().Create()
	if err != nil {
		t.Fatal(err)
	}
	w.own = key
	if w.freshPrivate, err = wireguard.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	w.fresh = wireguard.PublicKey(w.freshPrivate)
	return w
}

// restart makes a new helper on the same disk.
func (w *world) restart() { w.host = w.hostOf(w.program) }

// hostOf is the host as a version of the program sees it.
func (w *world) hostOf(program string) *Host {
	state, run := filepath.Join(w.dir, "state"), filepath.Join(w.dir, "run")
	return &Host{
		Store: store.On(state, w), Alarm: alarm{w, program}, Programs: programs{w, program}, Run: store.On(run, w), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Survey: func(_ context.Context, _ network.Ranges, self network.Host, known *spec.Facts) (*spec.Facts, error) {
			if problem := w.kernel.Reachable(w.facts); problem != "" {
				return nil, errors.New(problem)
			}
			switch found := *w.facts; {
			case self.SharedUplink && known != nil:
				return known.Stays(spec.Shared{})
			case self.SharedUplink:
				ways := w.ways
				return &spec.Facts{Shared: &ways, Managers: found.Managers, Resolvers: found.Resolvers, ResolvConf: found.ResolvConf}, nil
			default:
				return &found, nil
			}
		},
		ResolvConf: func(ranges network.Ranges) (spec.File, []netip.Addr, error) {
			f := w.resolvConf()
			return f, system.Resolvers(ranges, f.Content), nil
		},
		Ways:     func() (spec.Shared, error) { return w.ways, nil },
		SSHPorts: func(context.Context, network.Ranges) ([]uint16, error) { return w.sshPorts, w.sshError },
		Reconciler: func(facts *spec.Facts, booting bool) *reconcile.Reconciler {
			r := &reconcile.Reconciler{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
			for _, s := range []reconcile.Subject{system.On(w.system.System(), facts.NICThatMoves(), booting), links.New(w.kernel), wireguard.On(w.wg, spec.WireLink, w.host.Store.Keys()), firewall.On(w.nft, spec.Namespace, filepath.Join(w.dir, "run")), firewall.DoorwayOn(w.nft, filepath.Join(w.dir, "run")), firewall.RelayingOn(w.nft, filepath.Join(w.dir, "run"), w.kernel.Onward), w.opener(), w.names(), w.vswitch} {
				r.Subjects = append(r.Subjects, watched{versioned{s, program}, w})
			}
			return r
		},
	}
}

// powerCycle leaves what is on disk.
func (w *world) powerCycle() {
	w.kernel.Reboot()
	w.wg = &wireguardtest.Kernel{Link: w.wg.Link, Made: w.wg.Made}
	w.vswitch.bridge, w.armed = nil, false
	w.resolved.powerCycle()
	if err := errors.Join(w.system.PowerCycle(), os.RemoveAll(filepath.Join(w.dir, "run"))); err != nil {
		w.Fatal(err)
	}
}

// boot is a power cycle. The fault of the walk may strike the helper's boot, too.
func (w *world) boot() error {
	w.powerCycle()
	err, dead := w.run(func() error {
		if !w.system.Enabled(spec.UnitBoot) {
			return nil
		}
		err := w.do(w.named(spec.UnitBoot), "boot")
		if err == nil {
			w.system.Ran(spec.UnitBoot)
		}
		return err
	})
	if dead == powerCut {
		w.with(fault{})
		return w.boot()
	}
	w.startServices()
	if dead != "" {
		return fmt.Errorf("boot was ended by %s", dead)
	}
	return err
}

// startServices is what follows the boot unit.
func (w *world) startServices() {
	if taken := w.system.StartManagers(); taken && w.kernel.Identity("", w.facts.Uplink) != nil {
		if err := w.kernel.Configure(w.facts); err != nil {
			w.Fatal(err)
		}
	}
	w.resolved.starts()
	if w.cloudInit {
		if err := w.system.Put(spec.HostsPath, hostsOfCloudInit, 0o644); err != nil {
			w.Fatal(err)
		}
	}
	if w.system.Enabled(spec.UnitAgent) {
		w.system.Start(spec.UnitAgent)
		w.follow()
	}
}

// follow is what the agent has done when there are ways to other hosts, and those who
// look up names, for which a boot does not wait: an interruption of it is none of the walk's.
func (w *world) follow() {
	struck, steps := w.fault, w.steps
	w.fault = fault{}
	var err error
	agent := w.hostOf(w.agent())
	if w.followed, err = agent.Repair(ctx, "relays"); err != nil {
		w.Fatal(err)
	}
	if _, err = agent.Repair(ctx, "names"); err != nil {
		w.Fatal(err)
	}
	w.fault, w.steps = struck, steps
}

// remove deletes a file of the host, as a careless hand does.
func (w *world) remove(path string) {
	if err := os.Remove(w.system.At(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.Fatal(err)
	}
}

// ring is the clock of the way back, which tries until it has succeeded.
func (w *world) ring() {
	w.Helper()
	for try := 0; w.armed; try++ {
		err, dead := w.run(func() error { return w.do(w.armedBy, "rollback") })
		if dead == powerCut {
			w.with(fault{})
			if err := w.boot(); err != nil {
				w.Fatal(err)
			}
			return
		}
		if err == nil && dead == "" {
			w.armed = false
		} else if try > 3 {
			w.Fatalf("the way back does not end: %v %s", err, dead)
		}
		w.with(fault{}) // disks get space again, a fault does not repeat
	}
}

// giveKey replaces the host's key.
func (w *world) giveKey(private, public network.Key) {
	w.putKey(private, public)
	if err := w.host.Store.Keys().Prune(public); err != nil {
		w.Fatal(err)
	}
	w.own = public
}

func (w *world) putKey(private, public network.Key) {
	path := filepath.Join(w.dir, "state", "keys", fmt.Sprintf("%x.key", public[:]))
	if err := os.WriteFile(path, []byte(private.String()+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
}

// document returns a network with the host itself as ID 1 and the given others.
func (w *world) document(serial int64, change func(*network.Host), others ...uint16) *store.Change {
	self := plantest.Host(1)
	self.PublicKey, self.SharedUplink = w.own, w.staying
	self.OpenFirewall = w.staying
	if change != nil {
		change(&self)
	}
	hosts := []network.Host{self}
	for _, id := range others {
		hosts = append(hosts, plantest.Host(id))
	}
	d := plantest.Document(hosts...)
	d.Serial, d.Ranges = serial, w.ranges
	return &store.Change{HostID: 1, Document: d, Helper: w.program}
}
