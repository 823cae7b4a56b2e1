package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"mobula/helper/internal/agent"
	"mobula/helper/internal/firewall"
	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/system"
	"mobula/helper/internal/worker"
)

// statePath is the socket on which the agent tells its state.
func statePath() string { return filepath.Join(spec.AgentDir, "state.sock") }

const agentName = "agent"

func agentCommand() command {
	return command{
		name: agentName, summary: "answer DNS, keep paths to all peers, notice what breaks (a service)",
		help: `Runs until it is stopped. Killing it stops DNS and healing, and no traffic but
what it carries for hosts that nothing else leads to. What it finds broken on the
host itself it has repaired by ` + spec.UnitRepair + `.`,
		example:   "systemctl restart " + spec.UnitAgent,
		needsRoot: true,
		define: func(c *call) func() error {
			return func() error {
				h := c.host()
				a := &agent.Agent{Host: h, Log: c.log,
					PrivateKey: h.Store.Keys().PrivateKey,
					Facts:      h.Known,
					Resolvers:  system.ResolversElsewhere, ResolverFiles: system.ResolverFiles,
					Repair: repairByUnit, Relaying: relaying(), RelaysPath: firewall.RelaysPath(spec.RunDir), Ways: links.Ways,
					Superseded: func() bool {
						other, err := system.NewPrograms().Superseded(spec.UnitAgent)
						if err != nil {
							c.log.Warn("which program is the agent", "error", err)
						}
						return other
					},
					AppliedPath: filepath.Join(spec.RunDir, "applied.json"), SwitchDir: spec.OVSDir, StatePath: statePath(),
					MeshPath: meshPath(), MetricsPath: metricsPath(),
					Pending:  func() bool { pending, err := h.Store.Pending(); return err == nil && pending != nil },
					Compared: compared, Counters: counters,
					Version: version + ", ID " + c.ofHost().Self(), Problems: func() []string { return hostProblems(h.Store) },
				}
				return a.Run(c)
			}
		},
	}
}

// repairByUnit has systemd run 'mobula repair' and waits for its end.
func repairByUnit(ctx context.Context) error {
	// The unit itself takes a busy host for success. What broke meanwhile must
	// not wait for the next regular comparison.
	if worker.Locked() {
		return errors.New("somebody is changing the host")
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "start", spec.UnitRepair).CombinedOutput(); err != nil {
		return fmt.Errorf("starting %s: %w: %s", spec.UnitRepair, err, bytes.TrimSpace(out))
	}
	return nil
}

func repairCommand() command {
	return command{
		name: "repair", arguments: "[--switch]", summary: "repair what something else changed on this host",
		help: `Compares the host with the document that runs and puts right what differs. Each
difference is logged with what was done. The agent has it run when something
breaks, and once a minute; by hand it does no harm. While a change is applied it
exits with 75. With --switch it looks at Open vSwitch alone: ` + spec.UnitVSwitch + `
runs that whenever it has started, because its flows are gone then.`,
		example:   "mobula repair",
		exits:     []exit{busyExit},
		needsRoot: true,
		define: func(c *call) func() error {
			only := c.flags.Bool("switch", false, "repair Open vSwitch alone, at once")
			return func() error {
				var subjects []string
				if *only {
					// Whoever holds the lock may be waiting for this unit to start. If
					// it is applying a change, nothing runs and nothing is done here.
					subjects = append(subjects, "switch")
				} else {
					if err := c.turn.Begin(c, "repair", 0); err != nil {
						return err
					}
					defer c.turn.End()
				}
				h := c.host()
				done, err := h.Repair(c, subjects...)
				if !*only {
					if err := noteComparison(comparisonPath, time.Now(), done, err); err != nil {
						c.log.Warn("noting the comparison", "error", err)
					}
					if err := keepClock(h.Store, clockPath, time.Now()); err != nil {
						c.log.Warn("noting what the clock says", "error", err)
					}
				}
				if len(done) > 0 {
					c.log.Warn("repaired", "operations", done)
				}
				return err
			}
		},
	}
}
