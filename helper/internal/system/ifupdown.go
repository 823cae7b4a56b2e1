package system

import (
	"context"
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

// ifstate is where ifup(8) notes which interfaces it has configured. One more file
// for each interface, which ends in its name, says as what.
const ifstate = "/run/network/ifstate"

// fromIfupdown makes ifupdown forget the uplink and its aliases, which it could only
// fail to find as long as that is in the gateway's namespace.
func (s *System) fromIfupdown(want *spec.Host) ([]reconcile.Operation, error) {
	if !slices.ContainsFunc(want.Files, func(f spec.File) bool { return f.Path == spec.IfupdownDropIn }) {
		return nil, nil
	}
	n, err := s.ifupdownNotes()
	if err != nil || len(n.listed) == 0 && len(n.own) == 0 {
		return nil, err
	}
	return []reconcile.Operation{{Step: reconcile.StepFiles, Verb: reconcile.Change, Object: "ifupdown", Detail: "leaves the uplink alone",
		Do: func(context.Context) error {
			if err := s.hasRead(ifupdown); err != nil { // resolvers of a NIC that leaves once more
				return err
			}
			return s.noteUp(nil)
		}}}, nil
}

// toIfupdown makes ifupdown know the uplink and its aliases as configured, which they
// are, even if the host booted without ifupdown seeing them. Only then the drop-in
// goes: as long as it is there, this is still to do, whatever fails or is interrupted.
func (s *System) toIfupdown(ctx context.Context, want *spec.Host) error {
	if names := s.defined(ctx, want); len(names) > 0 {
		if err := s.noteUp(names); err != nil {
			return err
		}
		if err := s.noteUnread(ifupdown + lateNote); err != nil {
			return err
		}
	}
	return remove(s.at(spec.IfupdownDropIn))
}

// defined returns what interfaces(5) defines of the uplink and of its aliases: those
// that come up at boot, and those whose addresses the uplink gets back.
func (s *System) defined(ctx context.Context, want *spec.Host) (names []string) {
	candidates := []string{s.uplink}
	list, _ := s.Run(ctx, "ifquery", s.interfaces(), "--list")
	candidates = append(candidates, strings.Fields(list)...)
	for _, a := range want.Addresses {
		if a.NS == "" && a.Link == s.uplink {
			candidates = append(candidates, a.Label)
		}
	}
	for _, name := range candidates {
		if s.ofUplink(name) && !slices.Contains(names, name) && s.hasDefined(ctx, name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *System) interfaces() string { return "--interfaces=" + s.at("/etc/network/interfaces") }

// ofUplink reports that ifupdown's name is that of the uplink or of an alias of it.
func (s *System) ofUplink(name string) bool {
	return name == s.uplink || strings.HasPrefix(name, s.uplink+":")
}

// hasDefined reports whether interfaces(5) defines the name. Where it does not,
// another manager configures it, and ifupdown never knew it. Without ifquery(8)
// it is taken to be defined.
func (s *System) hasDefined(ctx context.Context, name string) bool {
	var denied *exec.ExitError
	return !errors.As(s.run(ctx, "ifquery", s.interfaces(), name), &denied)
}

// ifupdownNotes are what ifupdown has noted.
type ifupdownNotes struct {
	none   bool     // there is no ifupdown
	others []string // ifstate without the uplink and its aliases
	// listed and own are those of the uplink and its aliases that are configured: so
	// says ifstate, so say their own files.
	listed, own []string
}

func (s *System) ifupdownNotes() (n ifupdownNotes, err error) {
	data, err := os.ReadFile(s.at(ifstate))
	if errors.Is(err, fs.ErrNotExist) {
		return ifupdownNotes{none: true}, nil
	}
	if err != nil {
		return n, err
	}
	for _, note := range strings.Fields(string(data)) {
		if name, as, _ := strings.Cut(note, "="); name == as && s.ofUplink(name) {
			n.listed = append(n.listed, name)
		} else {
			n.others = append(n.others, note)
		}
	}
	files, err := filepath.Glob(s.at(ifstate) + ".*")
	if err != nil {
		return n, err
	}
	for _, file := range files {
		name := strings.TrimPrefix(file, s.at(ifstate)+".")
		if !s.ofUplink(name) {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		if strings.TrimSpace(string(data)) == name {
			n.own = append(n.own, name)
		}
	}
	return n, nil
}

func (s *System) ownIfstate(name string) string { return s.at(ifstate) + "." + name }

// noteUp notes that these of the uplink and its aliases are configured, and no others
// if there are none, on hosts with ifupdown. Each note is replaced in one step: there
// may be no room for it.
func (s *System) noteUp(names []string) error {
	n, err := s.ifupdownNotes()
	if err != nil || n.none {
		return err
	}
	lines := n.others
	for _, name := range names {
		lines = append(lines, name+"="+name)
	}
	for _, name := range n.listed {
		if len(names) > 0 && !slices.Contains(names, name) { // somebody has configured it meanwhile
			lines = append(lines, name+"="+name)
		}
	}
	if len(lines) != len(n.others)+len(n.listed) {
		err = s.WriteFile(s.at(ifstate), []byte(strings.Join(append(lines, ""), "\n")), 0o644)
	}
	for _, name := range names {
		if err == nil && !slices.Contains(n.own, name) {
			err = s.WriteFile(s.ownIfstate(name), []byte(name+"\n"), 0o644)
		}
	}
	for _, name := range n.own {
		if err == nil && len(names) == 0 {
			err = remove(s.ownIfstate(name))
		}
	}
	if err != nil {
		return fmt.Errorf("noting the uplink: %w", err)
	}
	return nil
}
