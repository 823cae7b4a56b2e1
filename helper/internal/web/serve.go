package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// What one who asks may take, and all together. A browser opens six connections to a host.
const (
	maxConns          = 64
	maxConnsPerSource = 12
	maxHeaderBytes    = 8 << 10
	headerTimeout     = 5 * time.Second
	// writeTimeout is for asking all hosts and for a slow phone.
	writeTimeout = patience + 30*time.Second
	idleTimeout  = 15 * time.Second
)

// PageLimits are those of the page.
var PageLimits = Limits{Each: 5, EachBurst: 30, All: 100, AllBurst: 200}

// Serve answers on the listeners until the context ends, and closes them.
func Serve(ctx context.Context, listeners []net.Listener, h *Handler) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	shared := newQuota(maxConns, maxConnsPerSource, h.Door.isGuest)
	failed := make(chan error, len(listeners))
	var running sync.WaitGroup
	for _, l := range listeners {
		running.Add(1)
		go func() {
			defer running.Done()
			failed <- server.Serve(bounded{l, shared})
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

// Bounded returns a listener that closes connections beyond so many, and beyond so many of one
// address.
func Bounded(l net.Listener, all, each int) net.Listener {
	return bounded{l, newQuota(all, each, func(netip.Addr) bool { return false })}
}

// bounded closes connections that are too many.
type bounded struct {
	net.Listener
	quota *quota
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

func newQuota(most, each int, isGuest func(netip.Addr) bool) *quota {
	return &quota{most: most, each: each, sources: map[netip.Addr]int{}, isGuest: isGuest}
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
