package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// noNames is a zone without private names.
var noNames = newZone(&network.Document{})

// PublicAddresses returns the IPv4 and IPv6 addresses that the upstream resolvers know of a name,
// also where it is a private one: for the host itself, past what clients share. Nothing
// is kept. It takes no longer than Config.Deadline, or until ctx is done.
func (s *Server) PublicAddresses(ctx context.Context, name string) (all []netip.Addr, err error) {
	f := s.forwarder.Load()
	if len(f.upstreams) == 0 {
		return nil, errors.New("there is no resolver (set upstream_dns)")
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Deadline)
	defer cancel()
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		of, problem := f.addressesOf(ctx, dns.CanonicalName(name), kind)
		all = append(all, of...)
		if err == nil {
			err = problem
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case err != nil:
		return nil, err
	}
	return nil, errors.New("it has no address")
}

// addressesOf asks for those of one kind.
func (f *forwarder) addressesOf(ctx context.Context, name string, kind uint16) (all []netip.Addr, err error) {
	d, err := f.ask(ctx, question{name: name, qtype: kind}, noNames)
	if err != nil {
		return nil, errors.New("no resolver has an answer")
	}
	var m dns.Msg
	if err := m.Unpack(d.wire); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if m.Rcode == dns.RcodeNameError {
		return nil, errors.New("there is no such name")
	}
	for _, rr := range m.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA.To16()
		}
		if address, ok := netip.AddrFromSlice(ip); ok {
			all = append(all, address)
		}
	}
	return all, nil
}
