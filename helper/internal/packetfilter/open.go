package packetfilter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
)

// Opener is the reconcile.Subject for what Mobula adds to the host's packet filters.
type Opener struct {
	// Run asks, and Change changes.
	Run, Change Commands
	// Root is in front of all paths; "" outside of tests.
	Root string
	// Record is the file with what is ours. While it is there it is looked for.
	Record string
}

// NewOpener returns the subject of this host; stateDir outlives a boot.
func NewOpener(stateDir string) *Opener {
	return &Opener{Run: Run, Change: apart, Record: filepath.Join(stateDir, "openings.json")}
}

// apart runs a program in a unit of its own: it is another one's, and what confines
// Mobula's units does not suit it.
func apart(ctx context.Context, name string, args ...string) (string, error) {
	return Run(ctx, "systemd-run", append([]string{"--quiet", "--wait", "--pipe", "--collect", "--property=DefaultDependencies=no", "--", name}, args...)...)
}

// Name implements reconcile.Subject.
func (o *Opener) Name() string { return "openings" }

// Diff implements reconcile.Subject.
func (o *Opener) Diff(ctx context.Context, want, _ *plan.Host) ([]reconcile.Operation, error) {
	if _, err := os.Stat(o.Record); want.Opening == nil && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s, err := o.look(ctx, want.Opening)
	if err != nil {
		return nil, err
	}
	var ops []reconcile.Operation
	if want.Opening == nil { // removals run backwards: this is the last
		ops = append(ops, reconcile.Operation{Step: reconcile.StepDoorway, Verb: reconcile.Remove, Object: "file " + o.Record,
			Do: func(context.Context) error { return o.forget() }})
	}
	for _, a := range actions(want.Opening, s) {
		a := a
		ops = append(ops, reconcile.Operation{Step: reconcile.StepDoorway, Verb: a.verb, Object: a.object, Detail: a.detail,
			Do: func(ctx context.Context) error { return o.do(ctx, a) }})
	}
	return ops, nil
}

func (o *Opener) do(ctx context.Context, a action) error {
	if a.verb != reconcile.Remove { // noted first: what is interrupted is found again
		if err := o.note(func(ports []string) []string { return append(ports, a.port) }); err != nil {
			return err
		}
	}
	path := o.Root + policyFile
	if a.write != "" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(a.write), 0o644)); err != nil {
			return err
		}
	}
	if a.unlink {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if a.unless != nil {
		if _, err := o.Change(ctx, a.unless[0], a.unless[1:]...); err == nil {
			return nil
		}
	}
	for _, c := range a.commands {
		if _, err := o.Change(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	if a.verb == reconcile.Remove && a.port != "" {
		return o.note(func(ports []string) []string {
			return slices.DeleteFunc(ports, func(p string) bool { return p == a.port })
		})
	}
	return nil
}

// record is what the file keeps.
type record struct {
	FirewalldPorts []string `json:"firewalld_ports"`
}

func (o *Opener) noted() (r record, err error) {
	data, err := os.ReadFile(o.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", o.Record, err)
	}
	return r, nil
}

// note changes the noted ports; empty ones are none.
func (o *Opener) note(change func([]string) []string) error {
	r, err := o.noted()
	if err != nil {
		return err
	}
	r.FirewalldPorts = slices.DeleteFunc(change(r.FirewalldPorts), func(p string) bool { return p == "" })
	slices.Sort(r.FirewalldPorts)
	r.FirewalldPorts = slices.Compact(r.FirewalldPorts)
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	next := o.Record + ".new"
	if err := errors.Join(os.MkdirAll(filepath.Dir(o.Record), 0o700), os.WriteFile(next, data, 0o600)); err != nil {
		return err
	}
	return os.Rename(next, o.Record)
}

func (o *Opener) forget() error {
	if err := os.Remove(o.Record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// look reads what actions needs.
func (o *Opener) look(ctx context.Context, want *plan.Opening) (s seen, err error) {
	r, err := o.noted()
	if err != nil {
		return s, err
	}
	s.noted = r.FirewalldPorts
	if s.ufwEnabled, err = enabledUFW(o.Root); err != nil {
		return s, err
	}
	rules, err := os.ReadFile(o.Root + "/etc/ufw/user.rules")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.ufw = parseUFW(string(rules))
	if err := o.lookAtDocker(ctx, &s); err != nil {
		return s, err
	}
	return s, o.lookAtFirewalld(ctx, want, &s)
}

// lookAtDocker has the older iptables asked where that may be: it takes more privileges
// than repairs have.
func (o *Opener) lookAtDocker(ctx context.Context, s *seen) error {
	out, err := o.Run(ctx, "iptables-save", "-t", "filter")
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		if out, err = o.Change(ctx, "iptables-save", "-t", "filter"); err != nil {
			return err
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, ":DOCKER-USER ") {
			s.dockerChain = true
		}
		if strings.HasPrefix(line, "-A DOCKER-USER ") {
			s.docker = append(s.docker, line)
		}
	}
	return nil
}

// Names and paths of firewalld (firewalld.dbus(5)).
const (
	firewalldName = "org.fedoraproject.FirewallD1"
	firewalldPath = "/org/fedoraproject/FirewallD1"
)

// quotedText is how busctl prints strings.
var quotedText = regexp.MustCompile(`"([^"]*)"`)

// ask calls firewalld and returns what it answers: strings, or "true" and "false".
func (o *Opener) ask(ctx context.Context, path, of, method string, args ...string) ([]string, error) {
	out, err := o.Run(ctx, "busctl", append([]string{"--system", "call", firewalldName, firewalldPath + path, firewalldName + of, method}, args...)...)
	if err != nil {
		return nil, err
	}
	if said, ok := strings.CutPrefix(strings.TrimSpace(out), "b "); ok {
		return []string{said}, nil
	}
	var all []string
	for _, m := range quotedText.FindAllStringSubmatch(out, -1) {
		all = append(all, m[1])
	}
	return all, nil
}

// first is the one string of an answer; "" for none.
func first(all []string, err error) (string, error) {
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0], nil
}

func (o *Opener) lookAtFirewalld(ctx context.Context, want *plan.Opening, s *seen) error {
	f := &s.firewalld
	policy, err := os.ReadFile(o.Root + policyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.policy = string(policy)
	if _, err := os.Stat(o.Root + "/etc/firewalld"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	out, err := o.Run(ctx, "busctl", "--system", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", firewalldName)
	if f.running = err == nil && strings.TrimSpace(out) == "b true"; !f.running {
		return nil // no bus, nobody on it
	}
	ports := slices.Clone(s.noted)
	if want != nil {
		if f.zones, err = o.zones(ctx, want.Outside); err != nil {
			return err
		}
		for _, zone := range f.zones {
			ports = append(ports, firewalldPort(zone, want.Port))
		}
	}
	if err := o.lookAtPorts(ctx, ports, f); err != nil {
		return err
	}
	policies, err := o.ask(ctx, "", ".policy", "getPolicies")
	if err != nil {
		return err
	}
	f.loaded = slices.Contains(policies, Policy)
	if f.loaded != (want != nil) || want == nil && f.policy != "" {
		f.keeps, err = o.keeps(ctx)
	}
	return err
}

// zones are those of interfaces. One that is in none is in the default zone.
func (o *Opener) zones(ctx context.Context, links []string) (all []string, err error) {
	for _, link := range links {
		zone, err := first(o.ask(ctx, "", ".zone", "getZoneOfInterface", "s", link))
		if err == nil && zone == "" {
			zone, err = first(o.ask(ctx, "", "", "getDefaultZone"))
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, zone) {
			all = append(all, zone)
		}
	}
	return all, nil
}

func (o *Opener) lookAtPorts(ctx context.Context, ports []string, f *firewalldSeen) error {
	for _, port := range ports {
		zone, number, _ := strings.Cut(port, " ")
		number, protocol, _ := strings.Cut(number, "/")
		path, err := first(o.ask(ctx, "/config", ".config", "getZoneByName", "s", zone))
		if err != nil { // a zone that is gone has no ports
			continue
		}
		kept, err := first(o.ask(ctx, strings.TrimPrefix(path, firewalldPath), ".config.zone", "queryPort", "ss", number, protocol))
		if err != nil {
			return err
		}
		if kept == "true" {
			f.permanent = append(f.permanent, port)
		}
		if now, err := first(o.ask(ctx, "", ".zone", "queryPort", "sss", zone, number, protocol)); err == nil && now == "true" {
			f.runtime = append(f.runtime, port)
		}
	}
	return nil
}

// keeps reports that what firewalld was told counts after a reload, too. Interfaces keep
// their zones.
func (o *Opener) keeps(ctx context.Context) (bool, error) {
	for _, list := range []string{"--list-all-zones", "--list-all-policies"} {
		now, err := o.Change(ctx, "firewall-cmd", list)
		if err != nil {
			return false, err
		}
		later, err := o.Change(ctx, "firewall-cmd", "--permanent", list)
		if err != nil {
			return false, err
		}
		if withoutUse(now) != withoutUse(later) {
			return false, nil
		}
	}
	return true, nil
}

// withoutUse is a list of firewall-cmd without who uses each zone, and Mobula's policy.
func withoutUse(list string) string {
	var kept []string
	for _, block := range strings.Split(list, "\n\n") {
		var lines []string
		for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
			if !strings.HasPrefix(strings.TrimSpace(line), "interfaces:") {
				lines = append(lines, strings.TrimSuffix(line, " (active)"))
			}
		}
		if lines[0] != Policy {
			kept = append(kept, strings.Join(lines, "\n"))
		}
	}
	slices.Sort(kept)
	return strings.Join(kept, "\n\n")
}
