package system

import (
	"context"
	"fmt"
	"time"

	"mobula/helper/internal/plan"
)

// Alarm arms the way back: a systemd timer, which needs no agent, no SSH and no
// network. It does not survive a reboot and need not: boot builds what was
// confirmed.
type Alarm struct{}

const alarmUnit = "mobula-rollback"

// Arm starts the timer anew.
func (a Alarm) Arm(ctx context.Context, after time.Duration) error {
	if err := a.Disarm(ctx); err != nil {
		return err
	}
	var err error
	for try := 0; try < armTries; try++ {
		if err = armOnce(ctx, after); err == nil {
			return nil
		}
		select { // systemd may not have forgotten the unit that was just stopped
		case <-ctx.Done():
			return err
		case <-time.After(armPause):
		}
	}
	return err
}

const (
	armTries = 8
	armPause = 500 * time.Millisecond
)

func armOnce(ctx context.Context, after time.Duration) error {
	return run(ctx, "systemd-run", "--quiet", "--collect", "--unit="+alarmUnit, fmt.Sprintf("--on-active=%d", int(after.Seconds())),
		"--timer-property=AccuracySec=100ms", "--property=Restart=on-failure", "--property=RestartSec=3", // slower than what systemd takes for a loop and ends
		"--property=RuntimeMaxSec=180", // one that hangs is begun again
		plan.Helper, "rollback")
}

// Disarm stops the timer, not a rollback that already runs.
func (Alarm) Disarm(ctx context.Context) error {
	if !Active(ctx, alarmUnit+".timer") {
		return nil
	}
	return systemctl(ctx, "stop", alarmUnit+".timer")
}

// Armed reports that the timer or the rollback that it started runs.
func (Alarm) Armed(ctx context.Context) bool {
	return Active(ctx, alarmUnit+".timer") || Active(ctx, alarmUnit+".service")
}

// Detached runs the helper with args as a transient unit, so that it outlives
// the SSH session that started it.
func Detached(ctx context.Context, unit string, args ...string) error {
	return run(ctx, "systemd-run", append([]string{"--quiet", "--collect", "--unit=" + unit, plan.Helper}, args...)...)
}
