package system

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// Programs are the versions of this program that the host has, each in a folder
// of spec.ProgramDir that is named after its content.
type Programs struct {
	// Root is in front of all paths; "" outside of tests.
	Root string
	// Executable is the path of this program.
	Executable string

	once sync.Once
	self string
	err  error
}

// NewPrograms returns those of this host, seen by the running program.
func NewPrograms() *Programs {
	path, err := os.Executable() // symbolic links are resolved, see proc(5)
	return &Programs{Executable: path, err: err}
}

// Self returns the ID of the running program; "" if it cannot be read any more.
func (p *Programs) Self() string {
	p.once.Do(func() {
		if p.self = spec.ProgramID(p.Executable); p.self == "" {
			p.self, p.err = fileID(filepath.Join(p.Root, p.Executable))
		}
	})
	return p.self
}

// Settle puts this program where boot and the rollback timer find it, and the one
// in force, too, which it returns: the one that the boot unit names. "": none.
func (p *Programs) Settle(ctx context.Context) (inForce string, err error) {
	self := p.Self()
	if p.err != nil {
		return "", p.err
	}
	if err := p.keep(filepath.Join(p.Root, p.Executable), self); err != nil {
		return "", err
	}
	if err := p.Runs(ctx, self); err != nil {
		return "", err
	}
	unit, err := os.ReadFile(filepath.Join(p.Root, spec.UnitDir, spec.UnitBoot))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	named := execStart.FindSubmatch(unit)
	if named == nil {
		return "", nil // damaged: nothing of it is in force
	}
	if id := spec.ProgramID(string(named[1])); id != "" {
		return id, nil
	}
	path, err := filepath.EvalSymlinks(filepath.Join(p.Root, string(named[1])))
	if err != nil {
		return "", nil // the program is gone
	}
	if inForce, err = fileID(path); err != nil {
		return "", err
	}
	return inForce, p.keep(path, inForce)
}

// execStart finds the program that a unit starts.
var execStart = regexp.MustCompile(`(?m)^ExecStart=(/\S+) `)

// Superseded reports that a unit which was started as this program would start as
// another one now. A version that knows nothing of others does not restart what an
// other one left running.
func (p *Programs) Superseded(unit string) (bool, error) {
	content, err := os.ReadFile(filepath.Join(p.Root, spec.UnitDir, unit))
	if err != nil {
		return false, err
	}
	named := execStart.FindSubmatch(content)
	if named == nil {
		return false, fmt.Errorf("%s: found no program", unit)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(p.Root, string(named[1])))
	if err != nil {
		return false, err // it could not be started
	}
	self, err := filepath.EvalSymlinks(filepath.Join(p.Root, p.Executable))
	return path != self, err
}

// keep copies a program into the folder of its ID, if it is not there.
func (p *Programs) keep(from, id string) error {
	to := filepath.Join(p.Root, spec.ProgramPath(id))
	if have, err := fileID(to); err == nil && have == id {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return store.WriteFile(to, data, 0o755)
}

func fileID(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return spec.NewProgramID(sha256.Sum256(data)), nil
}

// versionTimeout bounds how long a program may take to say its version.
const versionTimeout = 20 * time.Second

// Runs returns why the program with this ID cannot run here, if so: it is not
// there, cut short, made for another processor, or may not be executed.
func (p *Programs) Runs(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	if _, err := output(ctx, filepath.Join(p.Root, spec.ProgramPath(id)), "version"); err != nil {
		return fmt.Errorf("program %s cannot run: %w", id, err)
	}
	return nil
}

// Lead makes spec.Helper lead to the program with this ID.
func (p *Programs) Lead(id string) error {
	path := filepath.Join(p.Root, spec.Helper)
	if same, _, err := compare(spec.File{Path: path, Target: spec.ProgramPath(id)}); same || err != nil {
		return err
	}
	return thisHost.put(spec.File{Path: path, Target: spec.ProgramPath(id)})
}

// youngest is the age from which on a program that nobody needs is removed:
// another deploy may have brought it a moment ago.
const youngest = time.Hour

// Prune removes the programs with other IDs than these.
func (p *Programs) Prune(ids ...string) error {
	dir := filepath.Join(p.Root, spec.ProgramDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	needed := map[string]bool{p.Self(): true}
	for _, id := range ids {
		needed[id] = true
	}
	for _, e := range entries {
		if needed[e.Name()] || !spec.IsProgramID(e.Name()) {
			continue
		}
		info, statErr := os.Stat(filepath.Join(dir, e.Name(), "mobula"))
		if statErr == nil && time.Since(info.ModTime()) < youngest {
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
