package metrics

import (
	"sort"
	"strconv"
	"time"

	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/paths"
)

// families are all there are, in the order in which docs/monitoring/README.md has them.
var families = append(append(append(ofHost, ofPaths...), ofServices...), ofPeers...)

var ofHost = []family{
	{name: "mobula_build_info", kind: gauge, labels: []string{"version", "goversion"}, help: "The agent's program; always 1.",
		values: func(s *Snapshot, add emit) { add(1, s.Version, s.GoVersion) }},
	{name: "mobula_network_running", kind: gauge, help: "Whether the agent keeps a network: 0 where Mobula does not run, or the agent has just begun.",
		values: func(s *Snapshot, add emit) { add(truth(s.Network != nil)) }},
	{name: "mobula_host_info", kind: gauge, labels: []string{"host_id", "hostname"}, help: "Which host of the network this is; always 1.",
		values: running(func(n *Network, add emit) { add(1, strconv.Itoa(int(n.HostID)), n.Hostname) })},
	{name: "mobula_generation_info", kind: gauge, labels: []string{"generation"}, help: "The generation of the network document that runs; always 1.",
		values: running(func(n *Network, add emit) { add(1, n.Generation) })},
	{name: "mobula_generation_taken_timestamp_seconds", kind: gauge, help: "When the agent took the generation over.",
		values: running(func(n *Network, add emit) { add(seconds(n.Since)) })},
	{name: "mobula_change_pending", kind: gauge, help: "Whether a change waits for confirmation.",
		values: func(s *Snapshot, add emit) { add(truth(s.Pending)) }},
	{name: "mobula_comparisons_total", kind: counter, labels: []string{"result"}, help: "Comparisons of the host with its plan that the agent had made: success (repaired, if need be), failure, or deferred by a change.",
		values: func(s *Snapshot, add emit) {
			add(float64(s.Repairs.Succeeded), "success")
			add(float64(s.Repairs.Failed), "failure")
			add(float64(s.Repairs.Deferred), "deferred")
		}},
	{name: "mobula_differences_found_total", kind: counter, help: "What these comparisons found changed. The gauge of the last one is soon 0 again: a comparison follows each repair.",
		values: func(s *Snapshot, add emit) { add(float64(s.Repairs.Found)) }},
	{name: "mobula_comparison_timestamp_seconds", kind: gauge, help: "When the last comparison ended, whoever had it made.",
		values: func(s *Snapshot, add emit) {
			if !s.Repairs.Last.IsZero() {
				add(seconds(s.Repairs.Last))
			}
		}},
	{name: "mobula_comparison_differences", kind: gauge, help: "What the last comparison found changed, and repaired.",
		values: func(s *Snapshot, add emit) {
			if !s.Repairs.Last.IsZero() {
				add(float64(s.Repairs.Differences))
			}
		}},
}

var ofPaths = []family{
	{name: "mobula_peers", kind: gauge, labels: []string{"state", "way"}, help: "Other hosts by state (up, down, or unknown as long as there was no answer) and by the way that traffic takes (direct or relayed).",
		values: running(func(n *Network, add emit) {
			for _, state := range []string{paths.StateUp, paths.StateDown, paths.StateUnknown} {
				add(count(n.Peers, func(p Peer) bool { return p.State == state && !p.Relayed }), state, direct)
				add(count(n.Peers, func(p Peer) bool { return p.State == state && p.Relayed }), state, relayed)
			}
		})},
	{name: "mobula_peers_poor", kind: gauge, help: "Other hosts that are up, on a path that loses packets.",
		values: running(func(n *Network, add emit) { add(count(n.Peers, func(p Peer) bool { return p.Poor })) })},
	{name: "mobula_peers_carried", kind: gauge, help: "Other hosts that are up and to which an agent carries, in place of relay ports; they are relayed ones, too.",
		values: running(func(n *Network, add emit) {
			add(count(n.Peers, func(p Peer) bool { return p.State == paths.StateUp && p.Carried }))
		})},
	{name: "mobula_peers_by_generation", kind: gauge, labels: []string{"generation"}, help: "Other hosts by whether they run the same generation as this one: same, different, or unknown.",
		values: running(func(n *Network, add emit) {
			for _, g := range []string{"same", "different", "unknown"} {
				add(count(n.Peers, func(p Peer) bool { return p.Generation == g }), g)
			}
		})},
	{name: "mobula_peers_without_handshake", kind: gauge, help: "Other hosts with which WireGuard has shaken no hands since it was set up.",
		values: running(func(n *Network, add emit) { add(count(n.Peers, func(p Peer) bool { return p.Handshake.IsZero() })) })},
	{name: "mobula_handshake_oldest_timestamp_seconds", kind: gauge, help: "When the last handshake was with the host with which it was longest ago.",
		values: running(func(n *Network, add emit) { addTime(add, handshakes(n.Peers).oldest) })},
	{name: "mobula_handshake_newest_timestamp_seconds", kind: gauge, help: "When the last handshake with any host was.",
		values: running(func(n *Network, add emit) { addTime(add, handshakes(n.Peers).newest) })},
	{name: "mobula_probes_sent_total", kind: counter, labels: []string{"way"}, help: "Probes sent over the way that traffic takes. Those that are no round trip were lost.",
		values: byWay(func(w *paths.WayStats) float64 { return float64(w.Sent) })},
	{name: "mobula_probe_round_trip_seconds", kind: histograms, labels: []string{"way"}, help: "Round trips of these probes.",
		trips: func(s *Snapshot, add func(paths.RoundTrips, ...string)) {
			if s.Network != nil {
				add(s.Network.Paths.Direct.RoundTrips, direct)
				add(s.Network.Paths.Relayed.RoundTrips, relayed)
			}
		}},
	{name: "mobula_probes_held_total", kind: counter, help: "Own probes that waited because all together were too many.",
		values: running(func(n *Network, add emit) { add(float64(n.Paths.ProbesHeld)) })},
	{name: "mobula_path_changes_total", kind: counter, labels: []string{"way"}, help: "How often traffic to a host began to take another way, by what that is.",
		values: byWay(func(w *paths.WayStats) float64 { return float64(w.Taken) })},
	{name: "mobula_path_failures_total", kind: counter, help: "Paths that nothing passed any more.",
		values: running(func(n *Network, add emit) { add(float64(n.Paths.Falls)) })},
	{name: "mobula_relay_searches_total", kind: counter, help: "Searches for a relay.",
		values: running(func(n *Network, add emit) { add(float64(n.Paths.Searches)) })},
	{name: "mobula_relay_search_failures_total", kind: counter, help: "Searches in which all were asked, and no relay would do.",
		values: running(func(n *Network, add emit) { add(float64(n.Paths.SearchesFailed)) })},
	{name: "mobula_relaying", kind: gauge, help: "Whether this host relays for others.",
		values: running(func(n *Network, add emit) { add(truth(n.Relays)) })},
	{name: "mobula_relayed_packets_total", kind: counter, help: "Packets that this host passed on from one host to another, since its rules were loaded.",
		values: gateway(func(g *Gateway, add emit) { add(float64(g.RelayedPackets)) })},
	{name: "mobula_relay_stranded_packets_total", kind: counter, help: "Packets that this host did not pass on, as they were too long for the way; where the NIC has moved there are none.",
		values: gateway(func(g *Gateway, add emit) { add(float64(g.Stranded)) })},
	{name: "mobula_relayed_bytes_total", kind: counter, help: "Bytes of these packets.",
		values: gateway(func(g *Gateway, add emit) { add(float64(g.RelayedBytes)) })},
	{name: "mobula_carried_datagrams_total", kind: counter, labels: []string{"of"}, help: "WireGuard's datagrams that agents carried: to and from this host (own), and by this host from one host to another (others, where one in two parts counts twice).",
		values: running(func(n *Network, add emit) {
			add(float64(n.Carried.Own.Datagrams), "own")
			add(float64(n.Carried.Others.Datagrams), "others")
		})},
	{name: "mobula_carried_bytes_total", kind: counter, labels: []string{"of"}, help: "Bytes of these datagrams.",
		values: running(func(n *Network, add emit) {
			add(float64(n.Carried.Own.Bytes), "own")
			add(float64(n.Carried.Others.Bytes), "others")
		})},
}

var ofServices = []family{
	{name: "mobula_refused_total", kind: counter, labels: []string{"bound"}, help: "What was beyond a bound of the agent: probes not answered (echoes), direct messages not verified (peer_macs, stranger_macs), questions for a relay not answered (relay_questions) or not looked into (relay_checks), dead hosts of which others told and that were not tried for that (rumors), askers forgotten (relay_askers), questions how the network is (mesh_questions) who asks for it on the host (mesh_calls), and who asks for the page (page) or the metrics inside (scrapes) too often, packets that begin to leave of which the kernel could not tell (first_packets), carried datagrams that were not taken (carried), and addresses of which a host told too often (announcements).",
		values: func(s *Snapshot, add emit) {
			add(float64(s.CallsRefused), "mesh_calls")
			add(float64(s.PageRefused), "page")
			add(float64(s.ScrapesRefused), "scrapes")
			if n := s.Network; n != nil {
				add(float64(n.Refused.Echoes), "echoes")
				add(float64(n.Refused.PeerMACs), "peer_macs")
				add(float64(n.Refused.StrangerMACs), "stranger_macs")
				add(float64(n.Paths.QuestionsRefused), "relay_questions")
				add(float64(n.Paths.ChecksRefused), "relay_checks")
				add(float64(n.Paths.RumorsRefused), "rumors")
				add(float64(n.Refused.Askers), "relay_askers")
				add(float64(n.Refused.Questions), "mesh_questions")
				add(float64(n.Refused.FirstPackets), "first_packets")
				add(float64(n.Refused.Carried), "carried")
				add(float64(n.Refused.Announcements), "announcements")
			}
		}},
	{name: "mobula_gateway_refused_packets_total", kind: counter, labels: []string{"reason"}, help: "Packets of guests and clients that the gateway dropped, since its rules were loaded: to a cloud's metadata service, from an address of another network, beyond the bounds of connections and of neighbors, or to the host's addresses outside.",
		values: gateway(func(g *Gateway, add emit) {
			var reasons []string
			for reason := range g.Refused {
				reasons = append(reasons, reason)
			}
			sort.Strings(reasons)
			for _, reason := range reasons {
				add(float64(g.Refused[reason]), reason)
			}
		})},
	{name: "mobula_switch_dropped_frames_total", kind: counter, labels: []string{"reason"}, help: "Frames on the access network that were dropped: they claimed somebody else's address (address), or came from more stations or addresses than one port or host may have (bound).",
		values: func(s *Snapshot, add emit) {
			if s.DroppedFrames != nil {
				add(float64(s.DroppedFrames.Claimed), "address")
				add(float64(s.DroppedFrames.Beyond), "bound")
			}
		}},
	{name: "mobula_switch_flooded_frames_total", kind: counter, help: "Frames to everybody, or to stations that nobody knows, that were too many for the other hosts and dropped, since their bound was set; there is none where the kernel's Open vSwitch cannot bound them.",
		values: func(s *Snapshot, add emit) {
			if s.FloodedFrames != nil {
				add(float64(*s.FloodedFrames))
			}
		}},
	{name: "mobula_dns_questions_total", kind: counter, labels: []string{"result"}, help: "Questions that the nameserver got: private (names of the network), cached, upstream (to be asked there), declined (of a kind that is not answered) or malformed.",
		values: dns(func(d *nameserver.Stats, add emit) {
			add(float64(d.Private), "private")
			add(float64(d.CacheHits), "cached")
			add(float64(d.Upstream), "upstream")
			add(float64(d.Declined), "declined")
			add(float64(d.Malformed), "malformed")
		})},
	{name: "mobula_dns_upstream_questions_total", kind: counter, help: "Questions sent to upstream resolvers, tries not counted.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.Forwarded)) })},
	{name: "mobula_dns_upstream_failures_total", kind: counter, help: "Of these, those to which no resolver had an answer.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.Failed)) })},
	{name: "mobula_dns_upstream_errors_total", kind: counter, help: "Tries that an upstream resolver did not answer.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.Unanswered)) })},
	{name: "mobula_dns_refused_total", kind: counter, labels: []string{"bound"}, help: "What the nameserver dropped or turned away: from sources that get no answer (source), beyond its bounds (overload), and datagrams of resolvers that answer nothing that was asked (forged).",
		values: dns(func(d *nameserver.Stats, add emit) {
			add(float64(d.Refused), "source")
			add(float64(d.Overloaded), "overload")
			add(float64(d.Forged), "forged")
		})},
	{name: "mobula_dns_outstanding", kind: gauge, help: "Questions on their way to upstream resolvers.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.Outstanding)) })},
	{name: "mobula_dns_cache_entries", kind: gauge, help: "Answers in the cache.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.Entries)) })},
	{name: "mobula_dns_cache_bytes", kind: gauge, help: "Size of the cache.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.CacheBytes)) })},
	{name: "mobula_dns_private_names", kind: gauge, help: "Names that the nameserver answers itself.",
		values: dns(func(d *nameserver.Stats, add emit) { add(float64(d.Names)) })},
}

// The values of the label way.
const (
	direct  = "direct"
	relayed = "relayed"
)

func running(of func(*Network, emit)) func(*Snapshot, emit) {
	return func(s *Snapshot, add emit) {
		if s.Network != nil {
			of(s.Network, add)
		}
	}
}

func byWay(of func(*paths.WayStats) float64) func(*Snapshot, emit) {
	return running(func(n *Network, add emit) {
		add(of(&n.Paths.Direct), direct)
		add(of(&n.Paths.Relayed), relayed)
	})
}

func dns(of func(*nameserver.Stats, emit)) func(*Snapshot, emit) {
	return func(s *Snapshot, add emit) {
		if s.DNS != nil {
			of(s.DNS, add)
		}
	}
}

func gateway(of func(*Gateway, emit)) func(*Snapshot, emit) {
	return func(s *Snapshot, add emit) {
		if s.Gateway != nil {
			of(s.Gateway, add)
		}
	}
}

func count(peers []Peer, which func(Peer) bool) (n float64) {
	for _, p := range peers {
		n += truth(which(p))
	}
	return n
}

// extremes are of the last handshakes with all peers; zero: there was none.
type extremes struct{ oldest, newest time.Time }

func handshakes(peers []Peer) (e extremes) {
	for _, p := range peers {
		if t := p.Handshake; !t.IsZero() {
			if e.oldest.IsZero() || t.Before(e.oldest) {
				e.oldest = t
			}
			if t.After(e.newest) {
				e.newest = t
			}
		}
	}
	return e
}

// addTime leaves out what was not.
func addTime(add emit, t time.Time, labels ...string) {
	if !t.IsZero() {
		add(seconds(t), labels...)
	}
}
