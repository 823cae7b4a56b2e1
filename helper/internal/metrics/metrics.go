// Package metrics says in Prometheus' terms what a host's agent knows. It is pure: a
// Snapshot comes in, and series go out.
//
// How many series there are does not grow with the network: of peers there are counts,
// extremes and histograms. MaxPeers bounds what is said of each one, where that is wanted.
package metrics

import (
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/vswitch"
)

// MaxPeers is up to how many peers there are series for each of them.
const MaxPeers = 100

// Snapshot is what the agent knows at a moment.
type Snapshot struct {
	Version, GoVersion string
	// Pending: a change waits for confirmation.
	Pending bool
	Repairs Repairs
	// Network is what runs; nil: nothing does.
	Network *Network
	// DNS is the nameserver's; nil: there is none.
	DNS *nameserver.Stats
	// Gateway counts what the rules of the host's gateway did; nil: nobody knows.
	Gateway *Gateway
	// DroppedFrames are those on the access network that were not their senders' to send;
	// nil: nobody knows.
	DroppedFrames *vswitch.DroppedFrames
	// FloodedFrames are those to everybody that were too many; nil: nobody counts them.
	FloodedFrames *uint64
	// CallsRefused counts who asked for what all hosts say while too many did.
	CallsRefused uint64
	// ScrapesRefused and PageRefused count who asked for the series inside, and the page, too
	// often.
	ScrapesRefused, PageRefused uint64
}

// Repairs are the comparisons of the host with its plan that the agent had made.
type Repairs struct {
	// Succeeded and Failed count them, and Deferred those that a change kept from it.
	Succeeded, Failed, Deferred uint64
	// Found counts the differences that they found.
	Found uint64
	// Last is when the last one ended, whoever had it made; zero: there was none since the host booted.
	Last time.Time
	// Differences is how many it found.
	Differences int
}

// Network is what of the network the host sees.
type Network struct {
	HostID               uint16
	Hostname, Generation string
	// Since is when the agent took the generation over.
	Since time.Time
	// Relays: the host relays for others.
	Relays bool
	// PerPeer asks for series of each peer.
	PerPeer bool
	Peers   []Peer
	Paths   paths.Stats
	Carried Carried
	Refused Refused
}

// Carried is what agents carried for WireGuard, in place of relay ports: to and from this host, and
// by this host for others.
type Carried struct{ Own, Others Volume }

// Volume is an amount of datagrams, in parts where they did not fit.
type Volume struct{ Datagrams, Bytes uint64 }

// Add adds one of some bytes.
func (v *Volume) Add(bytes int) { v.Datagrams, v.Bytes = v.Datagrams+1, v.Bytes+uint64(bytes) }

// Peer is another host.
type Peer struct {
	ID       uint16
	Hostname string
	// State is one of package paths.
	State    string
	Relayed  bool
	Carried  bool // by an agent, which is relayed, too
	Poor     bool // up, and loses packets
	Endpoint netip.AddrPort
	RTT      time.Duration // 0: not known
	// Loss is the share of probes lost over five minutes, 0..1.
	Loss float64
	// Handshake is the last one with it; zero: none.
	Handshake time.Time
	// Generation is "same", "different" or "unknown".
	Generation string
}

// Refused counts what peers, or others in their name, sent beyond what they may.
type Refused struct {
	// Echoes are probes that were not answered, MACs direct messages that were not
	// verified, of peers where they are known to be and of strangers.
	Echoes, PeerMACs, StrangerMACs uint64
	// Questions are those of other hosts how the network is.
	Questions uint64
	// Askers are hosts that asked for a relay and were forgotten.
	Askers uint64
	// FirstPackets is how often the kernel could not tell of packets that leave.
	FirstPackets uint64
	// Carried are messages by which WireGuard's datagrams are carried of which nothing was taken.
	Carried uint64
	// Announcements are addresses of which a host told.
	Announcements uint64
}

// Gateway counts packets since the rules were loaded.
type Gateway struct {
	// Refused are those of guests and clients, by what they may not.
	Refused map[string]uint64
	// RelayedPackets and RelayedBytes were passed on from one host to another.
	RelayedPackets, RelayedBytes uint64
	// Stranded were too long to be passed on.
	Stranded uint64
}

// Collector returns the series of what look returns, which is called for each scrape, one
// after the other.
func Collector(look func() Snapshot) prometheus.Collector { return &collector{look: look} }

type collector struct {
	look func() Snapshot
	turn sync.Mutex
}

// Describe implements prometheus.Collector.
func (*collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families {
		to <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.turn.Lock()
	defer c.turn.Unlock()
	s := c.look()
	for _, f := range families {
		switch {
		case f.trips != nil:
			f.trips(&s, func(r paths.RoundTrips, labels ...string) { to <- histogram(f.desc, r, labels) })
		default:
			f.values(&s, func(value float64, labels ...string) {
				to <- prometheus.MustNewConstMetric(f.desc, f.kind.value(), value, labels...)
			})
		}
	}
}

// histogram has the sum and the bounds in seconds.
func histogram(desc *prometheus.Desc, r paths.RoundTrips, labels []string) prometheus.Metric {
	buckets, within := map[float64]uint64{}, uint64(0)
	for i, bound := range paths.RoundTripBounds {
		within += r.Buckets[i]
		buckets[bound.Seconds()] = within
	}
	return prometheus.MustNewConstHistogram(desc, r.Count, r.Sum.Seconds(), buckets, labels...)
}

// kind is the type of a family.
type kind string

const (
	counter    kind = "counter"
	gauge      kind = "gauge"
	histograms kind = "histogram"
)

func (k kind) value() prometheus.ValueType {
	if k == counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// emit adds a series: its value, and the values of its labels.
type emit func(value float64, labels ...string)

// family is all series of a name.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string
	// One of both says which series there are.
	values func(*Snapshot, emit)
	trips  func(*Snapshot, func(paths.RoundTrips, ...string))

	desc *prometheus.Desc
}

func init() {
	for i := range families {
		f := &families[i]
		f.desc = prometheus.NewDesc(f.name, f.help, f.labels, nil)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it: in seconds since 1970.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
