package main

import (
	"context"
	"fmt"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/worker"
)

// defaultConfirmTimeout is how long a change may stay unconfirmed.
const defaultConfirmTimeout = 120 * time.Second

func planCommand() command {
	return command{
		name: "plan", arguments: "[--document SOURCE --host-id N] [--json]",
		summary: "print what apply would change, and change nothing",
		help: `Prints the difference between what this host has and what the network document
says, a line for each operation in the order in which apply would carry it out
(+ adds, ~ changes, - removes), then the private names that come, go or move, and
how many peers would be interrupted. Without
--document it compares with the confirmed document, which shows what somebody
else changed.

--json also lists the steps of apply and of confirm: what they do between and
around the operations.

` + sourceHelp,
		example: `mobula plan
mobula plan --document network.json --host-id 3`,
		exits:     []exit{{exitDiffers, "there is something to do"}},
		needsRoot: true,
		define: func(c *call) func() error {
			s, from, id := changeFlags(c)
			asJSON := c.jsonFlag()
			return func() error {
				h := c.host()
				change, err := c.readChange(h, *from, *id)
				if err != nil {
					return err
				}
				plan, err := h.Plan(c, change, s.Options())
				if err != nil {
					return err
				}
				confirmed, err := h.Store.Confirmed()
				if err != nil {
					return err
				}
				o := worker.NewOutcome(confirmed, change, plan.Operations)
				if o.Changed {
					o.Steps = worker.NewSteps(h, change, plan.Operations)
				}
				if err := c.printOutcome(o, *asJSON); err != nil || !o.Changed {
					return err
				}
				return exitError{code: exitDiffers}
			}
		},
	}
}

// sourceHelp is for commands that take a document.
const sourceHelp = `SOURCE is a file, - for standard input, or an https:// URL. With --sha256 or
--generation, of which a URL has to have one, what is read is refused if it is another,
before anything is done with it.`

func changeFlags(c *call) (s *worker.Staged, from *source, id *uint16) {
	s, from = &worker.Staged{}, &source{}
	c.documentFlags(from, "`SOURCE` of the network document (default: the confirmed one)")
	id = c.flags.Uint16("host-id", 0, "`ID` of this host in the document (default: the one it has)")
	c.flags.BoolVar(&s.Older, "allow-older", false, "take a document that is older than the running one")
	c.flags.BoolVar(&s.Alone, "allow-alone", false, "take a document without peers where there are some")
	c.flags.BoolVar(&s.Rebuild, "rebuild", false, "take everything down and build it again")
	c.offer("host-id", func() []string {
		return c.hostsIn(from.path, func(h network.Host) string { return fmt.Sprintf("%d\t%s", h.ID, h.Hostname) })
	})
	return s, from, id
}

func applyCommand() command {
	return command{
		name: "apply", arguments: "[--document SOURCE --host-id N] [--confirm-timeout D] [--json]",
		summary: "bring this host to what the network document says",
		help: `Carries out what plan prints, in a unit of its own that outlives the SSH session.
The rollback timer is started first: unless 'mobula confirm' follows within the confirm
timeout, the host is rolled back to what it was. Where nothing differs, nothing
has to be confirmed. If an operation fails, the host is rolled back at once.

` + sourceHelp,
		example: `mobula apply --document network.json --host-id 3
mobula apply --document https://deployer.example.com/network.json --sha256 SUM`,
		exits:     []exit{busyExit},
		needsRoot: true,
		define: func(c *call) func() error {
			s, from, id := changeFlags(c)
			c.flags.DurationVar(&s.Timeout, "confirm-timeout", defaultConfirmTimeout, "how long the change may stay unconfirmed")
			attempt := c.flags.String("attempt", "", "`NAME` of this attempt; one that was rolled back is not repeated")
			detach := c.flags.Bool("detach", false, "if the NIC has to move, wait only until it is about to")
			asJSON := c.jsonFlag()
			c.pauseFlag(&s.PauseBefore)
			carriesOut := c.flags.Bool("worker", false, "carry out what was staged")
			_ = c.flags.MarkHidden("worker")
			return func() error {
				if *carriesOut {
					return c.work()
				}
				h := c.host()
				change, err := c.readChange(h, *from, *id)
				if err != nil {
					return err
				}
				s.Change = *change
				return c.apply(h, *s, *attempt, *detach, *asJSON)
			}
		},
	}
}

// apply has the worker carry a change out, and prints what comes out of it.
func (c *call) apply(h *transaction.Host, s worker.Staged, attempt string, detach, asJSON bool) error {
	starter := worker.Starter{Host: h, Store: h.Store, Settle: h.Programs.Settle, Active: system.Active, Start: system.Detached}
	o, err := starter.Apply(c, s, attempt, detach)
	if err != nil {
		return err
	}
	return c.printOutcome(*o, asJSON)
}

// work carries out what was staged.
func (c *call) work() error {
	return worker.Work(c, &c.turn, func(before func(context.Context, string) error, leave func(context.Context) error) worker.Carrier {
		h := c.host()
		h.Before, h.Leave = before, leave
		return h
	})
}

// pauseFlag defines the flag that has a change stand still, see worker.Pause.
func (c *call) pauseFlag(before *int) {
	c.flags.IntVar(before, "pause-before", 0, "stand still before this step, from 1, of those that 'plan --json' lists; for tests")
	_ = c.flags.MarkHidden("pause-before")
}

func (c *call) printOutcome(o worker.Outcome, asJSON bool) error {
	if asJSON {
		return c.printJSON(o)
	}
	for _, line := range append(o.Operations, o.Names...) {
		fmt.Fprintln(c.stdout, line)
	}
	if !o.Changed && len(o.Names) > 0 {
		fmt.Fprintf(c.stdout, "nothing but names, DNS takes them from generation %s\n", o.Generation)
		return nil
	}
	if !o.Changed {
		fmt.Fprintf(c.stdout, "nothing to do, the host has generation %s\n", o.Generation)
		return nil
	}
	fmt.Fprintf(c.stdout, "%d changes to generation %s, %d peers interrupted\n", len(o.Operations), o.Generation, o.Interrupted)
	if o.Confirm {
		fmt.Fprintln(c.stdout, "'mobula confirm', over a new connection and in time, keeps it; else it is rolled back")
	}
	return nil
}
