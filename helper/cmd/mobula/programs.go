package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/system"
)

// programs are the versions of this program on the host. It is transaction.Programs.
type programs struct {
	*system.Programs
	call *call
}

func (c *call) ofHost() programs { return programs{system.NewPrograms(), c} }

// Yield implements transaction.Programs. The lock goes to the other program and
// comes back; spec.Helper leads to it from now on.
func (p programs) Yield(ctx context.Context, id, command string) error {
	if err := p.Lead(id); err != nil {
		p.call.log.Warn("the program in force", "error", err)
	}
	path := filepath.Join(p.Root, spec.ProgramPath(id))
	p.call.log.Info("another program does it", "program", path, "command", command)
	other := exec.CommandContext(ctx, path, command)
	other.Stdout, other.Stderr = p.call.stdout, p.call.stderr
	other.Cancel = func() error { return other.Process.Signal(syscall.SIGTERM) }
	err := p.call.turn.Lend(ctx, command, other.Run)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitError{exit.ExitCode(), fmt.Errorf("%s %s: %w", path, command, err)}
	}
	return err
}
