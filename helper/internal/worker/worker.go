// Package worker has commands that change a host take turns, and a change carried out by a
// process that outlives the SSH connection of who asked for it: a command stages what is to
// be done in a file and starts the worker as a unit of systemd's, which leaves its result in
// another file. Its files are in spec.RunDir; other versions of this program read them.
package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/transaction"
)

// Unit is the transient unit that carries a change out.
const Unit = "mobula-apply"

// Carrier carries a change out: a transaction.Host.
type Carrier interface {
	Apply(ctx context.Context, change *store.Change, o transaction.Options) ([]reconcile.Operation, error)
}

// Work carries out what was staged and leaves the result for whoever waits. The host that
// carrier returns has these two as Before and Leave.
func Work(ctx context.Context, turn *Turn, carrier func(before func(context.Context, string) error, leave func(context.Context) error) Carrier) error {
	s, err := readStaged()
	if err != nil {
		return err
	}
	if turn.unlock, err = lockAfterRepair(ctx, "apply", Patience); err == nil {
		defer turn.End()
		p := Pause{Before: s.PauseBefore}
		turn.ConfirmTimeout = s.Timeout
		if _, err = carrier(p.Step, s.leave).Apply(ctx, &s.Change, s.Options()); err == nil {
			err = p.Step(ctx, stepResult)
		}
	}
	result := Outcome{Generation: s.Change.Generation(), Done: err == nil}
	if err != nil {
		result.Error = err.Error()
	}
	return errors.Join(err, writeResult(result))
}

// While the answer is on its way the NIC stays: until who asked has ended, and a
// little longer, but not for an operator's shell, which never ends.
const (
	mostLeaveTime = 5 * time.Second
	transitTime   = time.Second
)

// leave tells whoever waits that connections are about to end: all that can be
// done before is done. It is transaction.Host.Leave.
func (s Staged) leave(context.Context) error {
	err := writeResult(Outcome{Generation: s.Change.Generation(), Reconnect: true})
	for deadline := time.Now().Add(mostLeaveTime); anyRuns(s.Waiting) && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(transitTime)
	return err
}

// asking returns this process and those above it up to sshd: the answer passes
// through all of them, sudo and Ansible's among them.
func asking() []int {
	var all []int
	for pid := os.Getpid(); pid > 1; {
		name, parent, err := process(pid)
		if err != nil || strings.HasPrefix(name, "sshd") {
			break
		}
		all = append(all, pid)
		pid = parent
	}
	return all
}

// process returns the name and the parent of a process, see proc(5).
func process(pid int) (name string, parent int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	text := string(data)
	begin, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')') // the name may hold both
	if begin < 0 || end < begin {
		return "", 0, fmt.Errorf("process %d: found %q", pid, text)
	}
	_, err = fmt.Sscanf(text[end+1:], " %c %d", new(rune), &parent)
	return text[begin+1 : end], parent, err
}

func anyRuns(processes []int) bool {
	for _, pid := range processes {
		if fileExists(fmt.Sprintf("/proc/%d", pid)) {
			return true
		}
	}
	return false
}

// Pause lets a change stand still before one of its steps, for tests that
// interrupt it there. The zero Pause never does.
type Pause struct {
	Before int // number of the step, from 1; 0: none
	taken  int
}

// pausePath holds "NUMBER STEP\n" while a change stands still. Whoever removes
// it lets the change go on.
func pausePath() string { return filepath.Join(spec.RunDir, "paused") }

// Step is transaction.Host.Before.
func (p *Pause) Step(ctx context.Context, name string) error {
	if p.taken++; p.taken != p.Before {
		return nil
	}
	if err := os.WriteFile(pausePath(), []byte(fmt.Sprintf("%d %s\n", p.taken, name)), 0o600); err != nil {
		return err
	}
	for fileExists(pausePath()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
