package mesh

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/report"
	"mobula/helper/internal/shared"
)

// agents are services on sockets of the loopback interface.
type agents struct {
	services map[uint16]*Service
	sockets  map[uint16]*counted
	at       map[uint16]netip.AddrPort
	ids      map[netip.AddrPort]uint16
	views    atomic.Int64 // looks that hosts took to answer
}

// counted is a socket that counts the hosts that were asked and have not answered.
type counted struct {
	*net.UDPConn
	mu         sync.Mutex
	open       map[netip.AddrPort]bool
	most, sent int
}

func (c *counted) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.mu.Lock()
	if c.sent++; typeOf(b) == typeQuestion {
		c.open[to] = true
		c.most = max(c.most, len(c.open))
	}
	c.mu.Unlock()
	return c.UDPConn.WriteToUDPAddrPort(b, to)
}

func (c *counted) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.UDPConn.ReadFromUDPAddrPort(b)
	if err == nil && typeOf(b[:n]) == typeAnswer {
		c.mu.Lock()
		delete(c.open, from)
		c.mu.Unlock()
	}
	return n, from, err
}

// newAgents starts n agents, but not those that are down: the first one knows that of half
// of them.
func newAgents(t testing.TB, n int, down map[uint16]bool) *agents {
	t.Helper()
	a := &agents{services: map[uint16]*Service{}, sockets: map[uint16]*counted{}, at: map[uint16]netip.AddrPort{}, ids: map[netip.AddrPort]uint16{}}
	for id := uint16(1); int(id) <= n; id++ {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		a.sockets[id] = &counted{UDPConn: conn, open: map[netip.AddrPort]bool{}}
		a.at[id] = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		a.ids[a.at[id]] = id
	}
	for id := uint16(1); int(id) <= n; id++ {
		s := &Service{Socket: a.sockets[id], Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Address: func(id uint16) netip.AddrPort { return a.at[id] },
			ID:      func(from netip.AddrPort) uint16 { return a.ids[from] },
			View:    func() View { return a.view(id, n, down) }}
		a.services[id] = s
		if !down[id] {
			go s.Serve()
		}
	}
	t.Cleanup(func() {
		for _, s := range a.services {
			s.Close()
		}
	})
	return a
}

func (a *agents) view(id uint16, n int, down map[uint16]bool) View {
	a.views.Add(1)
	v := View{Self: report.Host{HostID: id, Name: fmt.Sprint("host", id), Generation: "0123456789abcdef", Version: "v1"}}
	for to := uint16(1); int(to) <= n; to++ {
		if to == id {
			continue
		}
		w := report.Way{To: to, State: report.Up, RTT: 1.5, HandshakeSeconds: 3}
		if down[to] {
			w = report.Way{To: to, State: report.Down, Loss: 1, HandshakeSeconds: -1}
		}
		v.Ways = append(v.Ways, w)
		v.Targets = append(v.Targets, Target{ID: to, Name: fmt.Sprint("host", to), Way: w, SameGeneration: true})
	}
	return v
}

func tenDown(n int) map[uint16]bool {
	down := map[uint16]bool{}
	for i := 1; i <= 10; i++ {
		down[uint16(i*n/10)] = true
	}
	return down
}

// TestMesh asks 300 agents, of which ten are down, as any host does: every host has a row,
// every one that is up tells its exceptions, one socket and a bounded number of questions do,
// and who asks meanwhile is told the same.
func TestMesh(t *testing.T) {
	const n = 300
	a := newAgents(t, n, tenDown(n))
	before := files(t)
	var wait sync.WaitGroup
	for i := 0; i < 3; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			m, err := a.services[1].Ask(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			check(t, m, n)
		}()
	}
	time.Sleep(50 * time.Millisecond)
	if now := files(t); now > before+2 {
		t.Errorf("asking opened %d files, wanted no socket for each host", now-before)
	}
	wait.Wait()
	socket := a.sockets[1]
	if socket.most > maxOpen || socket.most == 0 {
		t.Errorf("%d hosts were waited for at a time, wanted %d at most", socket.most, maxOpen)
	}
	if socket.sent > 2*n {
		t.Errorf("%d messages were sent, wanted one for each host and some for those that are down", socket.sent)
	}
}

func files(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func check(t testing.TB, m *report.Mesh, n int) {
	t.Helper()
	if len(m.Hosts) != n || m.Ways != report.Exceptions || m.AskedBy != 1 {
		t.Fatalf("found %d hosts, %s, asked by %d", len(m.Hosts), m.Ways, m.AskedBy)
	}
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
	down := tenDown(n)
	for i, h := range m.Hosts {
		want, ways := report.Answered, 10
		if down[h.HostID] {
			want, ways = report.Unreachable, 0
		}
		if int(h.HostID) != i+1 || h.Answer != want || len(h.Ways) != ways || h.Generation != m.Generation || want == report.Answered && h.Direct != n-11 {
			t.Errorf("found host %+v at %d, wanted one that says %s with %d ways", h, i, want, ways)
		}
	}
	m.Judge()
	if len(m.Problems) != 1 || len(m.Problems[0].Hosts) != 10 {
		t.Errorf("found %+v, wanted one problem: ten hosts that are down", m.Problems)
	}
}

// TestMeshOfTwo: few hosts tell all their ways; one that is there and says nothing is of
// another version.
func TestMeshOfTwo(t *testing.T) {
	a := newAgents(t, 3, nil)
	a.services[3].Close()
	m, err := a.services[1].Ask(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if m.Ways != report.AllWays || len(m.Hosts[0].Ways) != 2 || len(m.Hosts[1].Ways) != 2 || m.Hosts[2].Answer != report.Silent {
		t.Errorf("found %+v", m.Hosts)
	}
}

// TestBudget: one that asks more than a round takes is not answered, others are; and a host
// looks once, however many ask.
func TestBudget(t *testing.T) {
	a := newAgents(t, 3, nil)
	asks := func(id uint16, times int) (answers int) {
		a.services[id].Close()
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(a.at[id]))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		b := make([]byte, MaxPage)
		for i := 0; i < times; i++ {
			if _, err := conn.WriteToUDPAddrPort(question{}.append(nil), a.at[1]); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, _, err := conn.ReadFromUDPAddrPort(b); err == nil {
				answers++
			}
		}
		return answers
	}
	if n := asks(2, 30); n < askerBurst/2 || n > askerBurst+askerPerSecond*3 {
		t.Errorf("30 questions at once: %d answers, wanted some %d", n, askerBurst)
	}
	if n := asks(3, 3); n != 3 {
		t.Errorf("another host: %d answers, wanted 3", n)
	}
	if looks := a.views.Load(); looks > 5 {
		t.Errorf("the host looked %d times, wanted once a second", looks)
	}
}

// TestBudgetOfAll: hosts together have a budget as well, and what is remembered of them is
// bounded.
func TestBudgetOfAll(t *testing.T) {
	var b budget
	now, answers := time.Unix(1, 0), 0
	for id := 1; id <= 5000; id++ {
		if b.may(uint16(id), now) {
			answers++
		}
	}
	if answers != answersPerSecond || len(b.hosts) > maxAskers {
		t.Errorf("found %d answers and %d hosts, wanted %d and %d at most", answers, len(b.hosts), answersPerSecond, maxAskers)
	}
	if b.refused != 5000-answersPerSecond {
		t.Errorf("found %d refused, wanted all others", b.refused)
	}
	if !b.may(1, now.Add(time.Second)) {
		t.Error("a second later nobody is answered")
	}
}

// TestStrangers: who is no member is not answered, and no page of his taken.
func TestStrangers(t *testing.T) {
	a := newAgents(t, 2, nil)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.WriteToUDPAddrPort(question{}.append(nil), a.at[1]); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, _, err := conn.ReadFromUDPAddrPort(make([]byte, MaxPage)); err == nil {
		t.Errorf("a stranger got %d bytes", n)
	}
}

// BenchmarkMesh is how long it takes to ask all hosts, ten of which are down.
func BenchmarkMesh(b *testing.B) {
	for _, n := range []int{100, 300, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := newAgents(b, n, tenDown(n))
			// This machine is not as many as there are hosts: they have looked already.
			v := a.view(uint16(n)+1, n, tenDown(n))
			all := NewSnapshot(v.Self, v.Ways, nil)
			for _, s := range a.services {
				s.mu.Lock()
				s.snapshot, s.taken = all, time.Now().Add(time.Hour)
				s.mu.Unlock()
			}
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				a.services[1].asked = shared.Question[*report.Mesh]{}
				m, err := a.services[1].Ask(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				answers := 0
				for k := range m.Hosts {
					if m.Hosts[k].Answers() {
						answers++
					}
				}
				b.ReportMetric(m.TookSeconds, "s/round")
				b.ReportMetric(float64(answers), "answers")
				b.ReportMetric(float64(a.sockets[1].most), "open")
			}
		})
	}
}
