package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/store"
)

// ifstate is where ifup(8) notes which interfaces it has configured. One more file
// for each interface, which ends in its name, says as what.
const ifstate = "/run/network/ifstate"

// toIfupdown makes ifupdown know the uplink as configured, which it is, even if the
// host booted without ifupdown seeing it.
func (s *System) toIfupdown() reconcile.Operation {
	return reconcile.Operation{Step: reconcile.StepFiles, Verb: reconcile.Remove, Object: "ifupdown", Detail: "has the uplink again",
		Do: func(context.Context) error { return noteUp(s.at(ifstate), s.uplink) }}
}

// noteUp notes a link as configured, on hosts with ifupdown. The notes are read
// whole or not at all, also when there is no room for them.
func noteUp(path, link string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no ifupdown here
	}
	note := link + "=" + link
	lines := strings.Fields(string(data))
	if err != nil || slices.Contains(lines, note) {
		return err
	}
	if err := store.WriteFile(path+"."+link, []byte(link+"\n"), 0o644); err != nil {
		return fmt.Errorf("noting the uplink: %w", err)
	}
	if err := store.WriteFile(path, []byte(strings.Join(append(lines, note, ""), "\n")), 0o644); err != nil {
		return fmt.Errorf("noting the uplink: %w", err)
	}
	return nil
}
