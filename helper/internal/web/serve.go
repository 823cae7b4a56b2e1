package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What one who asks for the page may take.
const (
	maxHeaderBytes = 8 << 10
	headerTimeout  = 5 * time.Second
	// writeTimeout is for asking all hosts and for a slow phone.
	writeTimeout = patience + 30*time.Second
	idleTimeout  = 15 * time.Second
)

// PageLimits are those of the page. A browser opens six connections to a host.
var PageLimits = Limits{Each: 5, EachBurst: 30, All: 100, AllBurst: 200, Conns: 64, ConnsEach: 12}

// Server returns one for the page that gives nobody much: not of its time, and not of its memory.
func Server(h *Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug),
	}
}

// Serve answers on the listeners until the context ends, and closes them. Of all of them together
// it closes connections beyond the door's limits; nil: there are none.
func Serve(ctx context.Context, listeners []net.Listener, door *Door, server *http.Server) error {
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	if door != nil {
		shared := newQuota(door.Limits, door.isGuest)
		for i, l := range listeners {
			listeners[i] = bounded{l, shared, door.Refused}
		}
	}
	failed := make(chan error, len(listeners))
	var running sync.WaitGroup
	for _, l := range listeners {
		running.Add(1)
		go func() {
			defer running.Done()
			failed <- server.Serve(l)
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	server.Close()
	running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// bounded closes connections that are too many.
type bounded struct {
	net.Listener
	quota   *quota
	refused *atomic.Uint64 // nil: nobody counts
}

func (b bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(c.RemoteAddr().String())
		if b.quota.take(source) {
			return &counted{Conn: c, release: func() { b.quota.release(source) }}, nil
		}
		c.Close()
		if b.refused != nil {
			b.refused.Add(1)
		}
	}
}

// counted gives its place back, once.
type counted struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *counted) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}

// CloseWrite has who sent too much read why before the connection ends.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// quota counts connections.
type quota struct {
	most, each int // of all, and of a source

	mu      sync.Mutex
	all     int
	guests  int // of them
	sources map[netip.Addr]int
	isGuest func(netip.Addr) bool
}

func newQuota(l Limits, isGuest func(netip.Addr) bool) *quota {
	return &quota{most: l.Conns, each: l.ConnsEach, sources: map[netip.Addr]int{}, isGuest: isGuest}
}

func (q *quota) take(source netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all >= q.most || q.sources[source] >= q.each {
		return false
	}
	if q.isGuest(source) {
		if q.guests >= q.most/guestsPart {
			return false
		}
		q.guests++
	}
	q.all++
	q.sources[source]++
	return true
}

func (q *quota) release(source netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all--
	if q.isGuest(source) {
		q.guests--
	}
	if q.sources[source]--; q.sources[source] == 0 {
		delete(q.sources, source)
	}
}
