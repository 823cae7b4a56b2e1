package system

import (
	"context"
	"os"
	"strings"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
)

func (s *System) serviceOperations(ctx context.Context, want *plan.Host) ([]reconcile.Operation, error) {
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
		case !s.active(ctx, unit):
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Add, Object: "service " + unit, Detail: "start",
				Do: func(ctx context.Context) error { return s.systemctl(ctx, "start", unit) }})
		case !service.BeforeSwitch && s.runsOldProgram(ctx, unit, service.Program):
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Change, Object: "service " + unit, Detail: "restart with the new helper",
				Do: func(ctx context.Context) error { return s.systemctl(ctx, "restart", unit) }})
		}
	}
	for _, unit := range []string{plan.UnitOVSDB, plan.UnitVSwitch, plan.UnitAgent} {
		unit := unit
		if !wanted[unit] && s.active(ctx, unit) {
			step := reconcile.StepServices
			if unit != plan.UnitAgent {
				step = reconcile.StepSettings // after the switch and the links are gone, before the namespace
			}
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Remove, Object: "service " + unit, Detail: "stop",
				Do: func(ctx context.Context) error { return s.systemctl(ctx, "stop", unit) }})
		}
	}
	return ops, nil
}

// runsOldProgram reports that the unit runs another version of this program, or one
// that was replaced since it started.
func (s *System) runsOldProgram(ctx context.Context, unit, program string) bool {
	pid, err := s.Run(ctx, "systemctl", "show", "--property=MainPID", "--value", unit)
	if err != nil {
		return false
	}
	target, err := os.Readlink(s.at("/proc/" + strings.TrimSpace(pid) + "/exe"))
	return err == nil && otherProgram(target, program)
}

// otherProgram reports that running, a link in /proc, is another version than wanted.
// What is no version at all is systemd, about to execute the right one.
func otherProgram(running, wanted string) bool {
	path := strings.TrimSuffix(running, " (deleted)")
	return path != running || wanted != "" && path != wanted && (path == plan.Helper || plan.ProgramID(path) != "")
}

// stale reports that systemd has not read what became of our units: it refuses to
// when there is no room in /run.
func (s *System) stale(ctx context.Context) bool {
	out, err := s.Run(ctx, "systemctl", "show", "--property=NeedDaemonReload", "--value",
		plan.UnitBoot, plan.UnitOVSDB, plan.UnitVSwitch, plan.UnitAgent, plan.UnitRepair)
	return err == nil && strings.Contains(out, "yes")
}
