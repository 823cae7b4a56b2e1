// Package meter sends numbered packets along many paths from one process and keeps account of
// what arrives. It runs inside the lab's hosts, on an emulated processor, so it is frugal.
package meter

import (
	"fmt"
	"time"
)

// Config says what one process sends and receives.
type Config struct {
	// Every is the time between two packets of a flow that does not say otherwise.
	Every time.Duration
	// Size of a packet's UDP payload in bytes; at least headerSize.
	Size int
	// Addresses on which packets are received.
	Listen []string
	// Send lists the flows that begin here.
	Send []Sending
	// TCP adds a connection to each flow, which must carry a block every TCPEvery.
	TCP bool
}

// Flow is a path from one address to another.
type Flow struct{ From, To string }

// Sending is a flow that begins here.
type Sending struct {
	Flow
	// Every is a multiple of that of the Config; zero: the same.
	Every time.Duration
}

// Ports on which every meter listens.
const (
	UDPPort = 7007
	TCPPort = 7008
	// TCPEvery is the time between two blocks of a TCP stream.
	TCPEvery = 800 * time.Millisecond
)

// Report is what one process saw.
type Report struct {
	Sent     []Sent
	Received []Received
	TCP      []TCPReceived
}

// Sent counts what began here.
type Sent struct {
	Flow
	Packets uint64
	// Errors counts the packets the own kernel refused; they are among Packets.
	Errors    uint64
	LastError string
	// Blocks were written into the TCP connection; TCPError says how it broke.
	Blocks   uint64
	TCPError string
}

// Received counts what arrived here.
type Received struct {
	Flow
	// Packets counts each sequence number once.
	Packets, Duplicated, Reordered uint64
	// Highest is the highest sequence number; they begin with 0.
	Highest uint64
	// LongestGap is the longest time between two packets.
	LongestGap time.Duration
	// LongestLoss is the most numbers in a row that were skipped.
	LongestLoss uint64
	// Gaps are all silences of at least three intervals and 100 ms.
	Gaps []Gap
}

// Gap is a silence, by the receiver's clock. If few packets were lost in a long one, a host stood
// still, or packets were kept on the way.
type Gap struct {
	Start  time.Time
	Length time.Duration
	Lost   uint64
}

func (g Gap) String() string {
	return fmt.Sprintf("%v with %d packets lost", g.Length.Round(time.Millisecond), g.Lost)
}

// TCPReceived tells how a TCP stream fared.
type TCPReceived struct {
	Flow
	// Blocks arrived in order and unharmed.
	Blocks uint64
	// LongestGap is the longest time between two blocks.
	LongestGap time.Duration
	// Error says what was wrong with the stream; empty when it was closed by the sender.
	Error string
}

// account keeps the books of one incoming flow.
type account struct {
	Received
	seen      []uint64 // a bit per sequence number
	last      time.Time
	threshold time.Duration // from which on a gap is listed
}

const mostGaps = 1000

func newAccount(f Flow, every time.Duration) *account {
	threshold := 3 * every
	if threshold < 100*time.Millisecond {
		threshold = 100 * time.Millisecond
	}
	return &account{Received: Received{Flow: f}, threshold: threshold}
}

// arrive books a packet; sequence numbers begin with 0.
func (a *account) arrive(seq uint64, now time.Time) {
	var lost uint64
	if !a.last.IsZero() && seq > a.Highest {
		lost = seq - a.Highest - 1
	}
	a.silence(now, lost)
	a.last, a.LongestLoss = now, max(a.LongestLoss, lost)
	word, bit := seq/64, uint64(1)<<(seq%64)
	for uint64(len(a.seen)) <= word {
		a.seen = append(a.seen, 0)
	}
	if a.seen[word]&bit != 0 {
		a.Duplicated++
		return
	}
	a.seen[word] |= bit
	a.Packets++
	if seq < a.Highest {
		a.Reordered++
	} else {
		a.Highest = seq
	}
}

// silence books the time since the last packet.
func (a *account) silence(now time.Time, lost uint64) {
	if a.last.IsZero() {
		return
	}
	gap := now.Sub(a.last)
	if gap > a.LongestGap {
		a.LongestGap = gap
	}
	if gap >= a.threshold && len(a.Gaps) < mostGaps {
		a.Gaps = append(a.Gaps, Gap{a.last, gap, lost})
	}
}

// report is the account so far; a silence that goes on while packets are expected counts.
func (a *account) report(now time.Time, expecting bool) Received {
	b := *a
	b.Gaps = append([]Gap(nil), a.Gaps...)
	if expecting {
		b.silence(now, 0)
	}
	return b.Received
}
