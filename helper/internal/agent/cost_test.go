package agent

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/healing"
	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/web"
	"mobula/helper/internal/wireguard"
)

// mirror is a socket whose every request comes back as the echo of a healthy
// peer, and the device that goes with it.
type mirror struct {
	packets chan mirrored
	once    sync.Once
	closed  chan struct{}
	sent    atomic.Int64
	peers   []wireguard.PeerState
}

// mirrored is an echo, and where it seems to come from.
type mirrored struct {
	data []byte
	from netip.AddrPort
}

func newMirror() *mirror {
	return &mirror{packets: make(chan mirrored, 4096), closed: make(chan struct{})}
}

func (m *mirror) Close() error                                     { m.once.Do(func() { close(m.closed) }); return nil }
func (m *mirror) SetEndpoint(network.Key, netip.AddrPort) error    { return nil }
func (m *mirror) ShakeAgain([]wireguard.PeerState) error           { return nil }
func (m *mirror) GiveAllowedIPs(network.Key, []netip.Prefix) error { return nil }
func (m *mirror) Peers() ([]wireguard.PeerState, error)            { return m.peers, nil }
func (m *mirror) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-m.packets:
		return copy(b, p.data), p.from, nil
	case <-m.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (m *mirror) Answer(b []byte, to netip.AddrPort) (int, error) { return m.WriteToUDPAddrPort(b, to) }

func (m *mirror) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	m.sent.Add(1)
	if parsed, err := probe.ParseTraffic(b); err == nil && parsed.Type == probe.Request {
		parsed.Type = probe.Echo
		select {
		case m.packets <- mirrored{bytes.Clone(parsed.Append(nil)), to}:
		default:
		}
	}
	return len(b), nil
}

// followed returns an agent whose parts follow a network of peers that are well and
// idle; answering answers for them. It has no namespace, so nothing is served.
func followed(tb testing.TB, peers int) (a *Agent, p *parts, running *store.Change, answering *mirror) {
	document, own := plantest.Crowd(peers + 1)
	m := newMirror()
	for _, h := range document.Hosts[1:] {
		m.peers = append(m.peers, wireguard.PeerState{PublicKey: h.PublicKey, Endpoint: h.Endpoint, LastHandshake: time.Now()})
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	running = &store.Change{HostID: 1, Document: document}
	a = &Agent{Log: log, Host: busy(false), PrivateKey: func(network.Key) (network.Key, error) { return own, nil }, Facts: func() (*spec.Facts, error) { return plantest.Facts(), nil }}
	p = a.parts()
	inode := netns.Inode(spec.Namespace)
	p.heal = healing.New(p.healing, inode, m, newMirror(), m)
	if err := p.heal.Follow(running); err != nil {
		tb.Fatal(err)
	}
	p.dns = &dnsService{server: nameserver.New(nameserver.Config{}, log), address: network.Ranges{}.GatewayAddress(1), namespace: inode}
	p.page.place, p.page.ended = pageAt(running), make(chan struct{})
	p.page.cancel, p.page.door = func() { close(p.page.ended) }, &web.Door{}
	a.follow(context.Background(), p, running)
	return a, p, running, m
}

// TestFollowingTheSameCostsNothing: four times a second.
func TestFollowingTheSameCostsNothing(t *testing.T) {
	a, p, running, _ := followed(t, 1000)
	if n := testing.AllocsPerRun(10, func() { a.follow(context.Background(), p, running) }); n > 50 {
		t.Errorf("following the same document again: found %v allocations, wanted a few", n)
	}
}

// BenchmarkAgent runs one agent's watch over its peers for ten seconds each, with
// all that follows the document. All peers are well and idle; those who answer for
// them count as part of the cost.
func BenchmarkAgent(b *testing.B) {
	for _, peers := range []int{3, 3000} {
		b.Run(strconv.Itoa(peers)+" peers", func(b *testing.B) {
			a, p, running, m := followed(b, peers)
			p.heal.Start(context.Background())
			ctx, cancel := context.WithCancel(context.Background())
			following := make(chan struct{})
			go func() {
				defer close(following)
				for ticker := time.NewTicker(watchInterval); ctx.Err() == nil; <-ticker.C {
					a.follow(ctx, p, running)
				}
			}()
			const period = 10 * time.Second
			var cpu time.Duration
			sent := m.sent.Load()
			for i := 0; i < b.N; i++ {
				began := processorTime(b)
				time.Sleep(period)
				cpu += processorTime(b) - began
			}
			over := period.Seconds() * float64(b.N)
			b.ReportMetric(float64(m.sent.Load()-sent)/over, "requests/s")
			b.ReportMetric(100*cpu.Seconds()/over, "%core")
			runtime.GC()
			b.ReportMetric(residentMB(b), "MB-resident")
			cancel()
			<-following
			p.heal.Stop()
		})
	}
}

func processorTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func residentMB(b *testing.B) float64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(data)[1]))
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}
