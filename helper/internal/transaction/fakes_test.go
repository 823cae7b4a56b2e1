package transaction

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/system/systemtest"
)

// newSystem is systemd and the network managers of the world.
func newSystem(w *world) *systemtest.Machine {
	m := &systemtest.Machine{Root: filepath.Join(w.dir, "root"), Managers: w.facts.Managers, Uplink: w.facts.Uplink}
	m.Executable = func(path string) bool {
		if id := spec.ProgramID(path); id != "" {
			return w.installed[id]
		}
		_, err := os.Stat(m.At(path))
		return path != spec.Helper || err == nil
	}
	m.Namespace = func(name string) bool { return w.kernel.Identity(name, "lo") != nil }
	m.Links = func() []string { names, _, _ := w.kernel.Own(""); return names }
	m.Addresses = func(link string) ([]netip.Prefix, error) { _, all, err := w.kernel.Own(link); return all, err }
	m.Release = w.kernel.Flush
	m.Take = func(link string) {
		w.kernel.Flush(link)
		if err := w.kernel.Configure(w.facts); err != nil {
			w.Fatal(err)
		}
	}
	m.Stopped = func() {
		if !m.Running(spec.UnitVSwitch) {
			w.kernel.Abandon()
		}
	}
	own := w.facts.ResolvConf
	err := errors.Join(m.PowerCycle(), m.Put(own.Path, own.Content, own.Mode))
	if own.Target != "" {
		err = errors.Join(err, os.Remove(m.At(own.Path)), os.Symlink(own.Target, m.At(own.Path)))
	}
	if slices.Contains(m.Managers, spec.Ifupdown) {
		err = errors.Join(err, m.Put("/etc/network/interfaces", "iface "+m.Uplink+" inet static\n\tdns-nameservers 192.0.2.53\n", 0o644),
			m.Put("/etc/network/if-up.d/000resolvconf", "", 0o755), m.Put("/etc/network/if-up.d/resolved", "", 0o755))
	}
	if err != nil {
		w.Fatal(err)
	}
	return m
}

// agent is the version of the program that the agent runs.
func (w *world) agent() string {
	path := w.system.Program(spec.UnitAgent)
	if path == spec.Helper {
		return programLegacy
	}
	return spec.ProgramID(path)
}

// fakeSwitch is Open vSwitch: what it was told stays while its daemons are down,
// but nobody can see it.
type fakeSwitch struct {
	w      *world
	bridge *spec.Switch
	link   any // the bridge's interface
}

func (*fakeSwitch) Name() string { return "switch" }

func (s *fakeSwitch) Diff(_ context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
	runs := s.w.system.Running(spec.UnitOVSDB) && s.w.system.Running(spec.UnitVSwitch)
	have := s.w.kernel.Identity(spec.Namespace, spec.SwitchBridge)
	if have == nil || have != s.link {
		s.bridge = nil
	}
	op := reconcile.Operation{Step: reconcile.StepSwitch, Verb: reconcile.Change, Object: "switch"}
	switch {
	case want.Switch == nil && s.bridge != nil && runs:
		op.Verb, op.Do = reconcile.Remove, func(context.Context) error {
			s.bridge = nil
			return s.w.kernel.DeleteInternal(spec.Namespace, spec.SwitchBridge)
		}
	case want.Switch != nil && (!runs || fmt.Sprint(s.bridge) != fmt.Sprint(want.Switch)):
		op.Do = func(context.Context) error { return s.install(want.Switch) }
	default:
		return nil, nil
	}
	return []reconcile.Operation{op}, nil
}

func (s *fakeSwitch) install(want *spec.Switch) error {
	if !s.w.system.Running(spec.UnitOVSDB) || !s.w.system.Running(spec.UnitVSwitch) {
		return errors.New("waiting for Open vSwitch to start")
	}
	if s.w.kernel.Identity(spec.Namespace, want.LocalPorts[0]) == nil {
		return errors.New("no port " + want.LocalPorts[0])
	}
	err := s.w.kernel.AddInternal(spec.Link{Name: want.Bridge, NS: spec.Namespace, MAC: want.MAC, MTU: want.MTU})
	s.bridge, s.link = want, s.w.kernel.Identity(spec.Namespace, want.Bridge)
	return err
}

// String renders the whole host but for its private keys and its store.
func (w *world) String() string {
	bridge := ""
	if w.vswitch.bridge != nil {
		bridge = fmt.Sprintf("%+v", *w.vswitch.bridge)
	}
	return strings.Join([]string{w.kernel.String(), w.wg.String(), w.nft.String(), bridge, w.resolved.String(), w.system.String()}, "--\n")
}

// kept renders the names of what the store holds; the copy of the facts only if
// it is alone.
func (w *world) kept() string {
	var names []string
	for _, pattern := range []string{"*.json", "keys/*.key"} {
		found, err := filepath.Glob(filepath.Join(w.dir, "state", pattern))
		if err != nil {
			w.Fatal(err)
		}
		for _, path := range found {
			names = append(names, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
		}
	}
	return strings.ReplaceAll(strings.Join(names, " "), "facts.copy facts", "facts")
}
