package main

import (
	"errors"
	"fmt"
	"os"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/worker"
)

func confirmCommand() command {
	return command{
		name: "confirm", arguments: "[--generation G] [--json]",
		summary: "keep the change that was applied",
		help: `Makes the applied change the one that boot builds, and cancels the rollback timer. Run
it over a new SSH connection: that it arrives is the proof that you still get in.
Confirming a generation that is confirmed already succeeds. While the change is still carried
out it exits with 75: try again.`,
		example:   "mobula confirm",
		exits:     []exit{busyExit},
		needsRoot: true,
		define: func(c *call) func() error {
			generation := c.flags.String("generation", "", "confirm this `GENERATION` only")
			asJSON := c.jsonFlag()
			c.offer("generation", waiting)
			var p worker.Pause
			c.pauseFlag(&p.Before)
			return func() error {
				change, err := c.confirm(*generation, &p)
				if err != nil {
					return err
				}
				if *asJSON {
					return c.printJSON(confirmReport{change.Generation()})
				}
				_, err = fmt.Fprintf(c.stdout, "generation %s is confirmed\n", change.Generation())
				return err
			}
		},
	}
}

// confirmReport is what confirm prints as JSON.
type confirmReport struct {
	Generation string `json:"generation"`
}

// waiting is the generation that waits for confirmation, to complete.
func waiting() []string {
	pending, err := store.New(spec.StateDir).Pending()
	if err != nil || pending == nil {
		return nil
	}
	return []string{pending.Generation()}
}

// confirm never waits: whoever waited could confirm over a connection that died
// meanwhile.
func (c *call) confirm(generation string, p *worker.Pause) (*store.Change, error) {
	unlock, err := worker.Lock(c, "confirm", 0)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := worker.Finished(c, system.Active); err != nil {
		return nil, err
	}
	h := c.host()
	h.Before = p.Step
	change, err := h.Confirm(c, generation)
	if errors.Is(err, transaction.ErrUnfinished) {
		return nil, worker.Busy{Err: err}
	}
	if err == nil {
		worker.Forget()
		if change.Down {
			_ = os.Remove(clockPath)
		}
	}
	return change, err
}

func rollbackCommand() command {
	return command{
		name: "rollback", summary: "roll back the change that is not confirmed yet",
		help: `Rolls the host back to the last confirmed document, or to what it was before
Mobula if there is none. The timer runs this very command. Without a change
that waits it does nothing. Another command that changes the host and has not
ended after ` + worker.Patience.String() + ` is killed, but not a rollback that gets something done.`,
		example:   "mobula rollback",
		exits:     []exit{busyExit},
		needsRoot: true,
		define: func(c *call) func() error {
			return func() error {
				if err := c.turn.TakeOver(c, "rollback"); err != nil {
					return err
				}
				defer c.turn.End()
				worker.Forget()
				return c.host().Rollback(c)
			}
		},
	}
}

func downCommand() command {
	return command{
		name: "down", arguments: "[--confirm-timeout D] [--detach] [--json]",
		summary: "take Mobula off this host",
		help: `Removes everything that apply made. Where the NIC has moved, the host gets it back
with the addresses, routes and resolvers it had. Like every change it has to be
confirmed within the confirm timeout. The keys stay in ` + spec.StateDir + `.`,
		example:   "mobula down\nmobula confirm",
		exits:     []exit{busyExit},
		needsRoot: true,
		define: func(c *call) func() error {
			s := worker.Staged{}
			c.flags.DurationVar(&s.Timeout, "confirm-timeout", defaultConfirmTimeout, "how long the change may stay unconfirmed")
			detach := c.flags.Bool("detach", false, "if the NIC has to move, wait only until it is about to")
			asJSON := c.jsonFlag()
			c.pauseFlag(&s.PauseBefore)
			return func() error {
				h := c.host()
				s.Change = store.Change{Down: true, Helper: h.Programs.Self()}
				if facts, err := h.Known(); err != nil || facts == nil {
					if err == nil {
						err = c.printOutcome(worker.NewOutcome(nil, &s.Change, nil), *asJSON)
					}
					return err // Mobula is not on this host
				}
				return c.apply(h, s, "", *detach, *asJSON)
			}
		},
	}
}

// networkPre is reached as soon as the boot's first try has ended.
const networkPre = "network-pre.target"

func bootCommand() command {
	return command{
		name: "boot", summary: "build the network when the host boots",
		help: `Run by ` + spec.UnitBoot + `: builds the last confirmed document from local state. A
change that was not confirmed before the reboot is dropped. systemd begins it again
until the NIC is there. If the network cannot be built, a NIC that has moved goes
back to the host and the exit code is 1.`,
		example:   "systemctl start " + spec.UnitBoot,
		exits:     []exit{{exitBusy, "not now: somebody else is changing this host, or its NIC is not there yet; systemd tries again"}},
		needsRoot: true,
		define: func(c *call) func() error {
			return func() error {
				if err := c.turn.Begin(c, "boot", worker.Patience); err != nil {
					return err
				}
				defer c.turn.End()
				err := c.host().Boot(c, system.Active(c, networkPre), links.FindNIC)
				if errors.Is(err, transaction.ErrBeginAgain) || err != nil && c.Err() != nil {
					return exitError{exitBusy, err} // systemd does
				}
				return err
			}
		},
	}
}
