package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"mobula/helper/internal/store"
)

// parseStaged takes only what a command can have staged.
func parseStaged(data []byte) (s staged, err error) {
	if err := json.Unmarshal(data, &s); err != nil {
		return s, err
	}
	return s, s.Change.Validate()
}

func readStaged() (staged, error) {
	data, err := os.ReadFile(stagedPath())
	if err != nil {
		return staged{}, err
	}
	s, err := parseStaged(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", stagedPath(), err)
	}
	return s, err
}

func stage(s staged) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.Remove(resultPath()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return store.WriteFile(stagedPath(), data, 0o600)
}

// While the answer is on its way the NIC stays: until who asked has ended, and a
// little longer, but not for an operator's shell, which never ends.
const (
	mostLeaveTime = 5 * time.Second
	transitTime   = time.Second
)

// leave tells whoever waits that connections are about to end: all that can be
// done before is done. It is transaction.Host.Leave.
func (s staged) leave(context.Context) error {
	err := writeResult(outcome{Generation: s.Change.Generation(), Reconnect: true})
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

func writeResult(o outcome) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return store.WriteFile(resultPath(), data, 0o600)
}

// work carries out what was staged and leaves the result for whoever waits.
func (c *call) work() error {
	s, err := readStaged()
	if err != nil {
		return err
	}
	unlock, err := lockAfterRepair(c, "apply", patience)
	if err == nil {
		c.locked(unlock)
		defer c.unlock()
		p := pause{before: s.PauseBefore}
		h := c.host()
		h.Before, h.Leave = p.step, s.leave
		if _, err = h.Apply(c, &s.Change, s.options()); err == nil {
			err = p.step(c, stepResult)
		}
	}
	result := outcome{Generation: s.Change.Generation(), Done: err == nil}
	if err != nil {
		result.Error = err.Error()
	}
	return errors.Join(err, writeResult(result))
}

func readResult() (*outcome, error) {
	data, err := os.ReadFile(resultPath())
	if err != nil {
		return nil, err
	}
	return parseOutcome(data)
}

func parseOutcome(data []byte) (*outcome, error) {
	var result outcome
	return &result, json.Unmarshal(data, &result)
}

// waitForResult waits until the worker is done; if leaving, only until the NIC
// is about to move.
func waitForResult(c *call, most time.Duration, leaving bool) (*outcome, error) {
	deadline := time.Now().Add(most)
	for {
		if result, err := readResult(); err == nil {
			if result.Error != "" {
				return nil, errors.New(result.Error)
			}
			if result.Done || leaving {
				return result, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the change was not carried out within %v; 'journalctl -u %s' tells more", most, workerUnit)
		}
		select {
		case <-c.Done():
			return nil, c.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
