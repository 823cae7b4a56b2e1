package system

import (
	"context"
	"os"
	"slices"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

func (s *System) serviceOperations(units unitStates, want *spec.Host) []reconcile.Operation {
	var ops []reconcile.Operation
	wanted := map[string]bool{}
	for _, service := range want.Services {
		unit := service.Unit
		wanted[unit] = true
		if s.booting && !service.BeforeSwitch {
			continue
		}
		step := reconcile.StepServices
		if service.BeforeSwitch {
			step = reconcile.StepSwitch
		}
		switch {
		case !units[unit].active:
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Add, Object: "service " + unit, Detail: "start",
				Do: func(ctx context.Context) error { return s.systemctl(ctx, "start", unit) }})
		case !service.BeforeSwitch && s.runsOldProgram(units[unit], service.Program):
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Change, Object: "service " + unit, Detail: "restart with the new helper",
				Do: func(ctx context.Context) error { return s.systemctl(ctx, "restart", unit) }})
		}
	}
	for _, unit := range lasting {
		if !wanted[unit] && units[unit].active {
			step := reconcile.StepServices
			if unit != spec.UnitAgent {
				step = reconcile.StepSettings // after the switch and the links are gone, before the namespace
			}
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Remove, Object: "service " + unit, Detail: "stop",
				Do: func(ctx context.Context) error { return s.systemctl(ctx, "stop", unit) }})
		}
	}
	return ops
}

// lasting are the services that run all the time.
var lasting = []string{spec.UnitOVSDB, spec.UnitVSwitch, spec.UnitAgent}

// unitState is what systemd says of a unit.
type unitState struct {
	active bool
	pid    string // of its main process; "0": none
	// stale: systemd has not read what became of its files. It refuses to when there is
	// no room in /run.
	stale bool
}

// unitStates are by the units' names.
type unitStates map[string]unitState

// askUnits asks systemd about all units that matter at once: each question costs
// a process here and an answer there. Without an answer none is active.
func (s *System) askUnits(ctx context.Context, want *spec.Host) unitStates {
	args := append([]string{"show", "--property=Id,ActiveState,MainPID,NeedDaemonReload", spec.UnitBoot, spec.UnitRepair}, lasting...)
	for _, service := range want.Services {
		if !slices.Contains(lasting, service.Unit) {
			args = append(args, service.Unit)
		}
	}
	units := unitStates{}
	out, err := s.Run(ctx, "systemctl", args...)
	if err != nil {
		return units
	}
	for _, unit := range strings.Split(out, "\n\n") {
		values := map[string]string{}
		for _, line := range strings.Split(unit, "\n") {
			name, value, _ := strings.Cut(line, "=")
			values[name] = value
		}
		// One that reads its configuration again is active, too (systemctl(1), is-active).
		state := values["ActiveState"]
		units[values["Id"]] = unitState{state == "active" || state == "reloading", values["MainPID"], values["NeedDaemonReload"] == "yes"}
	}
	return units
}

// stale reports that systemd has to read units again.
func (u unitStates) stale() bool {
	for _, unit := range u {
		if unit.stale {
			return true
		}
	}
	return false
}

// runsOldProgram reports that the unit runs another version of this program, or one
// that was replaced since it started.
func (s *System) runsOldProgram(unit unitState, program string) bool {
	target, err := os.Readlink(s.at("/proc/" + unit.pid + "/exe"))
	return err == nil && otherProgram(target, program)
}

// otherProgram reports that running, a link in /proc, is another version than wanted.
// What is no version at all is systemd, about to execute the right one.
func otherProgram(running, wanted string) bool {
	path := strings.TrimSuffix(running, " (deleted)")
	return path != running || wanted != "" && path != wanted && (path == spec.Helper || spec.ProgramID(path) != "")
}
