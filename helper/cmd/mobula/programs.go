package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/system"
)

// programs are the versions of this program on the host. It is transaction.Programs.
type programs struct {
	*system.Programs
	call *call
}

func (c *call) ofHost() programs { return programs{system.NewPrograms(), c} }

// locked notes how the lock that the command holds is given up.
func (c *call) locked(unlock func()) { c.unlock = unlock }

// Yield implements transaction.Programs. The lock goes to the other program and
// comes back; plan.Helper leads to it from now on.
func (p programs) Yield(ctx context.Context, id, command string) error {
	if err := p.Lead(id); err != nil {
		p.call.log.Warn("the program in force", "error", err)
	}
	if p.call.unlock != nil {
		p.call.unlock()
	}
	path := filepath.Join(p.Root, plan.ProgramPath(id))
	p.call.log.Info("another program does it", "program", path, "command", command)
	other := exec.CommandContext(ctx, path, command)
	other.Stdout, other.Stderr = p.call.stdout, p.call.stderr
	other.Cancel = func() error { return other.Process.Signal(syscall.SIGTERM) }
	err := other.Run()
	if unlock, lockErr := lock(ctx, command, patience); lockErr == nil {
		p.call.locked(unlock)
	} else {
		err = errors.Join(err, lockErr)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitError{exit.ExitCode(), fmt.Errorf("%s %s: %w", path, command, err)}
	}
	return err
}
