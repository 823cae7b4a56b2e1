package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// noNames is a zone without private names.
var noNames = newZone(&network.Document{})

// PublicAddresses returns the IPv4 addresses that the upstream resolvers know of a name,
// also where it is a private one: for the host itself, past what clients share. Nothing
// is kept. It takes no longer than Config.Deadline, or until ctx is done.
func (s *Server) PublicAddresses(ctx context.Context, name string) ([]netip.Addr, error) {
	f := s.forwarder.Load()
	if len(f.upstreams) == 0 {
		return nil, errors.New("there is no resolver (set upstream_dns)")
	}
	d, err := f.ask(ctx, question{name: dns.CanonicalName(name), qtype: dns.TypeA}, noNames)
	if err != nil {
		return nil, errors.New("no resolver has an answer")
	}
	var m dns.Msg
	if err := m.Unpack(d.wire); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	var all []netip.Addr
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			if address, ok := netip.AddrFromSlice(a.A.To4()); ok {
				all = append(all, address)
			}
		}
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		return nil, errors.New("there is no such name")
	case len(all) == 0:
		return nil, errors.New("it has no IPv4 address")
	}
	return all, nil
}
