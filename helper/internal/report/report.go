// Package report is what a host says of itself and of its ways to the others, and what
// follows from what all of them say. It is pure: no clock, no socket, no terminal.
package report

import (
	"fmt"
	"sort"
	"strings"
	"time"
	"unicode"
)

// Format is that of Mesh as JSON, described in docs/mesh.schema.json. It rises when a field
// changes its meaning or goes; new fields may come without.
const Format = 1

// Mesh is what the hosts of a network say, as one of them was told.
type Mesh struct {
	Format int `json:"format"`
	// AskedBy is the ID of the host that asked, Generation what it runs.
	AskedBy    uint16 `json:"asked_by"`
	Generation string `json:"generation"`
	// Asked is when asking ended, by the clock of the host that asked, and TookSeconds how long
	// it took.
	Asked       time.Time `json:"asked_at"`
	TookSeconds float64   `json:"took_s"`
	// Ways is one of the constants: whether hosts told all of their ways.
	Ways string `json:"ways"`
	// Hosts are all hosts of the asking one's document by their IDs, also those that
	// do not answer.
	Hosts []Host `json:"hosts"`
	// What follows, see Judge.
	Problems    []Problem `json:"problems"`
	Generations []Group   `json:"generations"`
	Versions    []Group   `json:"versions"`
	// Names are those that the asking host's nameserver answers itself, Clients the
	// administrators' WireGuard clients; nil: not told, see ForGuests.
	Names   *Names   `json:"names,omitempty"`
	Clients *Clients `json:"clients,omitempty"`
}

// Which ways are in a Mesh.
const (
	AllWays    = "all"
	Exceptions = "exceptions" // those for which Way.Exception says so
)

// Host is what one host says of itself.
type Host struct {
	HostID uint16 `json:"host_id"`
	Name   string `json:"name"`
	// Answer is one of the constants. Without an answer the fields below are empty.
	Answer string `json:"answer"`
	// OtherGeneration: the host does not answer, and runs another generation than the one
	// that asked.
	OtherGeneration bool `json:"other_generation,omitempty"`
	// Generation is what it runs; also told of one that does not answer, if it is that of
	// the host that asked. Version is that of its program.
	Generation string `json:"generation,omitempty"`
	Version    string `json:"version,omitempty"`
	// SinceSeconds is for how long its agent has run with this generation.
	SinceSeconds uint32 `json:"since_s,omitempty"`
	// Counts of its ways, also of those that are not in Ways.
	Direct  int `json:"direct"`
	Relayed int `json:"relayed"`
	Down    int `json:"down"`
	Unknown int `json:"unknown"`
	// MedianRTT and MaxRTT are those of its ways that are up, in milliseconds; 0: not known.
	MedianRTT float64 `json:"median_rtt_ms,omitempty"`
	MaxRTT    float64 `json:"max_rtt_ms,omitempty"`
	// Problems are sentences of its own; MoreProblems did not fit.
	Problems     []string `json:"problems,omitempty"`
	MoreProblems int      `json:"more_problems,omitempty"`
	// Ways are by the other host's ID; UntoldWays were too many.
	Ways       []Way `json:"ways,omitempty"`
	UntoldWays int   `json:"untold_ways,omitempty"`
}

// How a host answered.
const (
	Answered    = "yes"
	InPart      = "part"        // some of its ways did not arrive
	Silent      = "no"          // the asking host reaches it, but it does not answer: an older version?
	Unreachable = "unreachable" // the asking host does not reach it
	NotInTime   = "not in time" // it was not asked, or did not answer, before time was over
)

// Way is how a host reaches another one.
type Way struct {
	To uint16 `json:"to"`
	// State is one of the constants.
	State string `json:"state"`
	// Via is the ID of the host that relays; 0: direct.
	Via uint16 `json:"via,omitempty"`
	// Kind is one of Kinds; "": not known.
	Kind Kind `json:"kind,omitempty"`
	// SinceSeconds is for how long State and Via have been so.
	SinceSeconds uint32 `json:"since_s"`
	// RTT is the round trip in milliseconds; 0: not known.
	RTT float64 `json:"rtt_ms"`
	// Loss is the share of lost probes over the last 10 to 20 s, LossMinutes over five
	// minutes, both ways together, 0..1.
	Loss        float64 `json:"loss"`
	LossMinutes float64 `json:"loss_minutes"`
	// HandshakeSeconds is how long ago the last handshake of WireGuard was; -1: never.
	HandshakeSeconds int32 `json:"last_handshake_s"`
	// LargeLost: packets of full size get lost.
	LargeLost bool `json:"full_size_lost,omitempty"`
}

// The states of a way.
const (
	Up      = "up"
	Down    = "down"
	Unknown = "unknown" // no answer yet
)

// lossy is the share of lost probes from which on a way is told as one that loses.
const lossy = 0.05

// Lossy reports that the way loses more than a good one does.
func (w Way) Lossy() bool { return w.State == Up && (w.LossMinutes >= lossy || w.Loss >= 2*lossy) }

// Exception reports that the way is another than in a network that is well: not direct,
// not up, or poor.
func (w Way) Exception() bool { return w.State != Up || w.Via != 0 || w.LargeLost || w.Lossy() }

// Count fills in the counts and the round trips from all of the host's ways.
func (h *Host) Count(ways []Way) {
	h.Direct, h.Relayed, h.Down, h.Unknown, h.MedianRTT, h.MaxRTT = 0, 0, 0, 0, 0, 0
	var trips []float64
	for _, w := range ways {
		switch {
		case w.State == Down:
			h.Down++
		case w.State == Unknown:
			h.Unknown++
		case w.Via != 0:
			h.Relayed++
		default:
			h.Direct++
		}
		if w.State == Up && w.RTT > 0 {
			trips = append(trips, w.RTT)
		}
	}
	if len(trips) > 0 {
		h.MedianRTT = median(trips)
		h.MaxRTT = trips[len(trips)-1]
	}
}

// median sorts the numbers, of which there has to be one, and returns that in the middle.
func median(all []float64) float64 {
	sort.Float64s(all)
	return all[len(all)/2]
}

// Answers reports that the host said something.
func (h *Host) Answers() bool { return h.Answer == Answered || h.Answer == InPart }

// Validate refuses what would do more to a terminal than appear, and numbers that cannot be:
// what is in a report comes from other hosts.
func (m *Mesh) Validate() error {
	if m.Ways != AllWays && m.Ways != Exceptions || !Printable(m.Generation) {
		return fmt.Errorf("found ways %q and generation %q, wanted all or exceptions, and printable text", m.Ways, m.Generation)
	}
	for i := range m.Hosts {
		if err := m.Hosts[i].Validate(); err != nil {
			return fmt.Errorf("host %d: %w", m.Hosts[i].HostID, err)
		}
	}
	if err := m.Names.validate(); err != nil {
		return err
	}
	return m.Clients.validate()
}

// Validate is that of Mesh for one host.
func (h *Host) Validate() error {
	switch h.Answer {
	case Answered, InPart, Silent, Unreachable, NotInTime:
	default:
		return fmt.Errorf("answer: found %q, wanted one that there is", h.Answer)
	}
	for _, text := range append([]string{h.Name, h.Generation, h.Version}, h.Problems...) {
		if !Printable(text) {
			return fmt.Errorf("found %q, wanted printable text", text)
		}
	}
	for _, w := range h.Ways {
		share := func(f float64) bool { return f >= 0 && f <= 1 }
		if w.State != Up && w.State != Down && w.State != Unknown || !share(w.Loss) || !share(w.LossMinutes) || w.RTT < 0 || w.HandshakeSeconds < -1 {
			return fmt.Errorf("way to %d: found %+v, wanted a state, shares in 0..1 and no negative time", w.To, w)
		}
		if !Printable(string(w.Kind)) || w.Contradictory() {
			return fmt.Errorf("way to %d: found %+v, wanted a kind that it can be of", w.To, w)
		}
	}
	return nil
}

// Printable reports whether a text does nothing to a terminal but appear.
func Printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
