package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
)

// ifstate is where ifup(8) notes which interfaces it has configured. One more file
// for each interface, which ends in its name, says as what.
const ifstate = "/run/network/ifstate"

// fromIfupdown makes ifupdown forget the uplink, which it could only fail to find
// as long as that is in the gateway's namespace.
func (s *System) fromIfupdown(want *plan.Host) ([]reconcile.Operation, error) {
	if !slices.ContainsFunc(want.Files, func(f plan.File) bool { return f.Path == plan.IfupdownDropIn }) {
		return nil, nil
	}
	n, err := s.ifupdownNotes()
	if err != nil || !n.listed && !n.own {
		return nil, err
	}
	return []reconcile.Operation{{Step: reconcile.StepFiles, Verb: reconcile.Change, Object: "ifupdown", Detail: "leaves the uplink alone",
		Do: func(context.Context) error { return s.noteUp(false) }}}, nil
}

// toIfupdown makes ifupdown know the uplink as configured, which it is, even if the
// host booted without ifupdown seeing it. Only then the drop-in goes: as long as it is
// there, this is still to do, whatever fails or is interrupted.
func (s *System) toIfupdown(ctx context.Context) error {
	if s.hasDefined(ctx) {
		if err := s.noteUp(true); err != nil {
			return err
		}
	}
	return remove(s.at(plan.IfupdownDropIn))
}

// hasDefined reports whether interfaces(5) defines the uplink. Where it does not,
// another manager configures it, and ifupdown never knew it. Without ifquery(8)
// it is taken to be defined.
func (s *System) hasDefined(ctx context.Context) bool {
	var denied *exec.ExitError
	return !errors.As(s.run(ctx, "ifquery", "--interfaces="+s.at("/etc/network/interfaces"), s.uplink), &denied)
}

// ifupdownNotes are what ifupdown has noted.
type ifupdownNotes struct {
	none        bool     // there is no ifupdown
	others      []string // ifstate without the uplink
	listed, own bool     // the uplink is configured: so says ifstate, so says its own file
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
		if note == s.uplink+"="+s.uplink {
			n.listed = true
		} else {
			n.others = append(n.others, note)
		}
	}
	data, err = os.ReadFile(s.ownIfstate())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	n.own = strings.TrimSpace(string(data)) == s.uplink
	return n, err
}

func (s *System) ownIfstate() string { return s.at(ifstate) + "." + s.uplink }

// noteUp notes the uplink as configured or not, on hosts with ifupdown. Each note is
// replaced in one step: there may be no room for it.
func (s *System) noteUp(up bool) error {
	n, err := s.ifupdownNotes()
	if err != nil || n.none {
		return err
	}
	if n.listed != up {
		lines := n.others
		if up {
			lines = append(lines, s.uplink+"="+s.uplink)
		}
		err = s.WriteFile(s.at(ifstate), []byte(strings.Join(append(lines, ""), "\n")), 0o644)
	}
	if err == nil && n.own != up {
		if up {
			err = s.WriteFile(s.ownIfstate(), []byte(s.uplink+"\n"), 0o644)
		} else {
			err = remove(s.ownIfstate())
		}
	}
	if err != nil {
		return fmt.Errorf("noting the uplink: %w", err)
	}
	return nil
}
