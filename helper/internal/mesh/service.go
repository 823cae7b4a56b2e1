package mesh

import (
	"context"
	"errors"
	"log/slog"
	"math/rand"
	"net"
	"net/netip"
	"sync"
	"time"

	"mobula/helper/internal/report"
	"mobula/helper/internal/shared"
)

// fresh is how long what a host said of itself, and what all of them said, is said again.
const fresh = time.Second

// Socket is what the service needs of a UDP socket.
type Socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

// View is what a host knows by itself.
type View struct {
	// Self is the host without its ways, Ways are all of them.
	Self report.Host
	Ways []report.Way
	// Targets are the other hosts.
	Targets []Target
	// Names are those that the host's nameserver answers itself, Clients all administrators'
	// clients, with what this host heard of them.
	Names   []report.Name
	Clients []report.Client
}

// Service answers other hosts' questions, and asks them.
type Service struct {
	// Socket hears members alone. It is closed by Close.
	Socket Socket
	// Address is where the service of a host is, and ID whose it is; 0: no member's.
	Address func(id uint16) netip.AddrPort
	ID      func(from netip.AddrPort) uint16
	// View looks. It is called once a second at most to answer, however many ask.
	View func() View
	Log  *slog.Logger

	answers budget
	asked   shared.Question[*report.Mesh]

	mu       sync.Mutex
	snapshot *Snapshot
	taken    time.Time // when the snapshot was
	round    *round
	began    time.Time // of the round
	poke     chan struct{}
	closed   bool
}

// Serve takes messages until the socket is closed.
func (s *Service) Serve() {
	b := make([]byte, 2*MaxPage)
	for {
		n, from, err := s.Socket.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // an ICMP error about what was sent
			continue
		}
		s.take(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
}

// Refused counts the questions of other hosts that were too many to be answered.
func (s *Service) Refused() uint64 {
	s.answers.mu.Lock()
	defer s.answers.mu.Unlock()
	return s.answers.refused
}

// Close ends Serve and what asks.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.wake()
	s.mu.Unlock()
	s.Socket.Close()
}

func (s *Service) take(b []byte, from netip.AddrPort) {
	id := s.ID(from)
	if id == 0 {
		return
	}
	switch typeOf(b) {
	case typeQuestion:
		if q, err := parseQuestion(b); err == nil && s.answers.may(id, time.Now()) {
			s.send(id, s.current().page(q))
		}
	case typeAnswer:
		s.mu.Lock()
		if s.round != nil && s.round.take(time.Since(s.began), id, b) {
			s.wake()
		}
		s.mu.Unlock()
	}
}

// current returns what the host says of itself now.
func (s *Service) current() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot == nil || time.Since(s.taken) > fresh {
		v := s.View()
		s.snapshot, s.taken = NewSnapshot(v.Self, v.Ways, heard(v.Clients, time.Now())), time.Now()
	}
	return s.snapshot
}

func (s *Service) send(id uint16, b []byte) {
	if _, err := s.Socket.WriteToUDPAddrPort(b, s.Address(id)); err != nil && !errors.Is(err, net.ErrClosed) {
		s.Log.Debug("speaking of the network", "host", id, "error", err)
	}
}

// wake has a round look again. The caller holds the lock.
func (s *Service) wake() {
	if s.poke != nil {
		select {
		case s.poke <- struct{}{}:
		default:
		}
	}
}

// Ask asks all hosts and returns what they say, without what follows from it. Who asks
// while somebody does, or within a second, is told the same: the hosts are not to be changed.
func (s *Service) Ask(ctx context.Context) (*report.Mesh, error) {
	m, err := s.asked.Ask(ctx, fresh, s.ask)
	if err != nil {
		return nil, err
	}
	own := *m // the hosts in it are everybody's
	return &own, nil
}

func (s *Service) ask() (*report.Mesh, error) {
	v := s.View()
	r := newRound(v.Targets, len(v.Targets) >= DetailedHosts, rand.Uint64())
	poke := make(chan struct{}, 1)
	s.mu.Lock()
	s.round, s.began, s.poke = r, time.Now(), poke
	s.mu.Unlock()
	s.run(r, poke)
	took := time.Since(s.began)
	v = s.View() // who does not answer may be known to be down by now
	s.mu.Lock()
	defer s.mu.Unlock()
	m := meshOf(v, r, s.began)
	m.Asked = s.began.Add(took).UTC().Truncate(time.Second)
	m.TookSeconds = took.Round(time.Millisecond).Seconds()
	s.round, s.poke = nil, nil
	return m, nil
}

// run has a round take its course.
func (s *Service) run(r *round, poke chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-poke:
			if !timer.Stop() {
				select {
				case <-timer.C:
				default:
				}
			}
		}
		s.mu.Lock()
		now := time.Since(s.began)
		out, again := r.tick(now)
		over := r.over || s.closed
		s.mu.Unlock()
		for _, m := range out {
			s.send(m.to, m.data)
		}
		if over {
			return
		}
		timer.Reset(max(again-now, sendInterval))
	}
}

// meshOf joins what the others said, in a round that began then, with what the host knows itself.
func meshOf(v View, r *round, began time.Time) *report.Mesh {
	r.learn(v.Targets)
	m := &report.Mesh{Format: report.Format, AskedBy: v.Self.HostID, Generation: v.Self.Generation, Ways: report.AllWays}
	if r.exceptions {
		m.Ways = report.Exceptions
	}
	own := v.Self
	own.Answer = report.Answered
	own.Count(v.Ways)
	for _, w := range v.Ways {
		if !r.exceptions || w.Exception() {
			own.Ways = append(own.Ways, w)
		}
	}
	m.Hosts = insert(r.answers(v.Self.Generation), own)
	m.Names = report.NewNames(v.Names)
	m.Clients = report.NewClients(r.clients.join(v.Clients, began), r.unknownAt())
	return m
}

func insert(all []report.Host, own report.Host) []report.Host {
	at := 0
	for at < len(all) && all[at].HostID < own.HostID {
		at++
	}
	all = append(all, report.Host{})
	copy(all[at+1:], all[at:])
	all[at] = own
	return all
}
