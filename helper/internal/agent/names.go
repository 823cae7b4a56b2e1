package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"

	"mobula/helper/internal/nameserver"
)

// publicNames asks the resolvers that the nameserver forwards to, as it does: by the
// gateway's way outside. The nameserver may be replaced.
type publicNames struct {
	server atomic.Pointer[nameserver.Server]
}

func (p *publicNames) follow(d *dnsService) {
	if d == nil {
		p.server.Store(nil)
		return
	}
	p.server.Store(d.server)
}

func (p *publicNames) PublicAddresses(ctx context.Context, name string) ([]netip.Addr, error) {
	server := p.server.Load()
	if server == nil {
		return nil, errors.New("the nameserver does not run")
	}
	return server.PublicAddresses(ctx, name)
}
