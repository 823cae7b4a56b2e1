package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"mobula/helper/internal/store"
	"mobula/helper/internal/transaction"
)

// Host plans a change: a transaction.Host.
type Host interface {
	Waiting(ctx context.Context, change *store.Change) error
	Plan(ctx context.Context, change *store.Change, o transaction.Options) (*transaction.Plan, error)
	Keep(ctx context.Context, p *transaction.Plan) error
}

// Starter has a worker carry out changes.
type Starter struct {
	Host  Host
	Store *store.Store
	// Settle puts this program where systemd starts it from.
	Settle func(ctx context.Context) (id string, err error)
	// Active reports that systemd runs a unit.
	Active func(ctx context.Context, unit string) bool
	// Start has systemd run a program of this ID as a unit, for at most this time.
	Start func(ctx context.Context, unit string, most time.Duration, id string, args ...string) error
}

// Apply plans, and has the worker do it if there is anything to do. What another
// Apply has staged or left as its result is not touched as long as it counts. If detached,
// it waits only until the NIC is about to move, where it has to. An attempt of the same
// name ("": none) that was rolled back is not repeated.
func (w Starter) Apply(ctx context.Context, s Staged, attempt string, detached bool) (*Outcome, error) {
	if w.underWay(ctx, s) {
		return await(ctx, NewOutcome(nil, &s.Change, nil), s, detached)
	}
	unlock, err := w.lockIdle(ctx, "apply")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := w.Host.Waiting(ctx, &s.Change); err != nil {
		if errors.Is(err, transaction.ErrWaiting) {
			err = Busy{err}
		}
		return nil, err
	}
	plan, err := w.Host.Plan(ctx, &s.Change, s.Options())
	if err != nil {
		return nil, err
	}
	confirmed, err := w.Store.Confirmed()
	if err != nil {
		return nil, err
	}
	o := NewOutcome(confirmed, &s.Change, plan.Operations)
	pending, err := w.Store.Pending()
	if err != nil {
		return nil, err
	}
	if len(plan.Operations) == 0 && pending == nil {
		return &o, w.Host.Keep(ctx, plan)
	}
	if pending == nil {
		if err := takenBack(attempt); err != nil {
			return nil, err
		}
	}
	if err := w.start(ctx, s, attempt); err != nil {
		return nil, err
	}
	unlock() // for the worker
	return await(ctx, o, s, detached)
}

func (w Starter) start(ctx context.Context, s Staged, attempt string) error {
	if err := store.WriteFile(attemptPath(), []byte(attempt), 0o600); err != nil {
		return err
	}
	if _, err := w.Settle(ctx); err != nil { // the worker is started from there
		return err
	}
	s.Waiting = asking()
	if err := stage(s); err != nil {
		return err
	}
	// From where the rollback timer is started on, that ends what hangs, and sooner.
	return w.Start(ctx, Unit, s.Timeout+Standstill, s.Change.Helper, "apply", "--worker")
}

// underWay reports that the worker carries out this very change: whoever started
// it lost the connection, and asks again.
func (w Starter) underWay(ctx context.Context, s Staged) bool {
	other, err := readStaged()
	return err == nil && other.Change.Same(&s.Change) && other.Rebuild == s.Rebuild && w.Active(ctx, Unit)
}

// lockIdle is Lock for whoever is going to start the worker: it also waits for a
// worker that was started and may not have the lock yet.
func (w Starter) lockIdle(ctx context.Context, doing string) (unlock func(), err error) {
	for deadline := time.Now().Add(Patience); ; time.Sleep(100 * time.Millisecond) {
		if unlock, err = lockAfterRepair(ctx, doing, time.Until(deadline)); err != nil || !w.Active(ctx, Unit) {
			return unlock, err
		}
		unlock()
		if time.Now().After(deadline) {
			return nil, Busy{fmt.Errorf("this host is being changed by the unit %s; try again when it is done", Unit)}
		}
	}
}

// takenBack returns an error if this very attempt was made before. A connection
// that broke is made again at any time, also when the change that broke it has been
// taken back, and must not bring it back.
func takenBack(attempt string) error {
	last, err := os.ReadFile(attemptPath())
	if err != nil || attempt == "" || attempt != string(last) {
		return nil
	}
	why := "nobody confirmed it in time"
	if result, err := readResult(); err == nil && result.Error != "" {
		why = result.Error
	}
	return fmt.Errorf("the change was rolled back: %s; deploy again", why)
}

// await returns what comes out of what the worker does.
func await(ctx context.Context, o Outcome, s Staged, detached bool) (*Outcome, error) {
	result, err := waitForResult(ctx, s.Timeout, detached)
	if err != nil {
		return nil, err
	}
	o.Changed, o.Confirm, o.Done = true, true, result.Done
	return &o, nil
}

// waitForResult waits until the worker is done, as long as it gets something done within
// that time; if leaving, only until the NIC is about to move.
func waitForResult(ctx context.Context, most time.Duration, leaving bool) (*Outcome, error) {
	for began := time.Now(); ; {
		if result, err := readResult(); err == nil {
			if result.Error != "" {
				return nil, fmt.Errorf("%s\n'journalctl -u %s' tells more", result.Error, Unit)
			}
			if result.Done || leaving {
				return result, nil
			}
		}
		if time.Since(began) > most && time.Since(lastProgress()) > most {
			return nil, fmt.Errorf("the change got nowhere for %v; 'journalctl -u %s' tells more", most, Unit)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the change goes on without anybody who waits; 'mobula confirm' keeps it, 'mobula rollback' rolls it back", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Finished returns an error unless what was staged last, if anything was, is done and can be
// confirmed. The caller holds the lock.
func Finished(ctx context.Context, active func(ctx context.Context, unit string) bool) error {
	result, err := readResult()
	switch {
	case err == nil && result.Error != "":
		return fmt.Errorf("the host was rolled back: %s; 'journalctl -u %s' tells more, and a deploy tries again", result.Error, Unit)
	case err == nil || !fileExists(stagedPath()):
		return nil
	case active(ctx, Unit): // and does not have the lock yet
		return Busy{transaction.ErrUnfinished}
	}
	return fmt.Errorf("the change was broken off, and is rolled back when its confirm timeout is over; 'journalctl -u %s' tells more", Unit)
}
