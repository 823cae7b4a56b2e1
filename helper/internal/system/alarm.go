package system

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mobula/helper/internal/spec"
)

// Alarm arms the way back: a systemd timer, which needs no agent, no SSH and no
// network. It does not survive a reboot and need not: boot builds what was
// confirmed.
//
// It starts the program with this ID, which has another one do it if that made what is
// confirmed.
type Alarm struct{ Program string }

// Arm sets an alarm that replaces all others, also a rollback that failed and
// waits for its next try. Its units have names of their own: it is set before the one
// it replaces goes, so that there is no moment without.
func (a Alarm) Arm(ctx context.Context, after time.Duration) error {
	old, err := alarms(ctx)
	if err != nil {
		return err
	}
	err = run(ctx, "systemd-run", "--quiet", "--collect", fmt.Sprintf("--unit=%s%d", spec.UnitsRollback, time.Now().UnixNano()), fmt.Sprintf("--on-active=%d", int(after.Seconds())),
		"--timer-property=AccuracySec=100ms", "--property=Restart=on-failure", "--property=RestartSec=3", // slower than what systemd takes for a loop and ends
		"--property=RuntimeMaxSec=180", "--property=NotifyAccess=all", // one that hangs is begun again
		spec.ProgramPath(a.Program), "rollback")
	if err != nil || len(old) == 0 {
		return err
	}
	_ = systemctl(ctx, append([]string{"stop"}, old...)...) // one that has just ended is no longer known
	return nil
}

// Disarm stops the timer, not a rollback that already runs.
func (Alarm) Disarm(ctx context.Context) error {
	return systemctl(ctx, "stop", spec.UnitsRollback+"*.timer") // succeeds if there is none
}

// Armed reports that the timer or the rollback that it started runs.
func (Alarm) Armed(ctx context.Context) bool {
	units, err := alarms(ctx, "--state=active")
	return err == nil && len(units) > 0
}

// alarms returns the timers and rollbacks that systemd is not done with.
func alarms(ctx context.Context, flags ...string) ([]string, error) {
	args := append([]string{"list-units", "--plain", "--no-legend", "--full"}, flags...)
	out, err := output(ctx, "systemctl", append(args, spec.UnitsRollback+"*.timer", spec.UnitsRollback+"*.service")...)
	var units []string
	for _, line := range strings.Split(out, "\n") {
		if fields := strings.Fields(line); len(fields) > 0 {
			units = append(units, fields[0])
		}
	}
	return units, err
}

// Detached runs the program with the ID with args as a transient unit, so that it outlives
// the SSH session that started it. It is ended if it takes longer than most, which is
// rounded to seconds, and has not asked for more, see Extend.
func Detached(ctx context.Context, unit string, most time.Duration, program string, args ...string) error {
	return run(ctx, "systemd-run", append([]string{"--quiet", "--collect", "--unit=" + unit,
		fmt.Sprintf("--property=RuntimeMaxSec=%.0f", most.Seconds()), "--property=NotifyAccess=all", "--property=TimeoutStopSec=10", spec.ProgramPath(program)}, args...)...)
}
