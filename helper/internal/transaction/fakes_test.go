package transaction

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
)

// fakeSystem holds files and services.
type fakeSystem struct {
	w       *world
	files   map[string]plan.File
	active  map[string]bool
	agent   string // the version of the program that it runs
	booting bool
}

func (*fakeSystem) Name() string { return "system" }

func (s *fakeSystem) Diff(_ context.Context, want, _ *plan.Host) ([]reconcile.Operation, error) {
	var ops []reconcile.Operation
	add := func(step reconcile.Step, verb reconcile.Verb, object string, do func()) {
		ops = append(ops, reconcile.Operation{Step: step, Verb: verb, Object: object, Do: func(context.Context) error { do(); return nil }})
	}
	wanted := map[string]bool{}
	for _, path := range want.Keep {
		wanted[path] = true
	}
	for _, f := range want.Files {
		f, step := f, reconcile.StepFiles
		if f.Late {
			f.Late, step = false, reconcile.StepResolver
		}
		wanted[f.Path] = true
		have, exists := s.files[f.Path]
		if f.Over != "" && (!exists || !strings.HasPrefix(have.Content, f.Over)) {
			continue
		}
		if f.Over = ""; have != f {
			add(step, reconcile.Add, "file "+f.Path, func() { s.put(f) })
		}
	}
	for _, path := range plan.OwnedFiles(s.w.facts.Uplink) {
		path := path
		if _, exists := s.files[path]; exists && !wanted[path] {
			add(reconcile.StepFiles, reconcile.Remove, "file "+path, func() { delete(s.files, path) })
		}
	}
	return append(ops, s.services(want)...), nil
}

// put writes a file. NetworkManager (seen with 1.52) takes each new link, and one that
// its configuration then forbids it goes down, with all addresses.
func (s *fakeSystem) put(f plan.File) {
	if strings.HasPrefix(f.Path, "/etc/NetworkManager/") {
		for _, link := range []string{plan.DirectHost, plan.AccessLink, s.w.facts.Uplink} {
			name := "interface-name:" + strings.Replace(link, plan.DirectHost, "mo-*", 1)
			if strings.Contains(f.Content, name) && !strings.Contains(s.files[f.Path].Content, name) {
				s.w.kernel.SetDown(links.LinkKey{Name: link})
			}
		}
	}
	s.files[f.Path] = f
}

func (s *fakeSystem) services(want *plan.Host) []reconcile.Operation {
	var ops []reconcile.Operation
	wanted := map[string]bool{}
	for _, service := range want.Services {
		unit := service.Unit
		wanted[unit] = true
		if s.active[unit] && service.Program != "" && plan.ProgramPath(s.agent) != service.Program {
			ops = append(ops, reconcile.Operation{Step: reconcile.StepServices, Verb: reconcile.Change, Object: "service " + unit,
				Do: func(context.Context) error { s.start(unit); return nil }})
			continue
		}
		if s.active[unit] || s.booting && !service.BeforeSwitch {
			continue
		}
		step := reconcile.StepServices
		if service.BeforeSwitch {
			step = reconcile.StepSwitch
		}
		ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Add, Object: "service " + unit, Do: func(context.Context) error {
			_, exists := s.files["/etc/systemd/system/"+unit]
			if !exists || unit != plan.UnitAgent && s.w.kernel.Identity(plan.Namespace, "lo") == nil {
				return fmt.Errorf("unit %s: no file or no namespace", unit)
			}
			s.start(unit)
			return nil
		}})
	}
	for _, unit := range []string{plan.UnitOVSDB, plan.UnitVSwitch, plan.UnitAgent} {
		unit := unit
		if s.active[unit] && !wanted[unit] {
			step := reconcile.StepServices
			if unit != plan.UnitAgent {
				step = reconcile.StepSettings
			}
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Remove, Object: "service " + unit,
				Do: func(context.Context) error { s.stop(unit); return nil }})
		}
	}
	return ops
}

func (s *fakeSystem) start(unit string) {
	s.active[unit] = true
	if unit == plan.UnitAgent {
		s.agent = s.w.named(unit)
	}
}

func (s *fakeSystem) stop(unit string) {
	delete(s.active, unit)
	if !s.active[plan.UnitOVSDB] && !s.active[plan.UnitVSwitch] {
		s.w.kernel.Abandon()
	}
}

// enabled tells that systemd starts a unit when the host boots.
func (s *fakeSystem) enabled(unit string) bool {
	_, exists := s.files["/etc/systemd/system/"+unit]
	_, linked := s.files["/etc/systemd/system/multi-user.target.wants/"+unit]
	return exists && linked
}

// excluded tells that the host's network manager leaves the NIC alone.
func (s *fakeSystem) excluded() bool {
	for _, path := range []string{"/etc/systemd/system/networking.service.d/mobula.conf", "/etc/systemd/network/00-mobula-uplink.network",
		"/etc/NetworkManager/conf.d/00-mobula.conf"} {
		if _, exists := s.files[path]; exists {
			return true
		}
	}
	return false
}

// String renders what is on the disk and what runs.
func (s *fakeSystem) String() string {
	var lines []string
	for path, f := range s.files {
		if path == plan.Helper {
			continue // stays when Mobula goes: see leads
		}
		lines = append(lines, fmt.Sprintf("file %s %o %q → %q", path, f.Mode, f.Content, f.Target))
	}
	for unit, active := range s.active {
		if active {
			lines = append(lines, "running "+unit)
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n") + "\n"
}

// fakeSwitch is Open vSwitch: what it was told stays while its daemons are down,
// but nobody can see it.
type fakeSwitch struct {
	w      *world
	bridge *plan.Switch
	link   any // the bridge's interface
}

func (*fakeSwitch) Name() string { return "switch" }

func (s *fakeSwitch) Diff(_ context.Context, want, _ *plan.Host) ([]reconcile.Operation, error) {
	runs := s.w.system.active[plan.UnitOVSDB] && s.w.system.active[plan.UnitVSwitch]
	have := s.w.kernel.Identity(plan.Namespace, plan.SwitchBridge)
	if have == nil || have != s.link {
		s.bridge = nil
	}
	op := reconcile.Operation{Step: reconcile.StepSwitch, Verb: reconcile.Change, Object: "switch"}
	switch {
	case want.Switch == nil && s.bridge != nil && runs:
		op.Verb, op.Do = reconcile.Remove, func(context.Context) error {
			s.bridge = nil
			return s.w.kernel.DeleteInternal(plan.Namespace, plan.SwitchBridge)
		}
	case want.Switch != nil && (!runs || fmt.Sprint(s.bridge) != fmt.Sprint(want.Switch)):
		op.Do = func(context.Context) error { return s.install(want.Switch) }
	default:
		return nil, nil
	}
	return []reconcile.Operation{op}, nil
}

func (s *fakeSwitch) install(want *plan.Switch) error {
	if !s.w.system.active[plan.UnitOVSDB] || !s.w.system.active[plan.UnitVSwitch] {
		return errors.New("waiting for Open vSwitch to start")
	}
	if s.w.kernel.Identity(plan.Namespace, want.LocalPorts[0]) == nil {
		return errors.New("no port " + want.LocalPorts[0])
	}
	err := s.w.kernel.AddInternal(plan.Link{Name: want.Bridge, NS: plan.Namespace, MAC: want.MAC, MTU: want.MTU})
	s.bridge, s.link = want, s.w.kernel.Identity(plan.Namespace, want.Bridge)
	return err
}

// String renders the whole host but for its private keys and its store.
func (w *world) String() string {
	bridge := ""
	if w.vswitch.bridge != nil {
		bridge = fmt.Sprintf("%+v", *w.vswitch.bridge)
	}
	return strings.Join([]string{w.kernel.String(), w.wg.String(), w.nft.String(), bridge, w.system.String()}, "--\n")
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
