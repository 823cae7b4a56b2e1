package agent

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// mirror is a socket whose every request comes back as the echo of a healthy
// peer, and the device that goes with it.
type mirror struct {
	packets chan testPacket
	sent    atomic.Int64
	peers   []wireguard.PeerState
}

func (m *mirror) Close() error                                     { return nil }
func (m *mirror) SetEndpoint(network.Key, netip.AddrPort) error    { return nil }
func (m *mirror) ShakeAgain([]wireguard.PeerState) error           { return nil }
func (m *mirror) GiveAllowedIPs(network.Key, []netip.Prefix) error { return nil }
func (m *mirror) Peers() ([]wireguard.PeerState, error)            { return m.peers, nil }
func (m *mirror) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	p, ok := <-m.packets
	if !ok {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	return copy(b, p.data), p.from, nil
}

func (m *mirror) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	m.sent.Add(1)
	if parsed, err := probe.ParseTraffic(b); err == nil && parsed.Type == probe.Request {
		parsed.Type = probe.Echo
		select {
		case m.packets <- testPacket{bytes.Clone(parsed.Append(nil)), to}:
		default:
		}
	}
	return len(b), nil
}

// crowd returns a document of n hosts and the private key of the first.
func crowd(b testing.TB, n int) (*network.Document, network.Key) {
	d := &network.Document{Format: network.FormatVersion, UnderlayMTU: 1500}
	var own network.Key
	for id := 1; id <= n; id++ {
		var seed [32]byte
		seed[0] = 7
		binary.BigEndian.PutUint16(seed[1:], uint16(id))
		key, err := ecdh.X25519().NewPrivateKey(seed[:])
		if err != nil {
			b.Fatal(err)
		}
		if id == 1 {
			own = network.Key(seed)
		}
		endpoint := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(id >> 8), byte(id)}), 51820)
		d.Hosts = append(d.Hosts, network.Host{ID: uint16(id), Name: endpoint.String(), Hostname: "h" + strconv.Itoa(id) + ".example.com",
			Endpoint: endpoint, PublicKey: network.Key(key.PublicKey().Bytes())})
	}
	return d, own
}

// followed returns an agent whose parts follow a network of peers that are well and
// idle; mirrored answers for them. It has no namespace, so nothing is served.
func followed(tb testing.TB, peers int) (a *Agent, p *parts, running *store.Change, mirrored *mirror) {
	document, own := crowd(tb, peers+1)
	m := &mirror{packets: make(chan testPacket, 4096)}
	for _, h := range document.Hosts[1:] {
		m.peers = append(m.peers, wireguard.PeerState{PublicKey: h.PublicKey, Endpoint: h.Endpoint, LastHandshake: time.Now()})
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	h := newHealer(log, func(network.Key) (network.Key, error) { return own, nil }, m, &mirror{packets: make(chan testPacket)}, m, &publicNames{})
	running = &store.Change{HostID: 1, Document: document}
	if err := h.follow(running); err != nil {
		tb.Fatal(err)
	}
	h.namespace = namespaceInode()
	a = &Agent{Log: log, Facts: func() (*plan.Facts, error) { return plantest.Facts(), nil }}
	p = a.parts()
	p.heal = h
	p.dns = &dnsService{server: nameserver.New(nameserver.Config{}, log), address: network.Ranges{}.GatewayAddress(1), namespace: h.namespace}
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
			h := p.heal
			h.start(context.Background())
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
			h.cancel()
			close(m.packets)
			close(h.below.(*mirror).packets)
			h.ended.Wait()
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
