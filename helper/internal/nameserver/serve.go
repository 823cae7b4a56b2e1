package nameserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// maxSocketFailures is how often in a row a socket may fail before Serve gives
// up. The pauses between take about 6 s.
const maxSocketFailures = 20

// Serve answers on all sockets until ctx is done, and returns nil then, or
// until one of them fails for good. It closes the sockets and returns when
// nothing it started runs any more. It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	failures := make(chan error, len(s.cfg.PacketConns)+len(s.cfg.Listeners))
	start := func(serve func() error) {
		running.Add(1)
		go func() {
			defer running.Done()
			if err := serve(); err != nil && ctx.Err() == nil {
				failures <- err
			}
		}()
	}
	for _, c := range s.cfg.PacketConns {
		start(func() error { return s.servePackets(ctx, c, &running) })
	}
	for _, l := range s.cfg.Listeners {
		start(func() error { return s.serveConns(ctx, l, &running) })
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failures:
		cancel()
	}
	s.close()
	running.Wait()
	return err
}

func (s *Server) close() {
	for _, c := range s.cfg.PacketConns {
		c.Close()
	}
	for _, l := range s.cfg.Listeners {
		l.Close()
	}
}

// persist calls step until ctx is done or step fails for good: because the
// socket is closed or maxSocketFailures times in a row. What step returns while
// memory or descriptors are short passes.
func (s *Server) persist(ctx context.Context, address net.Addr, step func() error) error {
	for failures := 0; ctx.Err() == nil; {
		err := step()
		if err == nil {
			failures = 0
			continue
		}
		if failures++; errors.Is(err, net.ErrClosed) || failures == maxSocketFailures {
			return fmt.Errorf("serving DNS on %s/%s: %w", address, address.Network(), err)
		}
		if failures == 1 && ctx.Err() == nil {
			s.log.Warn("DNS socket fails", slog.String("address", address.String()), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Millisecond<<failures, 500*time.Millisecond)):
		}
	}
	return nil
}

// servePackets answers over UDP. Whatever needs no upstream resolver is
// answered in turn; the rest waits beside.
func (s *Server) servePackets(ctx context.Context, c net.PacketConn, running *sync.WaitGroup) error {
	buffer := make([]byte, maxQueryBytes)
	return s.persist(ctx, c.LocalAddr(), func() error {
		n, to, err := c.ReadFrom(buffer)
		if err != nil {
			return err
		}
		source := sourceOf(to)
		out, q := s.answer(buffer[:n], source, false)
		switch {
		case out != nil:
			c.WriteTo(out, to) // a datagram that cannot be sent is lost like any other
		case q == nil:
		case !s.pending.acquire(source):
			s.stats.overloaded.Add(1)
			c.WriteTo(q.refuse(dns.RcodeServerFailure), to)
		default:
			running.Add(1)
			go func() {
				defer running.Done()
				defer s.pending.release(source)
				c.WriteTo(s.wait(ctx, q), to)
			}()
		}
		return nil
	})
}

// sourceOf returns the IP address of a client, the zero Addr for what has none.
func sourceOf(a net.Addr) netip.Addr {
	var source netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		source = a.AddrPort()
	case *net.TCPAddr:
		source = a.AddrPort()
	}
	if source.Port() == 0 { // nobody can be answered there
		return netip.Addr{}
	}
	return source.Addr().Unmap()
}

// serveConns answers over TCP.
func (s *Server) serveConns(ctx context.Context, l net.Listener, running *sync.WaitGroup) error {
	return s.persist(ctx, l.Addr(), func() error {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		source := sourceOf(conn.RemoteAddr())
		switch {
		case !s.allows(source):
			s.stats.refused.Add(1)
			conn.Close()
		case !s.conns.acquire(source):
			s.stats.overloaded.Add(1)
			conn.Close()
		default:
			running.Add(1)
			go func() {
				defer running.Done()
				defer s.conns.release(source)
				s.serveConn(ctx, conn, source)
			}()
		}
		return nil
	})
}

// serveConn answers one connection's questions until the client closes it, is
// idle for too long, or sends what deserves no answer. A question that has to
// wait for an upstream resolver holds up none behind it (RFC 7766 section
// 6.2.1.1); the bounds are those of UDP.
func (s *Server) serveConn(ctx context.Context, conn net.Conn, source netip.Addr) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	client := &stream{conn: conn, idle: s.cfg.IdleTimeout}
	var waiting sync.WaitGroup
	defer waiting.Wait() // a client may close its side and read on
	for {
		conn.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout))
		packet, err := readFrame(conn, maxQueryBytes)
		if err != nil {
			return
		}
		out, q := s.answer(packet, source, true)
		if q != nil && !s.pending.acquire(source) {
			s.stats.overloaded.Add(1)
			out, q = q.refuse(dns.RcodeServerFailure), nil
		}
		switch {
		case q != nil:
			waiting.Add(1)
			go func() {
				defer waiting.Done()
				defer s.pending.release(source)
				_ = client.send(s.wait(ctx, q)) // a client that is given up is no longer read from
			}()
		case out == nil || client.send(out) != nil:
			return
		}
	}
}

// stream is a connection to which several questions' answers are written.
type stream struct {
	conn net.Conn
	idle time.Duration
	mu   sync.Mutex
}

// send writes one answer. A client that does not take it is given up.
func (c *stream) send(out []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(c.idle))
	err := writeFrame(c.conn, out)
	if err != nil {
		c.conn.Close()
	}
	return err
}
