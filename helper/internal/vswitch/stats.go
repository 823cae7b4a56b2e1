package vswitch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

// Stats is what the switch has counted and learned.
type Stats struct {
	// Dropped has an entry for every pin and origin that dropped frames.
	Dropped []Dropped
	Learned []Station
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

// Station is a learned source address.
type Station struct {
	MAC  net.HardwareAddr
	VLAN uint16 // VID; 0: without a tag, or with a priority tag
	// Port is the local port behind which the station is, or "" if it is on
	// another host, whose intrawire address Remote is then.
	Port   string
	Remote netip.Addr
}

// DroppedPackets returns the sum of all pins.
func (s Stats) DroppedPackets() (n uint64) {
	for _, d := range s.Dropped {
		n += d.Packets
	}
	return n
}

// Stats reads the counters. It costs two short tables and the meters, whatever the size of the
// network; without a running switch all is zero.
func (s *Switch) Stats(ctx context.Context) (Stats, error) {
	var stats Stats
	bridges, err := s.observe(ctx)
	if err != nil {
		return stats, err
	}
	for _, name := range sortedKeys(bridges) {
		if !answers(s.socket(name + ".mgmt")) {
			continue
		}
		err := s.count(ctx, bridges[name], &stats)
		if err == nil {
			err = s.countFloods(ctx, name, &stats)
		}
		if err != nil {
			return Stats{}, fmt.Errorf("reading the counters of %s: %w", name, err)
		}
	}
	return stats, nil
}

func (s *Switch) count(ctx context.Context, b bridge, stats *Stats) error {
	for _, table := range []int{tableDropped, tableLearned} {
		out, err := s.tools.dumpFlows(ctx, b.name, "table="+strconv.Itoa(table))
		if err != nil {
			return err
		}
		flows, err := parseFlows(out)
		if err != nil {
			return err
		}
		for _, f := range flows {
			if pin, origin, ok := droppedBy(f.cookie); ok && f.packets > 0 {
				stats.Dropped = append(stats.Dropped, Dropped{pin, origin, f.packets})
			}
			if isLearned(f.cookie) {
				station, err := parseStation(f, b)
				if err != nil {
					return err
				}
				stats.Learned = append(stats.Learned, station)
			}
		}
	}
	return nil
}

var (
	stationMAC    = regexp.MustCompile(`\bdl_dst=([0-9a-f:]+)`)
	stationVLAN   = regexp.MustCompile(`\b(?:dl_vlan|vlan_tci)=(0x[0-9a-f]+|[0-9]+)`)
	stationPort   = regexp.MustCompile(`load:(0x[0-9a-f]+|[0-9]+)->NXM_NX_REG1\[`)
	stationRemote = regexp.MustCompile(`load:(0x[0-9a-f]+|[0-9]+)->NXM_NX_REG2\[`)
)

func parseStation(f flowLine, b bridge) (Station, error) {
	number := func(pattern *regexp.Regexp, text string) uint64 {
		if m := pattern.FindStringSubmatch(text); m != nil {
			n, _ := strconv.ParseUint(m[1], 0, 32)
			return n
		}
		return 0
	}
	m := stationMAC.FindStringSubmatch(f.match)
	if m == nil {
		return Station{}, fmt.Errorf("learned flow %q: no destination address", f.match)
	}
	mac, err := net.ParseMAC(m[1])
	if err != nil {
		return Station{}, fmt.Errorf("learned flow %q: %w", f.match, err)
	}
	station := Station{MAC: mac, VLAN: uint16(number(stationVLAN, f.match) & 0xfff)}
	at := int(number(stationPort, f.actions))
	if at == tunnelPort {
		a := number(stationRemote, f.actions)
		station.Remote = netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		return station, nil
	}
	station.Port = strconv.Itoa(at)
	for name, p := range b.ports {
		if p.OFPort == at {
			station.Port = name
		}
	}
	return station, nil
}
