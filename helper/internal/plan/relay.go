package plan

import (
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Relays returns the ports by which the host with the given ID forwards between
// two others. A UDP port that the host publishes stays published: it relays to
// nobody, and the agent says so when it is asked. Where the NIC stays with the host
// nothing is published. Hosts that cannot relay have none, see network.Document.Relays.
func Relays(d *network.Document, id uint16) []spec.Relay {
	self, ok := d.Host(id)
	if !ok || !d.Relays()[id] {
		return nil
	}
	published := map[network.Port]bool{}
	if !self.SharedUplink {
		for _, p := range self.Publish {
			published[p] = true
		}
	}
	var all []spec.Relay
	for _, h := range d.Hosts {
		port := network.RelayPort(self, h.ID)
		if h.ID != id && h.Endpoint.IsValid() && !h.PublicKey.IsZero() && !published[network.Port{Protocol: "udp", Number: port}] {
			r := spec.Relay{HostID: h.ID, Port: port, Endpoint: h.Endpoint}
			for _, other := range h.OtherEndpoints {
				r.Others = append(r.Others, other.Endpoint)
			}
			all = append(all, r)
		}
	}
	return all
}
