package firewall

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/mesh"
	"mobula/helper/internal/network"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
)

// heardBy is a socket that notes from where something came.
type heardBy struct {
	*net.UDPConn
	from chan netip.AddrPort
}

func (h heardBy) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := h.UDPConn.ReadFromUDPAddrPort(b)
	if err == nil {
		select {
		case h.from <- from:
		default:
		}
	}
	return n, from, err
}

// agentOf is the service of host id's agent, which knows hosts 1 and 2.
func agentOf(t *testing.T, id uint16) (*mesh.Service, heardBy) {
	t.Helper()
	at := netip.AddrPortFrom(network.Ranges{}.DirectGateway(), spec.MeshUDPPort)
	socket := heardBy{udp(t, gateway(id), at.String()), make(chan netip.AddrPort, 100)}
	other := 3 - id
	way := report.Way{To: other, State: report.Up, HandshakeSeconds: 7}
	s := &mesh.Service{Socket: socket, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Address: func(id uint16) netip.AddrPort {
			return netip.AddrPortFrom(network.Ranges{}.IntrawireAddress(id), spec.MeshUDPPort)
		},
		ID: func(from netip.AddrPort) uint16 {
			if from.Port() != spec.MeshUDPPort {
				return 0
			}
			return network.Ranges{}.HostID(from.Addr())
		},
		View: func() mesh.View {
			return mesh.View{Self: report.Host{HostID: id, Name: hostOf(id), Version: "of " + hostOf(id)}, Ways: []report.Way{way},
				Targets: []mesh.Target{{ID: other, Name: hostOf(other), Way: way}}}
		}}
	t.Cleanup(s.Close)
	go s.Serve()
	return s, socket
}

// question is one that an agent would answer.
const question = "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// TestMeshIsForMembers: an agent asks another one through both gateways, without an entry of
// connection tracking; what stands behind a host, the host's own programs, its clients and
// the outside reach no agent, whatever port they come from.
func TestMeshIsForMembers(t *testing.T) {
	t.Run("moved", func(t *testing.T) { meshIsForMembers(t, firewallOf) })
	t.Run("shared", func(t *testing.T) { meshIsForMembers(t, sharedFirewallOf) })
}

func meshIsForMembers(t *testing.T, first func(uint16) *spec.Firewall) {
	if !worldWith(t, first) {
		return
	}
	one, atOne := agentOf(t, 1)
	_, atTwo := agentOf(t, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 2*mesh.Deadline)
	defer cancel()
	m, err := one.Ask(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if two := m.Hosts[1]; two.Answer != report.Answered || two.Version != "of host2" || len(two.Ways) != 1 || two.Ways[0].To != 1 {
		t.Errorf("host 2 tells host 1 %+v, wanted its way to it", two)
	}
	if from := <-atTwo.from; from != netip.MustParseAddrPort("10.30.0.1:6256") {
		t.Errorf("host 1 asks as %s, wanted its intrawire address", from)
	}
	for _, id := range []uint16{1, 2} {
		if entries := sh(t, gateway(id), "conntrack -L -p udp 2>/dev/null | grep -c 6256 || true"); entries != "0" {
			t.Errorf("gateway %d has %s entries of the question, wanted none", id, entries)
		}
	}
	// A gateway of the version before knows nothing of the UDP port.
	before := strings.ReplaceAll(Render(firewallOf(2), plenty), ", 6256, 6257 }", " }")
	if err := New(gateway(2), t.TempDir()).load(ctx, before); err != nil || strings.Contains(before, ", 6256") {
		t.Fatal(err, before)
	}
	time.Sleep(1100 * time.Millisecond) // what was said is said again for a second
	if m, err := one.Ask(ctx); err != nil || m.Hosts[1].Answer != report.Silent {
		t.Errorf("of a host of the version before found %+v, %v, wanted that it does not answer", m, err)
	}
	if err := New(gateway(2), t.TempDir()).load(ctx, Render(firewallOf(2), plenty)); err != nil {
		t.Fatal(err)
	}
	drain := func(h heardBy) {
		for len(h.from) > 0 {
			<-h.from
		}
	}
	drain(atOne)
	drain(atTwo)
	// A client of host 1: here it sits beside host 2's gateway, which takes it for its own.
	sh(t, gateway(2), `ip addr add 10.30.128.1/32 dev lo; ip rule add from 10.30.128.1 lookup 77; ip route add 10.30.0.0/17 dev mo-wg-gw table 77
nft 'table ip client { chain out { type filter hook output priority mangle; oifname "mo-wg-gw" udp dport 6256 ip saddr set 10.30.128.1; }; }'`)
	for _, c := range []struct{ who, ns, from, to string }{
		{"a guest asks another host", guestOf(1), "10.31.200.1", "10.30.0.2:6256"},
		{"a guest asks its own host", guestOf(1), "10.31.200.1", "10.30.0.1:6256"},
		{"a guest asks its gateway", guestOf(1), "10.31.200.1", "10.31.0.1:6256"},
		{"a guest asks its gateway by the direct link's address", guestOf(1), "10.31.200.1", "10.30.0.0:6256"},
		{"a program of the host asks another host", hostOf(1), "10.30.0.1", "10.30.0.2:6256"},
		{"a program of the host asks its own gateway", hostOf(1), "10.30.0.1", "10.30.0.0:6256"},
		{"a client asks the host that it is connected to", gateway(2), "10.30.128.1", "10.30.0.1:6256"},
		{"a client asks another host", gateway(2), "10.30.128.1", "10.30.0.2:6256"},
		{"a stranger asks", outside, "198.51.100.1", "192.0.2.2:6256"},
	} {
		for _, port := range []string{":6256", ":7001"} {
			conn := udp(t, c.ns, c.from+port)
			send(t, conn, c.to, question)
			conn.Close()
		}
		time.Sleep(quiet)
		for name, h := range map[string]heardBy{"1": atOne, "2": atTwo} {
			for len(h.from) > 0 {
				t.Errorf("%s: agent %s hears it from %s", c.who, name, <-h.from)
			}
		}
	}
}
