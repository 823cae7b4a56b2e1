package watch

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/vswitch"
)

const (
	// switchInterval is how often the agent looks whether Open vSwitch was
	// started anew, and flowInterval how often it counts the flows; not for
	// startGrace after a start.
	switchInterval = 250 * time.Millisecond
	flowInterval   = 2 * time.Second
	startGrace     = 5 * time.Second
)

// watchSwitch notices that flows came or went, or that ovsdb-server was started
// anew: its PID file is new then.
func (r *Repairer) watchSwitch(ctx context.Context) {
	ticker := time.NewTicker(switchInterval)
	defer ticker.Stop()
	database := filepath.Join(r.SwitchDir, "ovsdb-server.pid")
	bridge := filepath.Join(r.SwitchDir, spec.SwitchBridge+".mgmt")
	served, started := FileAt(database), FileAt(bridge)
	var flows *vswitch.FlowCounts // nil: not counted yet
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := FileAt(database); now != served && now != (File{}) {
			served = now
			r.because("ovsdb-server was started anew")
		}
		if now := FileAt(bridge); now != started {
			// The unit of ovs-vswitchd puts the flows back itself.
			started, next = now, time.Now().Add(startGrace)
		}
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(flowInterval)
		now, err := r.countFlows(flows)
		if err != nil {
			continue // while the switch is away there is nothing to compare
		}
		if flows != nil && *now != *flows {
			r.because(fmt.Sprintf("flows changed from %+v to %+v", *flows, *now))
		}
		flows = now
	}
}

// countFlows counts until two counts in a row are equal, or one is as before, but
// not for ever: what the switch learns while it counts makes a count wrong.
func (r *Repairer) countFlows(before *vswitch.FlowCounts) (*vswitch.FlowCounts, error) {
	last := before
	for tries := 1; ; tries++ {
		now, err := vswitch.CountFlows(r.SwitchDir, spec.SwitchBridge, time.Second)
		if err != nil || last != nil && now == *last || tries == 5 {
			return &now, err
		}
		last = &now
	}
}
