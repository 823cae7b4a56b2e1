package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/web"
)

// place is where something is shown inside, and to whom; without addresses nowhere.
type place struct {
	namespace uint64 // inode of the gateway's
	at        []netip.AddrPort
	guests    bool // may see it
}

func (p place) same(other place) bool {
	return p.namespace == other.namespace && p.guests == other.guests && slices.Equal(p.at, other.at)
}

// insideServer answers HTTP at addresses in the gateway's namespace, by the gateway's names, as what
// runs says. The firewall has only those reach it who may.
type insideServer struct {
	what   string // for the log
	log    *slog.Logger
	limits web.Limits
	server func(*web.Door) *http.Server

	place   place
	change  *store.Change // of which the names are
	door    *web.Door
	refused atomic.Uint64 // who asked too often
	cancel  context.CancelFunc
	ended   chan struct{} // nil: it does not serve
	problem string        // why not, as it was told last
}

// follow has it be at a place. The firewall decides on new connections: those of guests who may no
// longer look end here.
func (s *insideServer) follow(ctx context.Context, want place, running *store.Change) {
	if len(want.at) == 0 {
		s.stop()
		return
	}
	if s.serves() && s.place.same(want) {
		if s.change != running {
			s.change = running
			s.door.Know(namesOfGateway(running))
		}
		return
	}
	s.stop()
	if err := s.start(ctx, want, running); err != nil && err.Error() != s.problem {
		s.log.Warn("serving "+s.what, "error", err)
		s.problem = err.Error()
	}
}

func (s *insideServer) serves() bool {
	if s.ended == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *insideServer) stop() {
	if s.ended != nil {
		s.cancel()
		<-s.ended
		s.ended = nil
	}
}

func (s *insideServer) start(ctx context.Context, want place, running *store.Change) error {
	var listeners []net.Listener
	err := netns.Do(spec.Namespace, func() (err error) {
		listeners, err = listenAll(want.at)
		return err
	})
	if err != nil {
		return err
	}
	s.place, s.change, s.problem = want, running, ""
	door := &web.Door{Guests: running.Document.Access(), Limits: s.limits, Refused: &s.refused}
	door.Know(namesOfGateway(running))
	ctx, s.cancel = context.WithCancel(ctx)
	ended, server := make(chan struct{}), s.server(door)
	s.door, s.ended = door, ended
	go func() {
		defer close(ended)
		if err := web.Serve(ctx, listeners, door, server); err != nil {
			s.log.Warn(s.what+" ended", "error", err)
		}
	}()
	s.log.Info("serving "+s.what, "addresses", want.at)
	return nil
}

// listenAll opens all of the addresses, or none.
func listenAll(at []netip.AddrPort) (all []net.Listener, err error) {
	for _, a := range at {
		l, err := net.Listen("tcp4", a.String())
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
