package packetfilter

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
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
func (o *Opener) Diff(ctx context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
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
		ops = append(ops, reconcile.Operation{Step: reconcile.StepDoorway, Verb: a.verb, Object: a.object, Detail: a.detail, Limit: a.timeout(),
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
		_, err := o.Change(ctx, c[0], c[1:]...)
		if gone := a.verb == reconcile.Remove && err != nil && strings.Contains(err.Error(), invalidZone); err != nil && !gone && !o.ufwNoted(a) {
			return err
		}
	}
	if err := o.tell(ctx, a); err != nil {
		return err
	}
	if a.verb == reconcile.Remove && a.port != "" {
		return o.note(func(ports []string) []string {
			return slices.DeleteFunc(ports, func(p string) bool { return p == a.port })
		})
	}
	return nil
}

// ufwNoted reports that ufw keeps a rule, or no more, as an action wants it. Where its chains are not
// loaded, as after 'nft flush ruleset', it fails when that is done ("problem running", in
// UFWBackendIptables._reload_user_rules); it loads what it keeps when it begins anew.
func (o *Opener) ufwNoted(a action) bool {
	if a.rule == "" {
		return false
	}
	rules, err := os.ReadFile(o.Root + ufwRules)
	keeps := slices.ContainsFunc(parseUFW(string(rules)), func(r ufwRule) bool { return r.what == a.rule })
	return err == nil && keeps == (a.verb != reconcile.Remove)
}

// tell has firewalld do its part.
func (o *Opener) tell(ctx context.Context, a action) error {
	timeout := a.timeout()
	if timeout == 0 {
		return nil
	}
	f, err := dialFirewalld(ctx, timeout)
	if f == nil {
		return cmp.Or(err, errors.New("firewalld does not run any more"))
	}
	defer f.close()
	for _, c := range a.calls {
		if c.method == reload { // what was told since it was asked
			if keeps, err := o.keeps(f); err != nil || !keeps {
				return err
			}
		}
		if err := f.do(c); err != nil {
			return err
		}
	}
	if a.disarm != "" {
		return f.disarm(a.disarm)
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
func (o *Opener) look(ctx context.Context, want *spec.Opening) (s seen, err error) {
	r, err := o.noted()
	if err != nil {
		return s, err
	}
	s.noted = r.FirewalldPorts
	if s.ufwEnabled, err = enabledUFW(o.Root); err != nil {
		return s, err
	}
	rules, err := os.ReadFile(o.Root + ufwRules)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.ufw = parseUFW(string(rules))
	if err := o.lookAtDocker(ctx, &s); err != nil {
		return s, err
	}
	return s, o.lookAtFirewalld(ctx, want, &s)
}

// saved returns what a program of iptables prints; nothing if it is not installed. The older
// iptables is asked where that may be: it takes more privileges than repairs have.
func (o *Opener) saved(ctx context.Context, name string, args ...string) (string, error) {
	out, err := o.Run(ctx, name, args...)
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		out, err = o.Change(ctx, name, args...)
	}
	return out, err
}

func (o *Opener) lookAtDocker(ctx context.Context, s *seen) error {
	out, err := o.saved(ctx, "iptables-save", "-t", "filter")
	if err != nil {
		return err
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
