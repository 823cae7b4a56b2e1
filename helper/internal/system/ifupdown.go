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

// ifstate is where ifup(8) notes which interfaces it has configured. One more file
// for each interface, which ends in its name, says as what.
const ifstate = "/run/network/ifstate"

// fromIfupdown makes ifupdown forget the uplink, which it could only fail to find
// as long as that is in the gateway's namespace.
func (s *System) fromIfupdown(want *plan.Host) ([]reconcile.Operation, error) {
	if !slices.ContainsFunc(want.Files, func(f plan.File) bool { return f.Path == plan.IfupdownDropIn }) {
		return nil, nil
	}
	_, up, err := notes(s.at(ifstate), s.uplink)
	if err != nil || !up {
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

// notes returns what ifstate says of other links, and whether it says that link is
// configured; nil if there is no ifupdown.
func notes(path, link string) (others []string, up bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	others = []string{}
	for _, note := range strings.Fields(string(data)) {
		if note == link+"="+link {
			up = true
		} else {
			others = append(others, note)
		}
	}
	return others, up, err
}

// noteUp notes a link as configured or not, on hosts with ifupdown. The notes are
// replaced in one step: there may be no room for them. The link's own comes first,
// so that what was interrupted here is done again.
func noteUp(path, link string, up bool) error {
	lines, was, err := notes(path, link)
	if err != nil || lines == nil || was == up {
		return err
	}
	if up {
		lines = append(lines, link+"="+link)
		err = store.WriteFile(path+"."+link, []byte(link+"\n"), 0o644)
	} else if err = os.Remove(path + "." + link); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = store.WriteFile(path, []byte(strings.Join(append(lines, ""), "\n")), 0o644)
	}
	if err != nil {
		return fmt.Errorf("noting the uplink: %w", err)
	}
	return nil
}
