package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/web"
)

// pageServer shows the page of the network at the addresses at which the gateway answers
// DNS. The firewall has only those reach it who may see it.
type pageServer struct {
	log *slog.Logger
	ask func(context.Context) (*report.Mesh, error)
	// ways looks at the host's own; nil: nobody knows them. They are noted while the page
	// is shown, and kept for as long as the agent runs.
	ways func() []report.Way
	past web.Past

	change    *store.Change // of which the names are
	address   netip.Addr
	guests    bool // may see it
	namespace uint64
	door      *web.Door
	refused   atomic.Uint64 // who asked it too often
	cancel    context.CancelFunc
	ended     chan struct{} // nil: it does not serve
	problem   string        // why not, as it was told last
}

// follow makes it follow what runs.
func (p *pageServer) follow(ctx context.Context, running *store.Change) {
	if running == nil || running.Document == nil {
		p.stop()
		return
	}
	address := running.Document.GatewayAddress(running.HostID)
	self, _ := running.Document.Host(running.HostID)
	// The firewall decides on new connections: those of guests who may no longer look end here.
	if p.serves() && p.address == address && p.guests == self.MapForGuests && p.namespace == netns.Inode(spec.Namespace) {
		if p.change != running {
			p.change = running
			p.door.Know(namesOfGateway(running))
		}
		if now := time.Now(); p.past.Due(now) {
			if ways := p.ways(); ways != nil {
				p.past.Note(now, ways)
			}
		}
		return
	}
	p.stop()
	if err := p.start(ctx, running, address, self.MapForGuests); err != nil && err.Error() != p.problem {
		p.log.Warn("showing the page of the network", "error", err)
		p.problem = err.Error()
	}
}

func (p *pageServer) serves() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *pageServer) stop() {
	if p.ended != nil {
		p.cancel()
		<-p.ended
		p.ended = nil
	}
}

func (p *pageServer) start(ctx context.Context, running *store.Change, address netip.Addr, guests bool) error {
	var listeners []net.Listener
	err := netns.Do(spec.Namespace, func() (err error) {
		listeners, err = listenAll(listensAt(running), spec.PageTCPPort)
		return err
	})
	if err != nil {
		return err
	}
	p.change, p.address, p.guests, p.namespace, p.problem = running, address, guests, netns.Inode(spec.Namespace), ""
	p.door = &web.Door{Guests: running.Document.Access(), Limits: web.PageLimits, Refused: &p.refused}
	p.door.Know(namesOfGateway(running))
	h := &web.Handler{Status: &web.Status{Ask: p.ask}, Past: &p.past, Door: p.door, Log: p.log}
	ctx, p.cancel = context.WithCancel(ctx)
	ended := make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		if err := web.Serve(ctx, listeners, h); err != nil {
			p.log.Warn("the page of the network ended", "error", err)
		}
	}()
	return nil
}

// listenAll opens a port at all of the addresses, or at none.
func listenAll(at []netip.Addr, port uint16) (all []net.Listener, err error) {
	for _, a := range at {
		l, err := net.Listen("tcp4", netip.AddrPortFrom(a, port).String())
		if err != nil {
			for _, open := range all {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// namesOfGateway are the addresses and names by which what the agent serves there may be asked
// for: those of the gateway, and the host's on intrawire, which leads other hosts to it.
// Names are extra_hosts'.
func namesOfGateway(running *store.Change) map[string]bool {
	d, id := running.Document, running.HostID
	own := append(listensAt(running), d.IntrawireAddress(id))
	all := map[string]bool{}
	for _, a := range own {
		all[a.String()] = true
	}
	for _, n := range d.PrivateNames() {
		for _, a := range own {
			if n.Address == a {
				all[n.Name] = true
			}
		}
	}
	return all
}
