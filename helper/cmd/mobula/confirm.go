package main

import (
	"errors"
	"fmt"
	"os"

	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
)

var confirmCommand = command{
	name: "confirm", arguments: "[--generation G]",
	summary: "keep the change that was applied",
	help: `Makes the applied change the one that boot builds, and disarms the way back. Run
it over a new SSH connection: that it arrives is the proof that you still get in.
Confirming what is confirmed already succeeds. While the change is still carried
out it exits with 75: try again.`,
	run: func(c *call) error {
		generation := c.flags.String("generation", "", "confirm this generation only")
		asJSON := c.flags.Bool("json", false, "print JSON")
		var p pause
		p.flag(c)
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		change, err := c.confirm(*generation, &p)
		if err != nil {
			return err
		}
		if *asJSON {
			return c.printJSON(map[string]string{"generation": change.Generation()})
		}
		_, err = fmt.Fprintf(c.stdout, "generation %s is confirmed\n", change.Generation())
		return err
	},
}

// confirm never waits: whoever waited could confirm over a connection that died
// meanwhile.
func (c *call) confirm(generation string, p *pause) (*store.Change, error) {
	unlock, err := lock(c, "confirm", 0)
	if err != nil {
		return nil, err
	}
	defer unlock()
	result, err := readResult()
	switch {
	case err == nil && result.Error != "":
		return nil, fmt.Errorf("the host was taken back: %s", result.Error)
	case err == nil || !fileExists(stagedPath()):
	case system.Active(c, workerUnit): // and does not have the lock yet
		return nil, exitError{exitBusy, transaction.ErrUnfinished}
	default:
		return nil, fmt.Errorf("the change was broken off, and is taken back when its confirm timeout is over; 'journalctl -u %s' tells more", workerUnit)
	}
	h := c.host()
	h.Before = p.step
	change, err := h.Confirm(c, generation)
	if errors.Is(err, transaction.ErrUnfinished) {
		return nil, exitError{exitBusy, err}
	}
	if err == nil {
		_ = os.Remove(stagedPath()) // done with
		if change.Down {
			_ = os.Remove(clockPath)
		}
	}
	return change, err
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

var rollbackCommand = command{
	name: "rollback", summary: "take back the change that is not confirmed yet",
	help: `Takes the host back to the last confirmed document, or to what it was before
Mobula if there is none. The armed timer runs this very command. Without a change
that waits it does nothing. Another command that changes the host and has not
ended after ` + patience.String() + ` is killed.`,
	run: func(c *call) error {
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		unlock, err := lock(c, "rollback", patience)
		if err != nil {
			if err := evict(c.log); err != nil {
				return err
			}
			if unlock, err = lock(c, "rollback", patience); err != nil {
				return err
			}
		}
		c.locked(unlock)
		defer c.unlock()
		_ = os.Remove(stagedPath()) // nothing of it is left to do
		return c.host().Rollback(c)
	},
}

var downCommand = command{
	name: "down", arguments: "[--confirm-timeout D] [--detach] [--json]",
	summary: "take Mobula off this host",
	help: `Gives the NIC back to the host with the addresses, routes and resolvers it had,
and removes everything that apply made. Like every change it has to be confirmed
within the confirm timeout. The keys stay in ` + plan.StateDir + `.`,
	run: func(c *call) error {
		h := c.host()
		s := staged{Change: store.Change{Down: true, Helper: h.Programs.Self()}}
		c.flags.DurationVar(&s.Timeout, "confirm-timeout", defaultConfirmTimeout, "how long the change may stay unconfirmed")
		detach := c.flags.Bool("detach", false, "if the NIC has to move, wait only until it is about to")
		asJSON := c.flags.Bool("json", false, "print JSON")
		var p pause
		p.flag(c)
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		s.PauseBefore = p.before
		if facts, err := h.Known(); err != nil || facts == nil {
			if err == nil {
				err = c.printOutcome(newOutcome(nil, &s.Change, nil), *asJSON)
			}
			return err // Mobula is not on this host
		}
		return c.apply(h, s, "", *detach, *asJSON)
	},
}

// networkPre is reached as soon as the boot's first try has ended.
const networkPre = "network-pre.target"

var bootCommand = command{
	name: "boot", summary: "build the network when the host boots",
	help: `Run by ` + plan.UnitBoot + `: builds the last confirmed document from local state. A
change that was not confirmed before the reboot is dropped. systemd begins it again
until the NIC is there. If the network cannot be built, the NIC goes back to the
host and the exit code is 1.`,
	run: func(c *call) error {
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		unlock, err := lock(c, "boot", patience)
		if err != nil {
			return err
		}
		c.locked(unlock)
		defer c.unlock()
		err = c.host().Boot(c, system.Active(c, networkPre), links.FindNIC)
		if errors.Is(err, transaction.ErrBeginAgain) || err != nil && c.Err() != nil {
			return exitError{exitBusy, err} // systemd does
		}
		return err
	},
}
