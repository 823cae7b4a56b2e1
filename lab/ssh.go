package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// sshOptions keep the lab's machines out of the user's own SSH configuration.
func (l *Lab) sshOptions() []string {
	return []string{
		"-F", "none", "-i", l.Key(),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=5",
		// The default key exchange of newer versions is slow on an emulated processor.
		"-o", "KexAlgorithms=curve25519-sha256",
	}
}

// shared are the options of a connection that later commands use as well: an emulated processor
// takes seconds to shake hands.
func (h *Host) shared() []string {
	return []string{"-o", "ControlMaster=auto", "-o", "ControlPersist=300", "-o", "ControlPath=" + h.control()}
}

func (h *Host) control() string { return h.lab.path(h.Name + ".%r.ssh") } // %r: the remote user

// Disconnect ends the connections that commands share, so that the next one has to get in anew.
func (h *Host) Disconnect() {
	for _, user := range []string{"root", "ops"} {
		// Where there is no connection this fails, which is as good.
		_ = exec.Command("ssh", "-F", "none", "-o", "ControlPath="+h.control(), "-O", "exit", user+"@"+h.Address).Run()
	}
}

// SSH prepares an ssh client on the deployer; args are ssh's, the command included.
func (h *Host) SSH(ctx context.Context, args ...string) *exec.Cmd {
	args = append(append(append(h.lab.sshOptions(), h.shared()...), "root@"+h.Address), args...)
	return Command(ctx, h.lab.Namespace(), "ssh", args...)
}

// Run runs a bash script as root and returns its standard output. The script ends at the first
// command that fails (set -e). The error carries standard error; ExitCode finds the exit code in it.
func (h *Host) Run(ctx context.Context, script string) (string, error) {
	return h.runAs(ctx, "root", script, "")
}

// RunAs is Run as another user, with stdin.
func (h *Host) RunAs(ctx context.Context, user, script, stdin string) (string, error) {
	return h.runAs(ctx, user, script, stdin)
}

func (h *Host) runAs(ctx context.Context, user, script, stdin string) (string, error) {
	args := append([]string{"netns", "exec", h.lab.Namespace(), "ssh"}, h.lab.sshOptions()...)
	args = append(args, h.shared()...)
	if stdin == "" {
		args = append(args, "-n")
	}
	args = append(args, user+"@"+h.Address, "bash -ec "+shellQuote(script))
	out, err := outputWithInput(ctx, stdin, "ip", args...)
	if err != nil {
		return out, fmt.Errorf("on %s: %s: %w", h.Name, abbreviate(script), err)
	}
	return out, nil
}

// ExitCode returns the exit code in an error of Run; 255 when SSH itself failed, -1 when there is none.
func ExitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// WaitSSH waits until the machine answers over SSH.
func (h *Host) WaitSSH(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 45*time.Second)
		_, err := h.Run(attempt, "true")
		cancel()
		if err == nil {
			return nil
		}
		if !h.Running() {
			log, _ := os.ReadFile(h.lab.path(h.Name + ".qemu.log"))
			return fmt.Errorf("%s has no power: %s", h.Name, log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for SSH: %w; last: %v\nconsole: %s", ctx.Err(), err, h.serialTail(15))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Reboot asks the machine to reboot and waits until it answers SSH again, with a new boot ID.
func (h *Host) Reboot(ctx context.Context) error {
	before, err := h.BootID(ctx)
	if err != nil {
		return err
	}
	// The connection may break before the command has ended.
	if _, err := h.Run(ctx, "systemctl --no-block reboot"); err != nil && ExitCode(err) != 255 {
		return err
	}
	h.Disconnect()
	for {
		if now, err := h.BootID(ctx); err == nil && now != before {
			return nil
		}
		h.Disconnect() // from the machine that goes down
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the reboot: %w\nconsole: %s", ctx.Err(), h.serialTail(15))
		case <-time.After(time.Second):
		}
	}
}

// BootID differs for each boot of the machine.
func (h *Host) BootID(ctx context.Context) (string, error) {
	attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := h.Run(attempt, "cat /proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(out), err
}

// CopyTo copies a file from this machine to the host.
func (h *Host) CopyTo(ctx context.Context, local, remote string, mode os.FileMode) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	// Written beside and moved, because a program that runs cannot be written to.
	cmd := h.SSH(ctx, fmt.Sprintf("cat >%[1]s.new && chmod %[2]o %[1]s.new && mv %[1]s.new %[1]s", remote, mode.Perm()))
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copying %s to %s:%s: %w: %s", local, h.Name, remote, err, out)
	}
	return nil
}

func abbreviate(script string) string {
	script = strings.Join(strings.Fields(script), " ")
	if len(script) > 100 {
		script = script[:100] + "…"
	}
	return script
}

// serialTail returns the last lines of the console.
func (h *Host) serialTail(lines int) string {
	data, err := os.ReadFile(h.SerialLog())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
