package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"mobula/helper/internal/agent"
	"mobula/helper/internal/firewall"
	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/system"
)

// statePath is the socket on which the agent tells its state.
func statePath() string { return filepath.Join(plan.AgentDir, "state.sock") }

var agentCommand = command{
	name: "agent", summary: "answer DNS, keep paths to all peers, notice what breaks (a service)",
	help: `Runs until it is stopped. Killing it stops DNS and healing, never traffic. What it
finds broken on the host itself it has repaired by ` + plan.UnitRepair + `.`,
	run: func(c *call) error {
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		h := c.host()
		a := &agent.Agent{Host: h, Log: c.log,
			PrivateKey: h.Store.Keys().PrivateKey,
			Facts:      h.Known,
			Resolvers:  system.ResolversElsewhere, ResolverFiles: system.ResolverFiles,
			Repair: repairByUnit, Relaying: relaying(), RelaysPath: firewall.RelaysPath(plan.RunDir), Ways: links.Ways,
			Superseded: func() bool {
				other, err := system.NewPrograms().Superseded(plan.UnitAgent)
				if err != nil {
					c.log.Warn("which program is the agent", "error", err)
				}
				return other
			},
			AppliedPath: filepath.Join(plan.RunDir, "applied.json"), SwitchDir: plan.OVSDir, StatePath: statePath(),
		}
		return a.Run(c)
	},
}

// repairByUnit has systemd run 'mobula repair' and waits for its end.
func repairByUnit(ctx context.Context) error {
	// The unit itself takes a busy host for success. What broke meanwhile must
	// not wait for the next regular comparison.
	if file, err := os.Open(lockPath()); err == nil {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		file.Close()
		if err != nil {
			return errors.New("somebody is changing the host")
		}
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "start", plan.UnitRepair).CombinedOutput(); err != nil {
		return fmt.Errorf("starting %s: %w: %s", plan.UnitRepair, err, bytes.TrimSpace(out))
	}
	return nil
}

var repairCommand = command{
	name: "repair", arguments: "[--switch]", summary: "put right what something else changed on this host",
	help: `Compares the host with the document that runs and puts right what differs. Each
difference is logged with what was done. The agent has it run when something
breaks, and once a minute; by hand it does no harm. While a change is applied it
exits with 75. With --switch it looks at Open vSwitch alone: ` + plan.UnitVSwitch + `
runs that whenever it has started, because its flows are gone then.`,
	run: func(c *call) error {
		only := c.flags.Bool("switch", false, "repair Open vSwitch alone, at once")
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		var subjects []string
		if *only {
			// Whoever holds the lock may be waiting for this unit to start. If
			// it is applying a change, nothing runs and nothing is done here.
			subjects = append(subjects, "switch")
		} else {
			unlock, err := lock(c, "repair", 0)
			if err != nil {
				return err
			}
			defer unlock()
		}
		done, err := c.host().Repair(c, subjects...)
		if !*only {
			if err := keepClock(clockPath, time.Now()); err != nil {
				c.log.Warn("noting what the clock says", "error", err)
			}
		}
		if len(done) > 0 {
			c.log.Warn("repaired", "operations", done)
		}
		return err
	},
}
