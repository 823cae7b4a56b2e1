package healing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

type testPacket struct {
	data []byte
	from netip.AddrPort
}

// testQueue is what a socket has received. As with the kernel's, a full one drops, and of
// one that is closed nothing is read any more, nor is anything sent (net.ErrClosed).
type testQueue struct {
	packets chan testPacket
	closed  chan struct{}
	once    sync.Once
}

func newTestQueue() *testQueue {
	return &testQueue{packets: make(chan testPacket, 100), closed: make(chan struct{})}
}

func (q *testQueue) Close() error { q.once.Do(func() { close(q.closed) }); return nil }

func (q *testQueue) isClosed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}

func (q *testQueue) put(p testPacket) {
	select {
	case q.packets <- p:
	default:
	}
}

// drain returns what nobody has read yet.
func (q *testQueue) drain() (packets []testPacket) {
	for len(q.packets) > 0 {
		packets = append(packets, <-q.packets)
	}
	return packets
}

func (q *testQueue) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if q.isClosed() {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	select {
	case p := <-q.packets:
		return copy(b, p.data), p.from, nil
	case <-q.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// nobody knows no names.
type nobody struct{}

func (nobody) PublicAddresses(context.Context, string) ([]netip.Addr, error) {
	return nil, errors.New("nobody knows")
}

// quiet is a log that nobody reads.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
