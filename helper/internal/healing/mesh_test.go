package healing

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mobula/helper/internal/paths"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
)

// wires carry what services of several hosts say to each other, as WireGuard would.
type wires struct {
	mu      sync.Mutex
	sockets map[netip.Addr]*wireSocket
}

// wireSocket is that of one host.
type wireSocket struct {
	*testQueue
	net *wires
	at  netip.AddrPort
}

func (s *wireSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if s.isClosed() {
		return 0, net.ErrClosed
	}
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if other := s.net.sockets[to.Addr()]; other != nil && other.at == to {
		other.put(testPacket{bytes.Clone(b), s.at})
	}
	return len(b), nil
}

// speaking returns hosts of which those with a service are connected by it.
func speaking(t *testing.T, hosts uint16, with ...uint16) *testNet {
	t.Helper()
	n, w := newTestNet(t, hosts), &wires{sockets: map[netip.Addr]*wireSocket{}}
	for _, id := range with {
		h := n.healers[id]
		s := &wireSocket{newTestQueue(), w, netip.AddrPortFrom(h.ranges.IntrawireAddress(id), spec.MeshUDPPort)}
		w.sockets[s.at.Addr()] = s
		h.About = func() (string, []string) {
			return "v of " + h.self.Hostname, []string{"something of " + h.self.Hostname}
		}
		h.mesh = h.meshService(s)
		go h.mesh.Serve()
		t.Cleanup(h.mesh.Close)
	}
	return n
}

// TestMeshOfHealers: what the socket of a host's agent says of all hosts: their names and
// versions, the ways as each sees them, a host that is not reached, and one that does not
// know the question.
func TestMeshOfHealers(t *testing.T) {
	n := speaking(t, 4, 1, 2, 3)
	n.mu.Lock()
	n.cut[[2]uint16{1, 2}], n.cut[[2]uint16{2, 1}] = true, true
	n.mu.Unlock()
	up := func(p PeerState) bool { return p.State == "up" && p.RTT > 0 }
	n.peer(1, 2, "a relay", func(p PeerState) bool { return up(p) && p.Via != 0 })
	n.peer(1, 3, "up", up)
	n.peer(1, 4, "up", up)
	n.peer(3, 1, "up", up)
	path := filepath.Join(t.TempDir(), "mesh.sock")
	server := &Teller{Log: quiet()}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := server.StartMesh(ctx, path); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMesh(context.Background(), path); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("found %v, wanted an error that says that nothing runs", err)
	}
	server.Set(n.healers[1].Healer)
	m, err := ReadMesh(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Hosts) != 4 || m.AskedBy != 1 || m.Ways != report.AllWays {
		t.Fatalf("found %+v", m)
	}
	for i, h := range m.Hosts[:3] {
		name := n.healers[uint16(i+1)].self.Hostname
		if h.Answer != report.Answered || h.Name != name || h.Version != "v of "+name || h.Generation != m.Generation || len(h.Ways) != 3 ||
			len(h.Problems) != 1 || h.Problems[0] != "something of "+name {
			t.Errorf("found %+v, wanted what %s says", h, name)
		}
	}
	if w := m.Hosts[0].Ways[0]; w.To != 2 || w.State != report.Up || w.Via == 0 || w.Kind != report.Relayed || w.HandshakeSeconds != 0 {
		t.Errorf("found %+v, wanted a way to host 2 by a relay, with a handshake just now", w)
	}
	if w := m.Hosts[2].Ways[0]; w.To != 1 || w.Kind != report.Direct {
		t.Errorf("found %+v, wanted that host 3 says that it reaches host 1 directly", w)
	}
	if four := m.Hosts[3]; four.Answer != report.Silent || four.Generation != m.Generation {
		t.Errorf("found %+v, wanted that it does not answer, and its generation", four)
	}
}

// TestKindsOfWays: what the others are told and what mobula status says of a way is the same, and
// is punched where neither end has an endpoint.
func TestKindsOfWays(t *testing.T) {
	h := still(t, 2).healers[1]
	other, document := h.peers[2], h.self.Endpoint
	for _, c := range []struct {
		self, peer bool // has an endpoint
		local      bool
		via        uint16
		want       report.Kind
	}{
		{true, true, false, 0, report.Direct}, {false, true, false, 0, report.Direct}, {true, false, false, 0, report.Direct},
		{false, false, false, 0, report.Punched}, {false, false, true, 0, report.LAN}, {false, false, false, 3, report.Relayed},
	} {
		h.self.Endpoint, other.host.Endpoint = netip.AddrPort{}, netip.AddrPort{}
		if c.self {
			h.self.Endpoint = document
		}
		if c.peer {
			other.host.Endpoint = document
		}
		r := paths.Report{Peer: 2, State: paths.StateUp, Via: c.via, Local: c.local, Endpoint: document}
		kind := h.kindOf(r, other)
		state := PeerState{State: r.State, Via: r.Via, Local: r.Local, Endpoint: r.Endpoint, Punched: kind == report.Punched}
		if kind != c.want || state.Kind() != c.want {
			t.Errorf("%+v: found %q and %q, wanted %q", c, kind, state.Kind(), c.want)
		}
	}
}

// TestMeshIsAskedByAgents: a question that comes from another port than an agent's, or from
// somebody who is no member, is not answered.
func TestMeshIsAskedByAgents(t *testing.T) {
	h := still(t, 2).healers[1]
	s := h.meshService(nil)
	for from, want := range map[netip.AddrPort]uint16{
		netip.AddrPortFrom(h.ranges.IntrawireAddress(2), spec.MeshUDPPort):                     2,
		netip.AddrPortFrom(h.ranges.IntrawireAddress(2), spec.ProbeUDPPort):                    0,
		netip.AddrPortFrom(h.ranges.IntrawireAddress(9), spec.MeshUDPPort):                     0,
		netip.AddrPortFrom(h.ranges.IntrawireAddress(1), spec.MeshUDPPort):                     0,
		netip.AddrPortFrom(h.ranges.GatewayAddress(2), spec.MeshUDPPort):                       0,
		netip.AddrPortFrom(h.ranges.Extrawire().Addr().Next(), spec.MeshUDPPort):               0,
		netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), spec.MeshUDPPort):                 0,
		netip.AddrPortFrom(netip.MustParseAddr("10.31.128.2"), spec.MeshUDPPort):               0,
		netip.AddrPortFrom(h.ranges.Extrawire().Addr().Next().Next(), spec.MeshUDPPort):        0,
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 31, 200, 2}), uint16(spec.MeshUDPPort)): 0,
	} {
		if got := s.ID(from); got != want {
			t.Errorf("%s: found host %d, wanted %d", from, got, want)
		}
	}
}

// TestMeshCallers: so many may wait at a time for what all hosts say; the next one is told.
func TestMeshCallers(t *testing.T) {
	n := speaking(t, 2, 1) // host 2 never answers
	n.peer(1, 2, "up", func(p PeerState) bool { return p.State == "up" })
	path := filepath.Join(t.TempDir(), "mesh.sock")
	server := &Teller{Log: quiet()}
	server.Set(n.healers[1].Healer)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := server.StartMesh(ctx, path); err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan error, 3*maxMeshCalls)
	for i := 0; i < cap(outcomes); i++ {
		go func() { _, err := ReadMesh(context.Background(), path); outcomes <- err }()
	}
	refused := 0
	for i := 0; i < cap(outcomes); i++ {
		if err := <-outcomes; err != nil {
			refused++
			if !strings.Contains(err.Error(), "waiting") {
				t.Errorf("found %v, wanted why", err)
			}
		}
	}
	if refused == 0 || refused > cap(outcomes)-maxMeshCalls {
		t.Errorf("%d of %d were refused, wanted all but %d at most", refused, cap(outcomes), maxMeshCalls)
	}
}

func meshReplies() []meshReply {
	return []meshReply{{Error: "not now"}, {Mesh: &report.Mesh{Format: report.Format, Ways: report.AllWays, Hosts: []report.Host{
		{HostID: 1, Name: "alice", Answer: report.Answered, Ways: []report.Way{{To: 2, State: report.Up, Loss: 0.5, HandshakeSeconds: -1}}}}}}}
}

// TestMeshRepliesAreRead: what the agent says, and nothing that does more to a terminal.
func TestMeshRepliesAreRead(t *testing.T) {
	for i, r := range meshReplies() {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeMesh(bytes.NewReader(data))
		if i == 0 && (m != nil || err == nil || err.Error() != "not now") || i == 1 && (err != nil || m.Hosts[0].Name != "alice") {
			t.Errorf("%s: found %+v, %v", data, m, err)
		}
	}
	for _, bad := range []string{"", "{}", `{"error":"\u001b[2J"}`, `{"mesh":{"ways":"some"}}`,
		`{"mesh":{"ways":"all","hosts":[{"answer":"yes","name":"\u0007"}]}}`, `{"mesh":{"ways":"all","hosts":[{"answer":"yes","ways":[{"state":"up","loss":2}]}]}}`} {
		if m, err := decodeMesh(strings.NewReader(bad)); err == nil || strings.ContainsAny(err.Error(), "\x1b\x07") {
			t.Errorf("%s: found %+v, %v, wanted an error that can be printed", bad, m, err)
		}
	}
}

// FuzzMeshReply takes arbitrary bytes for what the agent says of all hosts: what is printed
// of it is text.
func FuzzMeshReply(f *testing.F) {
	for _, r := range meshReplies() {
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMesh(bytes.NewReader(data))
		if err != nil {
			return
		}
		m.Judge()
		var out bytes.Buffer
		if err := report.Render(&out, m, report.Options{Width: 80}); err != nil {
			t.Fatal(err)
		}
		if text := strings.ReplaceAll(out.String(), "\n", ""); !report.Printable(text) {
			t.Errorf("found %q", text)
		}
	})
}
