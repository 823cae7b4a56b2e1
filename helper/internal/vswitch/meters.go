package vswitch

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Meters bound what a host floods to the others: what a guest sends to everybody, or
// to stations that nobody knows, costs all of them time. They live in ovs-vswitchd,
// as flows do, but apart from flows and from bundles of flows.
const (
	// floodMeter is met before the first copy for another host.
	floodMeter = "1"
	// slowMeter is Open vSwitch's own meter of what goes through ovs-vswitchd frame by
	// frame (ovs-ofctl(8)): copies that fit no netlink message. There floodMeter would
	// hold for the first copy alone.
	slowMeter = "slowpath"
)

const (
	// copiesPerSecond bounds what a host puts onto its wire: at 100 bytes 80 Mbit/s,
	// before the tunnel's headers.
	copiesPerSecond = 100_000
	// minFloods is for what guests need, however many hosts there are: ARP and
	// neighbor discovery of some hundred of them.
	minFloods = 50
	// maxFloods is for small networks, where each host, and each guest behind it, would
	// get very many of these frames.
	maxFloods = 5000
	// burstSeconds is how much of that may come at once, as when all guests boot.
	burstSeconds = 2
)

// meters are the settings of meters by their names, in the words of ovs-ofctl(8).
type meters map[string]string

const meterForm = "pktps burst stats bands= type=drop "

// wantedMeters returns the meters of a host with so many others.
func wantedMeters(remotes int) meters {
	if remotes == 0 {
		return meters{}
	}
	rate := min(maxFloods, max(minFloods, copiesPerSecond/remotes))
	text := fmt.Sprintf(meterForm+"rate=%d burst_size=%d", rate, burstSeconds*rate)
	return meters{floodMeter: text, slowMeter: text}
}

// difference describes what differs; "" is nothing.
func (want meters) difference(have meters) string {
	all := meters{}
	for _, some := range []meters{have, want} {
		for name := range some {
			all[name] = ""
		}
	}
	var changes []string
	for _, name := range sortedKeys(all) {
		changes = appendChange(changes, "meter "+name, strings.TrimPrefix(have[name], meterForm), strings.TrimPrefix(want[name], meterForm))
	}
	return strings.Join(changes, ", ")
}

// bounded are the meters of a bridge. Kernels before 4.18 have none, nor those that
// Open vSwitch finds to have broken ones.
type bounded struct {
	possible bool
	have     meters
}

// want returns the meters that there should be.
func (b bounded) want(remotes int) meters {
	if !b.possible {
		return meters{}
	}
	return wantedMeters(remotes)
}

func (s *Switch) meters(ctx context.Context, name string) (bounded, error) {
	out, err := s.tools.ofctl(ctx, "dump-meters", name)
	if have := parseMeters(out); err == nil && len(have) > 0 {
		return bounded{true, have}, nil
	}
	if out, err = s.tools.ofctl(ctx, "meter-features", name); err != nil {
		return bounded{}, fmt.Errorf("reading the meters: %w", err)
	}
	return bounded{hasMeters(out), meters{}}, nil
}

// setMeters makes the wanted ones before flows need them. A meter that is there is
// changed in its place: it never lets everything pass, nor nothing.
func (s *Switch) setMeters(ctx context.Context, name string, have, want meters) error {
	for _, meter := range sortedKeys(want) {
		command := "add-meter"
		switch have[meter] {
		case want[meter]:
			continue
		case "":
		default:
			command = "mod-meter"
		}
		text := "meter=" + meter + " " + strings.Replace(want[meter], "bands= ", "bands=", 1)
		if _, err := s.tools.ofctl(ctx, command, name, text); err != nil {
			return fmt.Errorf("meter %s: %w", meter, err)
		}
	}
	return nil
}

// removeMeters removes what no wanted flow uses any more: flows go with their meter.
func (s *Switch) removeMeters(ctx context.Context, name string, have, want meters) error {
	for _, meter := range sortedKeys(have) {
		if want[meter] != "" {
			continue
		}
		if _, err := s.tools.ofctl(ctx, "del-meters", name, "meter="+meter); err != nil {
			return fmt.Errorf("meter %s: %w", meter, err)
		}
	}
	return nil
}

func (s *Switch) countFloods(ctx context.Context, name string, stats *Stats) error {
	limits, err := s.meters(ctx, name)
	if err != nil {
		return err
	}
	if !limits.possible {
		stats.Unbounded = true
		return nil
	}
	out, err := s.tools.ofctl(ctx, "meter-stats", name)
	stats.Flooded += parseMetered(out)
	return err
}

var maxMeter = regexp.MustCompile(`\bmax_meter:([0-9]+)`)

// hasMeters reads ovs-ofctl meter-features.
func hasMeters(out []byte) bool {
	m := maxMeter.FindSubmatch(out)
	return m != nil && !bytes.Equal(m[1], []byte("0"))
}

// parseMeters reads ovs-ofctl dump-meters: a meter begins with its name and goes on
// with a line for each band.
func parseMeters(out []byte) meters {
	all, name := meters{}, ""
	for _, line := range strings.Split(string(out), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "OFPST") {
			continue
		}
		if first, ok := strings.CutPrefix(fields[0], "meter="); ok {
			name, fields = first, fields[1:]
		}
		all[name] = strings.TrimSpace(all[name] + " " + strings.Join(fields, " "))
	}
	return all
}

var bandPackets = regexp.MustCompile(`(?m)^[0-9]+: packet_count:([0-9]+)`)

// parseMetered returns how many frames the meters of ovs-ofctl meter-stats dropped.
func parseMetered(out []byte) (n uint64) {
	for _, m := range bandPackets.FindAllSubmatch(out, -1) {
		packets, _ := strconv.ParseUint(string(m[1]), 10, 64)
		n += packets
	}
	return n
}
