// Package system compares and changes a host's files and systemd units.
package system

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mobula/helper/internal/block"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// System is the reconcile.Subject for files and services.
type System struct {
	Machine
	uplink  string
	booting bool
}

// New returns the subject of a host with the given uplink. While the host boots,
// services that systemd will start by itself are left to it.
func New(uplink string, booting bool) *System { return On(thisHost, uplink, booting) }

// On is New with another machine.
func On(m Machine, uplink string, booting bool) *System { return &System{m, uplink, booting} }

// Name implements reconcile.Subject.
func (s *System) Name() string { return "system" }

// Diff implements reconcile.Subject.
func (s *System) Diff(ctx context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
	ops, err := s.fileOperations(want)
	if err != nil {
		return nil, err
	}
	units := s.askUnits(ctx, want)
	ops = append(ops, s.rereading(units, want, ops)...)
	return append(ops, s.serviceOperations(units, want)...), nil
}

// startsLater: a switch that is started anew forwards nothing meanwhile, so a changed
// unit is no reason to.
const startsLater = "counts from the service's next start on, with the next boot or a reinstallation"

func (s *System) fileOperations(want *spec.Host) ([]reconcile.Operation, error) {
	var ops []reconcile.Operation
	wanted := map[string]bool{}
	for _, path := range want.Keep {
		wanted[path] = true
	}
	changed := reloads{}
	for _, f := range want.Files {
		wanted[f.Path] = true
		path, op := f.Path, reconcile.Operation{Step: fileStep(f), Verb: reconcile.Change, Object: "file " + f.Path}
		f.Path = s.at(path)
		op.Do = s.unreadFirst(path, op.Step, func() error { return s.put(f) })
		same, exists, err := s.compare(f)
		if err != nil {
			return nil, err
		}
		switch {
		case same:
			continue
		case f.Missing:
			op.Verb = reconcile.Remove
		case f.Block && f.Content == "": // a change: with the boot unit, removed last, goes who would do the rest
			// Who reads it does when it starts next: what it was to leave alone goes, too.
			op.Detail, op.Do = "without Mobula's part", func(context.Context) error { return s.put(f) }
			ops = append(ops, op)
			continue
		case !exists:
			op.Verb = reconcile.Add
		case path == spec.UnitDir+spec.UnitOVSDB || path == spec.UnitDir+spec.UnitVSwitch:
			op.Detail = startsLater
		}
		ops = append(ops, op)
		changed.note(path, op.Step)
	}
	taken, err := s.fromIfupdown(want)
	if err != nil {
		return nil, err
	}
	ops = append(append(ops, s.reading(changed, reconcile.Change)...), taken...)
	return append(ops, s.removals(want, wanted)...), nil
}

// removals are the files that are not wanted, and who reads the others again.
func (s *System) removals(want *spec.Host, wanted map[string]bool) []reconcile.Operation {
	removals := reloads{}
	var ops, gone []reconcile.Operation
	for _, path := range spec.OwnedFiles(s.uplink) {
		if _, err := os.Lstat(s.at(path)); wanted[path] || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		op := reconcile.Operation{Step: reconcile.StepFiles, Verb: reconcile.Remove, Object: "file " + path,
			Do: s.unreadFirst(path, reconcile.StepResolver, func() error { return remove(s.at(path)) })}
		if path == spec.IfupdownDropIn {
			op.Detail, op.Do = "ifupdown has the uplink again", func(ctx context.Context) error {
				return s.unreadFirst(path, reconcile.StepResolver, func() error { return s.toIfupdown(ctx, want) })(ctx)
			}
			removals[reload{ifupdown, reconcile.StepFiles}] = true
		}
		gone = append(gone, op)
		removals.note(path, reconcile.StepFiles)
	}
	// Removals run backwards, so what comes last stands first.
	for _, op := range s.reading(removals, reconcile.Remove) {
		ops = append(ops, s.awaited(op, want))
	}
	return append(ops, gone...)
}

func (s *System) at(path string) string { return filepath.Join(s.Root, path) }

func fileStep(f spec.File) reconcile.Step {
	if f.Late {
		return reconcile.StepResolver
	}
	return reconcile.StepFiles
}

func blockOf(f spec.File) block.Block {
	return block.Block{Path: f.Path, Lines: f.Content, First: true}
}

// compare is compare, but for what may stay until the next change.
func (s *System) compare(f spec.File) (same, exists bool, err error) {
	if info, err := os.Lstat(f.Path); f.Yields && s.booting && err == nil && info.Mode().IsRegular() {
		return true, true, nil
	}
	return compare(f)
}

// compare reports whether the file is as wanted and whether it exists at all.
func compare(f spec.File) (same, exists bool, err error) {
	if f.Block {
		return blockOf(f).Compare()
	}
	info, err := os.Lstat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.Missing || f.Over != "", false, nil
	}
	if err != nil {
		return false, false, err
	}
	link := info.Mode()&fs.ModeSymlink != 0
	if f.Over != "" {
		data, err := os.ReadFile(f.Path)
		if link || err != nil || !strings.HasPrefix(string(data), f.Over) {
			return true, true, nil
		}
	}
	if f.Missing {
		return false, true, nil
	}
	if f.Target != "" || link {
		target, _ := os.Readlink(f.Path)
		return link && f.Target == target, true, nil
	}
	data, err := os.ReadFile(f.Path)
	return err == nil && string(data) == f.Content && info.Mode().Perm() == f.Mode, true, err
}

func (m Machine) put(f spec.File) error {
	if f.Block {
		return blockOf(f).Put(m.WriteFile)
	}
	if f.Missing {
		return remove(f.Path)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	if f.Target == "" {
		err := m.WriteFile(f.Path, []byte(f.Content), f.Mode)
		if errors.Is(err, syscall.EBUSY) { // a bind mount can only be written to
			err = os.WriteFile(f.Path, []byte(f.Content), f.Mode)
		}
		return err
	}
	temporary := f.Path + ".mobula"
	_ = os.Remove(temporary)
	if err := os.Symlink(f.Target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, f.Path)
}

// packagedDir comes with NetworkManager's package, empty.
const packagedDir = "/etc/NetworkManager/conf.d"

// remove deletes a file and the directories above it that it leaves empty, if
// they can only have been made for it.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(path); strings.HasSuffix(dir, ".d") || strings.HasSuffix(dir, ".wants"); dir = filepath.Dir(dir) {
		if strings.HasSuffix(dir, packagedDir) || os.Remove(dir) != nil { // not empty
			break
		}
	}
	return nil
}
