package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// output runs a program and returns its standard output; the error carries standard error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	return outputWithInput(ctx, "", name, args...)
}

func outputWithInput(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// startProcess starts a program that outlives this process, its output going to logFile.
// pidFile then names it for endProcess.
func startProcess(pidFile, logFile, name string, args ...string) error {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // or it stays a zombie for as long as this process lives
	id, err := processID(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s ended at once; see %s", name, logFile)
	}
	return os.WriteFile(pidFile, []byte(id), 0o600)
}

// processID names a process so that a later one with the same number is not taken for it:
// the number and the start time in the kernel's ticks (proc(5), stat, field 22). A zombie
// has ended when its other threads have, too: they keep its files open, and locked.
func processID(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name and may hold anything, also parentheses.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if threads := fields[17]; fields[0] == "Z" && (threads == "0" || threads == "1") {
		return "", fs.ErrNotExist
	}
	return fmt.Sprintf("%d %s", pid, fields[19]), nil
}

// livePID returns the number of the process that pidFile names, 0 if it has ended.
func livePID(pidFile string) int {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return 0
	}
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		return 0
	}
	if id, err := processID(pid); err != nil || id != string(data) {
		return 0
	}
	return pid
}

// ends waits until the process that pidFile names has gone, for 10 s at most.
func ends(pidFile string) bool {
	for deadline := time.Now().Add(10 * time.Second); livePID(pidFile) != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// endProcess kills the process that pidFile names and waits until it has gone.
func endProcess(pidFile string) error {
	if pid := livePID(pidFile); pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending process %d of %s: %w", pid, pidFile, err)
		}
		if !ends(pidFile) {
			return fmt.Errorf("process %d of %s does not end", pid, pidFile)
		}
	}
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
