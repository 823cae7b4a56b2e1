package agent

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/web"
)

// pageServer shows the page of the network at the addresses at which the gateway answers DNS.
type pageServer struct {
	insideServer
	// ways looks at the host's own; nil: nobody knows them. They are noted while the page
	// is shown, and kept for as long as the agent runs.
	ways func() []report.Way
	past web.Past
}

func newPageServer(log *slog.Logger, ask func(context.Context) (*report.Mesh, error), ways func() []report.Way) *pageServer {
	p := &pageServer{ways: ways}
	p.insideServer = insideServer{what: "the page of the network", log: log, limits: web.PageLimits, server: func(d *web.Door) *http.Server {
		return web.Server(&web.Handler{Status: &web.Status{Ask: ask}, Past: &p.past, Door: d, Log: log})
	}}
	return p
}

// follow makes it follow what runs.
func (p *pageServer) follow(ctx context.Context, running *store.Change) {
	p.insideServer.follow(ctx, pageAt(running), running)
	if now := time.Now(); p.serves() && p.past.Due(now) {
		if ways := p.ways(); ways != nil {
			p.past.Note(now, ways)
		}
	}
}

// pageAt is where the page is, as what runs says.
func pageAt(running *store.Change) (p place) {
	if running == nil || running.Document == nil {
		return p
	}
	self, _ := running.Self()
	p.namespace, p.guests = netns.Inode(spec.Namespace), self.MapForGuests
	for _, a := range listensAt(running) {
		p.at = append(p.at, netip.AddrPortFrom(a, spec.PageTCPPort))
	}
	return p
}
