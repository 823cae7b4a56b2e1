package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/store"
)

// ifstate is where ifup(8) notes which interfaces it has configured.
const ifstate = "/run/network/ifstate"

// fromIfupdown makes ifupdown forget the uplink, which it could only fail to take
// down as long as that is in the gateway's namespace.
func (s *System) fromIfupdown(want *plan.Host) ([]reconcile.Operation, error) {
	if !slices.ContainsFunc(want.Files, func(f plan.File) bool { return f.Path == plan.IfupdownDropIn }) {
		return nil, nil
	}
	lines, err := upInterfaces(s.at(ifstate))
	if err != nil || !slices.Contains(lines, upNote(s.uplink)) {
		return nil, err
	}
	return []reconcile.Operation{{Step: reconcile.StepFiles, Verb: reconcile.Change, Object: "ifupdown", Detail: "leaves the uplink alone",
		Do: func(context.Context) error { return noteUp(s.at(ifstate), s.uplink, false) }}}, nil
}

// toIfupdown makes ifupdown know the uplink as configured, which it is, even if the
// host booted without ifupdown seeing it.
func (s *System) toIfupdown() reconcile.Operation {
	return reconcile.Operation{Step: reconcile.StepFiles, Verb: reconcile.Remove, Object: "ifupdown", Detail: "has the uplink again",
		Do: func(context.Context) error { return noteUp(s.at(ifstate), s.uplink, true) }}
}

// noteUp notes a link as configured or not, on hosts with ifupdown.
func noteUp(path, link string, up bool) error {
	lines, err := upInterfaces(path)
	if err != nil || lines == nil || slices.Contains(lines, upNote(link)) == up {
		return err
	}
	if up {
		lines = append(lines, upNote(link))
	} else {
		lines = slices.DeleteFunc(lines, func(line string) bool { return line == upNote(link) })
	}
	if err := store.WriteFile(path, []byte(strings.Join(append(lines, ""), "\n")), 0o644); err != nil {
		return fmt.Errorf("noting the uplink in %s: %w", path, err)
	}
	return nil
}

// upInterfaces returns the lines of ifstate, nil if there is none.
func upInterfaces(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(data)), err
}

func upNote(link string) string { return link + "=" + link }
