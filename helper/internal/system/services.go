package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
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
		case !Active(ctx, unit):
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Add, Object: "service " + unit, Detail: "start",
				Do: func(ctx context.Context) error { return systemctl(ctx, "start", unit) }})
		case !service.BeforeSwitch && runsOldProgram(ctx, unit, service.Program):
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Change, Object: "service " + unit, Detail: "restart with the new helper",
				Do: func(ctx context.Context) error { return systemctl(ctx, "restart", unit) }})
		}
	}
	for _, unit := range []string{plan.UnitOVSDB, plan.UnitVSwitch, plan.UnitAgent} {
		unit := unit
		if !wanted[unit] && Active(ctx, unit) {
			step := reconcile.StepServices
			if unit != plan.UnitAgent {
				step = reconcile.StepSettings // after the switch and the links are gone, before the namespace
			}
			ops = append(ops, reconcile.Operation{Step: step, Verb: reconcile.Remove, Object: "service " + unit, Detail: "stop",
				Do: func(ctx context.Context) error { return systemctl(ctx, "stop", unit) }})
		}
	}
	return ops, nil
}

// runsOldProgram reports that the unit runs another version of this program, or one
// that was replaced since it started.
func runsOldProgram(ctx context.Context, unit, program string) bool {
	pid, err := output(ctx, "systemctl", "show", "--property=MainPID", "--value", unit)
	if err != nil {
		return false
	}
	target, err := os.Readlink("/proc/" + strings.TrimSpace(pid) + "/exe")
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
func stale(ctx context.Context) bool {
	out, err := output(ctx, "systemctl", "show", "--property=NeedDaemonReload", "--value",
		plan.UnitBoot, plan.UnitOVSDB, plan.UnitVSwitch, plan.UnitAgent, plan.UnitRepair)
	return err == nil && strings.Contains(out, "yes")
}

// Active reports that a unit runs.
func Active(ctx context.Context, unit string) bool {
	return exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", unit).Run() == nil
}

func systemctl(ctx context.Context, args ...string) error { return run(ctx, "systemctl", args...) }

func run(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
