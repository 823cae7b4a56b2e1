package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/packetfilter"
	"mobula/helper/internal/spec"
)

// closed says what this host's packet filters evidently drop that Mobula needs, by the
// interfaces of the facts. One whose NIC has moved has the gateway's before them.
func closed(ctx context.Context, facts *spec.Facts, e packetfilter.Evidence) []string {
	if !facts.IsShared() {
		return []string{}
	}
	filters, err := packetfilter.Read(ctx, packetfilter.Run, "")
	if err != nil {
		return []string{fmt.Sprintf("packet filter: cannot tell whether it lets WireGuard's udp/%d pass: %v", e.Port, err)}
	}
	e.Outside = facts.Shared.Outside
	return append([]string{}, filters.Say(e)...)
}

// silence is how long after a handshake WireGuard's packets are no longer accepted
// (REJECT_AFTER_TIME, section 6.1 of its paper).
const silence = 180 * time.Second

// silentHosts are those of which nothing is heard, with their addresses outside.
func silentHosts(peers []peerReport, d *network.Document, now time.Time) map[string]netip.Addr {
	silent := map[string]netip.Addr{}
	for _, p := range peers {
		host, known := d.Host(p.HostID)
		if known && host.Endpoint.IsValid() && (p.LastHandshake == nil || now.Sub(*p.LastHandshake) > silence) {
			silent[p.Name] = host.Endpoint.Addr()
		}
	}
	return silent
}
