package vswitch

import (
	"context"
	"fmt"
	"strconv"

	"mobula/helper/internal/spec"
)

// Stats is what the switch has counted and learned.
type Stats struct {
	// Dropped has an entry for every pin and origin that dropped frames.
	Dropped []Dropped
	// Flooded counts the frames to everybody, or to stations that nobody knows, that
	// were too many for the other hosts since their bound was set last.
	Flooded uint64
	// Unbounded tells that the switch has no meters that could count and bound them.
	Unbounded bool
}

// Dropped counts the frames that broke a pin since the flows were installed.
type Dropped struct {
	Pin     Pin
	Origin  Origin
	Packets uint64
}

// DroppedPackets returns the sum of all pins.
func (s Stats) DroppedPackets() (n uint64) {
	for _, d := range s.Dropped {
		n += d.Packets
	}
	return n
}

// Stats reads the counters. It costs a short table and the meters, whatever the size of the
// network; without a running switch all is zero.
func (s *Switch) Stats(ctx context.Context) (Stats, error) {
	var stats Stats
	if !answers(s.socket(spec.SwitchBridge + ".mgmt")) {
		return stats, nil
	}
	err := s.count(ctx, spec.SwitchBridge, &stats)
	if err == nil {
		err = s.countFloods(ctx, spec.SwitchBridge, &stats)
	}
	if err != nil {
		return Stats{}, fmt.Errorf("reading the counters of %s: %w", spec.SwitchBridge, err)
	}
	return stats, nil
}

func (s *Switch) count(ctx context.Context, bridge string, stats *Stats) error {
	out, err := s.tools.dumpFlows(ctx, bridge, "table="+strconv.Itoa(tableDropped))
	if err != nil {
		return err
	}
	flows, err := parseFlows(out)
	for _, f := range flows {
		if pin, origin, ok := droppedBy(f.cookie); ok && f.packets > 0 {
			stats.Dropped = append(stats.Dropped, Dropped{pin, origin, f.packets})
		}
	}
	return err
}
