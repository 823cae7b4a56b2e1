package metrics

import (
	"strconv"

	"mobula/helper/internal/paths"
)

var ofPeers = []family{
	{name: "mobula_peers_omitted", kind: gauge, help: "Other hosts of which there are no series of their own, though they are wanted: there are more than 100.",
		values: running(func(n *Network, add emit) { add(float64(omitted(n))) })},
	{name: "mobula_peer_info", kind: gauge, labels: []string{"peer", "host_id", "endpoint"}, help: "Where traffic to a host goes; always 1.",
		values: each(func(p Peer, add emit) { add(1, p.Hostname, strconv.Itoa(int(p.ID)), endpoint(p)) })},
	{name: "mobula_peer_up", kind: gauge, labels: []string{"peer"}, help: "Whether a host is up.",
		values: each(func(p Peer, add emit) { add(truth(p.State == paths.StateUp), p.Hostname) })},
	{name: "mobula_peer_relayed", kind: gauge, labels: []string{"peer"}, help: "Whether traffic to a host is relayed.",
		values: each(func(p Peer, add emit) { add(truth(p.Relayed), p.Hostname) })},
	{name: "mobula_peer_round_trip_seconds", kind: gauge, labels: []string{"peer"}, help: "Round trip to a host, smoothed.",
		values: each(func(p Peer, add emit) {
			if p.RTT > 0 {
				add(p.RTT.Seconds(), p.Hostname)
			}
		})},
	{name: "mobula_peer_loss_ratio", kind: gauge, labels: []string{"peer"}, help: "Share of the probes to a host lost in five minutes, both ways together.",
		values: each(func(p Peer, add emit) { add(p.Loss, p.Hostname) })},
	{name: "mobula_peer_handshake_timestamp_seconds", kind: gauge, labels: []string{"peer"}, help: "When the last handshake with a host was.",
		values: each(func(p Peer, add emit) { addTime(add, p.Handshake, p.Hostname) })},
}

// each is for all peers, where these are wanted and not too many. None is better than some:
// whoever looks for a host must not take it for well because it was left out.
func each(of func(Peer, emit)) func(*Snapshot, emit) {
	return running(func(n *Network, add emit) {
		if n.PerPeer && omitted(n) == 0 {
			for _, p := range n.Peers {
				of(p, add)
			}
		}
	})
}

func omitted(n *Network) int {
	if n.PerPeer && len(n.Peers) > MaxPeers {
		return len(n.Peers)
	}
	return 0
}

func endpoint(p Peer) string {
	if !p.Endpoint.IsValid() {
		return ""
	}
	return p.Endpoint.String()
}
