package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mobula/helper/internal/spec"
)

const (
	// Patience is how long a command waits for another one to finish.
	Patience = 20 * time.Second
	// Standstill is how long something may take that has no limit of its own; what takes
	// longer hangs. It is what the units give a program before it has said anything.
	Standstill = 3 * time.Minute
)

// Busy is the error of who cannot change the host now and may try again later.
type Busy struct{ Err error }

func (b Busy) Error() string { return b.Err.Error() }
func (b Busy) Unwrap() error { return b.Err }

// Holder is who holds the lock, and the error of who does not get it.
type Holder struct {
	Doing string    `json:"doing"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

func (by Holder) Error() string {
	return fmt.Sprintf("this host is being changed by 'mobula %s' (process %d) since %s; try again when it is done",
		by.Doing, by.PID, by.Since.Format(time.TimeOnly))
}

func lockPath() string { return filepath.Join(spec.RunDir, "lock") }

// Lock makes sure that one process at a time changes the host. It waits for at
// most patience; its error is a Busy Holder then. The lock goes with the process, however
// it ends.
func Lock(ctx context.Context, doing string, patience time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(spec.RunDir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			var by Holder
			_ = json.NewDecoder(file).Decode(&by) // tells who, if it can
			file.Close()
			return nil, Busy{by}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if data, err := json.Marshal(Holder{doing, os.Getpid(), time.Now()}); err == nil {
		_ = file.Truncate(0) // only for the reader of the message above
		_, _ = file.WriteAt(data, 0)
	}
	return func() { file.Close() }, nil
}

// lockAfterRepair is Lock for a change: it waits for a repair, which takes its time on a
// busy host and ends by itself, as long as that gets something done.
func lockAfterRepair(ctx context.Context, doing string, patience time.Duration) (unlock func(), err error) {
	unlock, err = Lock(ctx, doing, patience)
	for by := (Holder{}); errors.As(err, &by) && by.Doing == "repair" && time.Since(lastProgress()) < Standstill; {
		unlock, err = Lock(ctx, doing, patience)
	}
	return unlock, err
}

// Locked reports that somebody is changing the host.
func Locked() bool {
	file, err := os.Open(lockPath())
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// mayBeEnded reports that it is no boot, and no rollback that got something done within this
// time.
func (by Holder) mayBeEnded(idle time.Duration) bool {
	return by.Doing != "boot" && (by.Doing != "rollback" || idle > Standstill)
}

// evict ends whoever holds the lock, so that a helper that hangs cannot keep the
// way back from its work. A boot has a limit of its own, set by systemd, and ends
// with the host reachable. A rollback that gets something done is left to it.
func evict(log *slog.Logger) error {
	data, err := os.ReadFile(lockPath())
	if err != nil {
		return err
	}
	var who Holder
	if err := json.Unmarshal(data, &who); err != nil {
		return fmt.Errorf("%s: %w", lockPath(), err)
	}
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", who.PID))
	program = strings.TrimSuffix(program, " (deleted)")
	if !who.mayBeEnded(time.Since(lastProgress())) || program != spec.Helper && spec.ProgramID(program) == "" {
		return nil // or it has just ended
	}
	log.Warn("ending what hangs and holds the lock", "doing", who.Doing, "process", who.PID, "since", who.Since)
	return syscall.Kill(who.PID, syscall.SIGKILL)
}
