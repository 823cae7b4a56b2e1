package worker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"mobula/helper/internal/system"
)

// Turn is a command's turn to change the host: whoever waits for its end, systemd and other
// commands, hears what gets done. The zero Turn with a Log holds no lock.
type Turn struct {
	Log *slog.Logger
	// ConfirmTimeout is that of the change that is carried out; 0: there is none.
	ConfirmTimeout time.Duration

	unlock func()    // nil: no lock is held
	told   time.Time // when progress was told last
}

// Begin takes the lock as Lock does.
func (t *Turn) Begin(ctx context.Context, doing string, patience time.Duration) error {
	unlock, err := Lock(ctx, doing, patience)
	t.unlock = unlock
	return err
}

// TakeOver is Begin for the way back: another command that hangs is killed.
func (t *Turn) TakeOver(ctx context.Context, doing string) error {
	if err := t.Begin(ctx, doing, Patience); err == nil {
		return nil
	}
	if err := evict(t.Log); err != nil {
		return err
	}
	return t.Begin(ctx, doing, Patience)
}

// End gives the lock up.
func (t *Turn) End() {
	if t.unlock != nil {
		t.unlock()
	}
	t.unlock = nil
}

// Lend has another program change the host: it gets the lock, if there is one, and this
// turn has the lock when it is done.
func (t *Turn) Lend(ctx context.Context, doing string, other func() error) error {
	t.End()
	stop := t.passOnProgress()
	err := other()
	stop()
	return errors.Join(err, t.Begin(ctx, doing, Patience))
}

// Progress is transaction.Host.Progress: systemd gives the unit more time, and so does who
// waits for the lock. A change has a clock of its own that ends what hangs, and that comes
// first.
func (t *Turn) Progress(next time.Duration) {
	now := time.Now()
	if next == 0 && now.Sub(t.told) < time.Second { // thousands of things get done within seconds
		return
	}
	t.told = now
	t.extend(max(next, t.ConfirmTimeout) + Standstill)
	if t.unlock != nil {
		_ = os.Chtimes(lockPath(), now, now) // for those who wait; without them it means nothing
	}
}

// extend asks systemd for time.
func (t *Turn) extend(by time.Duration) {
	if err := system.Extend(by); err != nil {
		t.Log.Warn("asking systemd for time", "error", err)
	}
}

// lastProgress is when who holds the lock got something done.
func lastProgress() (last time.Time) {
	if info, err := os.Stat(lockPath()); err == nil {
		last = info.ModTime()
	}
	return last
}

// passOnEvery is how often another program's progress is looked at.
const passOnEvery = 5 * time.Second

// passOnProgress has systemd, which hears the first process of a unit alone, know what
// another program, that this one waits for, gets done.
func (t *Turn) passOnProgress() (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(passOnEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if left := Standstill - time.Since(lastProgress()); left > 0 {
				t.extend(left)
			}
		}
	}()
	return func() { close(done) }
}
