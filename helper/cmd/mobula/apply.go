package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
)

// patience is how long a command waits for another one to finish.
const patience = 20 * time.Second

// repairPatience is how long a change waits for a repair to finish, beside that.
const repairPatience = 2 * time.Minute

// defaultConfirmTimeout is how long a change may stay unconfirmed.
const defaultConfirmTimeout = 120 * time.Second

// workerUnit is the transient unit that carries a change out.
const workerUnit = "mobula-apply"

// staged is what the worker is handed.
type staged struct {
	Change  store.Change  `json:"change"`
	Timeout time.Duration `json:"timeout"`
	Older   bool          `json:"allow_older"`
	Alone   bool          `json:"allow_alone"`
	Rebuild bool          `json:"rebuild"`
	// Waiting are the processes through which the answer has to pass.
	Waiting []int `json:"waiting"`
	// PauseBefore is the number of a step, see pause.
	PauseBefore int `json:"pause_before,omitempty"`
}

func (s staged) options() transaction.Options {
	return transaction.Options{ConfirmTimeout: s.Timeout, AllowOlder: s.Older, AllowAlone: s.Alone, Rebuild: s.Rebuild}
}

// stepResult is the last step of apply: the worker tells what came out of it.
const stepResult = "leave the result"

func stagedPath() string { return filepath.Join(plan.RunDir, "staged.json") }
func resultPath() string { return filepath.Join(plan.RunDir, "result.json") }

// attemptPath is the file with the name of the last attempt to change the host.
func attemptPath() string { return filepath.Join(plan.RunDir, "attempt") }

var planCommand = command{
	name: "plan", arguments: "[--document FILE --host-id N] [--json]",
	summary: "print what apply would change, and change nothing",
	help: `Prints the difference between what this host has and what the network document
says, a line for each operation in the order in which apply would carry it out
(+ adds, ~ changes, - removes), then the private names that come, go or move, and
how many peers would be interrupted. Without
--document it compares with the confirmed document, which shows what somebody
else changed.

--json also lists the steps of apply and of confirm: what they do between and
around the operations.

exit codes: 0 nothing to do, 2 something to do, 1 failed.`,
	run: func(c *call) error {
		s, path, id := changeFlags(c)
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		h := c.host()
		change, err := c.readChange(h, *path, *id)
		if err != nil {
			return err
		}
		ops, err := h.Plan(c, change, s.options())
		if err != nil {
			return err
		}
		confirmed, err := h.Store.Confirmed()
		if err != nil {
			return err
		}
		o := newOutcome(confirmed, change, ops)
		if len(ops) > 0 {
			o.Steps = newSteps(h, change, ops)
		}
		if err := c.printOutcome(o, *asJSON); err != nil || len(ops) == 0 {
			return err
		}
		return exitError{code: exitDiffers}
	},
}

func changeFlags(c *call) (s *staged, path *string, id *uint16) {
	s = &staged{}
	path = c.flags.String("document", "", "network document; - is standard input (default: the confirmed one)")
	id = c.flags.Uint16("host-id", 0, "ID of this host in the document (default: the one it has)")
	c.flags.BoolVar(&s.Older, "allow-older", false, "take a document that is older than the running one")
	c.flags.BoolVar(&s.Alone, "allow-alone", false, "take a document without peers where there are some")
	c.flags.BoolVar(&s.Rebuild, "rebuild", false, "take everything down and build it again")
	return s, path, id
}

var applyCommand = command{
	name: "apply", arguments: "[--document FILE --host-id N] [--confirm-timeout D] [--json]",
	summary: "bring this host to what the network document says",
	help: `Carries out what plan prints, in a unit of its own that outlives the SSH session.
The way back is armed first: unless 'mobula confirm' follows within the confirm
timeout, the host is taken back to what it was. Where nothing differs, nothing
has to be confirmed. If an operation fails, the host is taken back at once.`,
	run: func(c *call) error {
		s, path, id := changeFlags(c)
		c.flags.DurationVar(&s.Timeout, "confirm-timeout", defaultConfirmTimeout, "how long the change may stay unconfirmed")
		attempt := c.flags.String("attempt", "", "name of this attempt; one that was taken back is not repeated")
		detach := c.flags.Bool("detach", false, "if the NIC has to move, wait only until it is about to")
		asJSON := c.flags.Bool("json", false, "print JSON")
		var p pause
		p.flag(c)
		worker := c.flags.Bool("worker", false, "carry out what was staged")
		_ = c.flags.MarkHidden("worker")
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		if *worker {
			return c.work()
		}
		h := c.host()
		change, err := c.readChange(h, *path, *id)
		if err != nil {
			return err
		}
		s.Change, s.PauseBefore = *change, p.before
		return c.apply(h, *s, *attempt, *detach, *asJSON)
	},
}

// apply plans, and has the worker do it if there is anything to do. What another
// apply has staged or left as its result is not touched as long as it counts.
func (c *call) apply(h *transaction.Host, s staged, attempt string, detach, asJSON bool) error {
	if c.underWay(s) {
		return c.await(newOutcome(nil, &s.Change, nil), s, detach, asJSON)
	}
	unlock, err := c.lockIdle("apply")
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.Waiting(c, &s.Change); err != nil {
		if errors.Is(err, transaction.ErrWaiting) {
			err = exitError{exitBusy, err}
		}
		return err
	}
	ops, err := h.Plan(c, &s.Change, s.options())
	if err != nil {
		return err
	}
	confirmed, err := h.Store.Confirmed()
	if err != nil {
		return err
	}
	o := newOutcome(confirmed, &s.Change, ops)
	pending, err := h.Store.Pending()
	if err != nil {
		return err
	}
	if len(ops) == 0 && pending == nil {
		if _, err := h.Apply(c, &s.Change, s.options()); err != nil {
			return err
		}
		return c.printOutcome(o, asJSON)
	}
	if pending == nil {
		if err := takenBack(attempt); err != nil {
			return err
		}
	}
	if err := store.WriteFile(attemptPath(), []byte(attempt), 0o600); err != nil {
		return err
	}
	if _, err := h.Programs.Settle(c); err != nil { // the worker is started from there
		return err
	}
	s.Waiting = asking()
	if err := stage(s); err != nil {
		return err
	}
	// From where the way back is armed on, that ends what hangs, and sooner.
	most := patience + repairPatience + s.Timeout + 2*patience
	if err := system.Detached(c, workerUnit, most, s.Change.Helper, "apply", "--worker"); err != nil {
		return err
	}
	unlock() // for the worker
	return c.await(o, s, detach, asJSON)
}

// underWay reports that the worker carries out this very change: whoever started
// it lost the connection, and asks again.
func (c *call) underWay(s staged) bool {
	other, err := readStaged()
	return err == nil && other.Change.Same(&s.Change) && other.Rebuild == s.Rebuild && system.Active(c, workerUnit)
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
	return fmt.Errorf("the change was taken back: %s; deploy again", why)
}

// await prints what comes out of what the worker does.
func (c *call) await(o outcome, s staged, detach, asJSON bool) error {
	result, err := waitForResult(c, s.Timeout, detach)
	if err != nil {
		return err
	}
	o.Changed, o.Confirm, o.Done = true, true, result.Done
	return c.printOutcome(o, asJSON)
}

// lockIdle is lock for whoever is going to start the worker: it also waits for a
// worker that was started and may not have the lock yet.
func (c *call) lockIdle(doing string) (unlock func(), err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if unlock, err = lockAfterRepair(c, doing, time.Until(deadline)); err != nil || !system.Active(c, workerUnit) {
			return unlock, err
		}
		unlock()
		if time.Now().After(deadline) {
			return nil, exitError{exitBusy, fmt.Errorf("this host is being changed by the unit %s; try again when it is done", workerUnit)}
		}
	}
}
