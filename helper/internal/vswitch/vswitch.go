// Package vswitch is the hands of the access network: Mobula's own Open vSwitch
// instance, its bridge, its ports and its flows.
//
// Flows live in the running ovs-vswitchd only. Diff finds out when they are
// gone or were tampered with, and its operation puts them back.
package vswitch

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// Options say where the Open vSwitch instance is.
type Options struct {
	// RunDir holds the instance's sockets: db.sock of ovsdb-server,
	// ovs-vswitchd.ctl and what ovs-vswitchd makes under OVS_RUNDIR.
	RunDir string
	// DatapathType is "system", the kernel's, when empty; "netdev" is Open
	// vSwitch's own, which needs no kernel module.
	DatapathType string
	// CommandTimeout bounds each call of an Open vSwitch tool; 0: 30 s.
	CommandTimeout time.Duration
	// StartTimeout bounds how long an operation waits for daemons that were
	// just started; 0: 20 s.
	StartTimeout time.Duration
	// Program is another one for each version of this program; "": not known.
	Program string
	// Neighbors is how many the host's kernel has room for; 0: what it says.
	Neighbors int
}

// Switch is the running switch. Its looks and operations come one after the other.
type Switch struct {
	options Options
	tools   *tools
	// absent tells that the daemons did not start when they were waited for.
	absent atomic.Bool
	// computed are the flows that were computed last, and from what.
	computed struct {
		from  string
		flows []*flow
	}
}

var _ reconcile.Subject = (*Switch)(nil)

// New returns the switch; it starts nothing.
func New(o Options) *Switch {
	if o.DatapathType == "" {
		o.DatapathType = "system"
	}
	if o.CommandTimeout == 0 {
		o.CommandTimeout = 30 * time.Second
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 20 * time.Second
	}
	return &Switch{options: o, tools: &tools{runDir: o.RunDir, timeout: o.CommandTimeout}}
}

// Name implements reconcile.Subject.
func (s *Switch) Name() string { return "switch" }

func (s *Switch) socket(name string) string { return filepath.Join(s.options.RunDir, name) }

func (s *Switch) databaseRuns() bool { return answers(s.socket("db.sock")) }

func (s *Switch) daemonRuns() bool { return answers(s.socket("ovs-vswitchd.ctl")) }

// waitForDaemons returns when both daemons accept connections. They are ready
// then: ovs-vsctl itself waits until ovs-vswitchd has done what it was told. They are
// waited for once: who did not come in time is not there for the next operation
// either, unless it has come meanwhile.
func (s *Switch) waitForDaemons(ctx context.Context) error {
	limit := s.options.StartTimeout
	if s.absent.Load() {
		limit = 0
	}
	err := waitFor(ctx, limit, "Open vSwitch to start in "+s.options.RunDir, func() bool {
		return s.databaseRuns() && s.daemonRuns()
	})
	s.absent.Store(err != nil)
	if err != nil {
		return fmt.Errorf("%w ('journalctl -u %s -u %s' tells more)", err, spec.UnitOVSDB, spec.UnitVSwitch)
	}
	return nil
}

func waitFor(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// wanted returns the switch of a plan, or nil.
func wanted(h *spec.Host) *spec.Switch {
	if h == nil {
		return nil
	}
	return h.Switch
}
