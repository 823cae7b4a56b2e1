package firewall

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// connect asks as ask does, from an address and a port: 0 is any.
func connect(ns, from string, port uint16, to string, most time.Duration) string {
	answer := make([]byte, 100)
	n := 0
	_ = netns.Do(ns, func() error {
		d := net.Dialer{Timeout: most, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), port))}
		conn, err := d.Dial("tcp4", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(most))
		n, err = conn.Read(answer)
		return err
	})
	return string(answer[:n])
}

// withMetrics opens the agent's TCP port.
func withMetrics(of func(uint16) *spec.Firewall) func(uint16) *spec.Firewall {
	return func(id uint16) *spec.Firewall {
		f := of(id)
		f.MetricsPort = spec.MetricsTCPPort
		return f
	}
}

// TestMetricsAreForHosts: programs of a host reach the agents of all hosts, without an
// entry of connection tracking where they are answered; what stands behind a host, clients
// and the outside reach none, and nobody does where the document says nothing of it.
func TestMetricsAreForHosts(t *testing.T) {
	t.Run("moved", func(t *testing.T) { metricsAreForHosts(t, firewallOf) })
	t.Run("shared", func(t *testing.T) { metricsAreForHosts(t, sharedFirewallOf) })
}

func metricsAreForHosts(t *testing.T, first func(uint16) *spec.Firewall) {
	if !worldWith(t, withMetrics(first)) {
		return
	}
	load := func(f *spec.Firewall) {
		if err := New(gateway(2), t.TempDir()).load(context.Background(), Render(f, plenty)); err != nil {
			t.Fatal(err)
		}
	}
	load(withMetrics(firewallOf)(2))
	for _, id := range []uint16{1, 2} {
		serve(t, gateway(id), "10.30.0.0:6257")
	}
	for _, c := range []struct{ who, ns, from, to string }{
		{"a program of host 1 asks host 2", hostOf(1), "10.30.0.1", "10.30.0.2:6257"},
		{"a program of host 2 asks host 1", hostOf(2), "10.30.0.2", "10.30.0.1:6257"},
		{"a program of host 1 asks its own", hostOf(1), "10.30.0.1", "10.30.0.0:6257"},
		{"a program of host 2 asks its own", hostOf(2), "10.30.0.2", "10.30.0.0:6257"},
	} {
		if got := connect(c.ns, c.from, 0, c.to, patience); got != c.from {
			t.Errorf("%s: found %q, wanted an answer that it is %s", c.who, got, c.from)
		}
	}
	if entries := sh(t, gateway(2), "conntrack -L -p tcp 2>/dev/null | grep -c 'src=10.30.0.1 dst=10.30.0.2 sport=[0-9]* dport=6257' || true"); entries != "0" {
		t.Errorf("gateway 2 has %s entries of what host 1 asked, wanted none", entries)
	}
	// A client of host 1: here it sits beside host 2's gateway, which takes it for its own.
	sh(t, gateway(2), `ip addr add 10.30.128.1/32 dev lo; ip rule add from 10.30.128.1 lookup 77; ip route add 10.30.0.0/17 dev mo-wg-gw table 77
nft 'table ip client { chain out { type filter hook output priority raw; ip saddr 10.30.128.1 notrack; }; }'
nft insert rule inet mobula input ip daddr 10.30.128.1 accept`)
	for _, id := range []uint16{1, 2} { // what all of them do reach
		at := fmt.Sprintf("10.30.0.%d:7000", id)
		serve(t, hostOf(id), at)
		for ns, from := range map[string]string{guestOf(1): "10.31.200.1", gateway(2): "10.30.128.1"} {
			if connect(ns, from, 0, at, patience) == "" {
				t.Fatalf("%s does not reach a service of host %d from %s", ns, id, from)
			}
		}
	}
	for _, c := range []struct{ who, ns, from, to string }{
		{"a guest asks another host", guestOf(1), "10.31.200.1", "10.30.0.2:6257"},
		{"a guest asks its own host", guestOf(1), "10.31.200.1", "10.30.0.1:6257"},
		{"a guest asks its gateway", guestOf(1), "10.31.200.1", "10.31.0.1:6257"},
		{"a guest asks its gateway by the direct link's address", guestOf(1), "10.31.200.1", "10.30.0.0:6257"},
		{"a client asks the host that it is connected to", gateway(2), "10.30.128.1", "10.30.0.1:6257"},
		{"a client asks another host", gateway(2), "10.30.128.1", "10.30.0.2:6257"},
		{"a host asks by its address on the access network", hostOf(1), "10.31.128.1", "10.30.0.0:6257"},
		{"a stranger asks", outside, "198.51.100.1", "192.0.2.2:6257"},
		{"a stranger asks the other host", outside, "198.51.100.1", "192.0.2.1:6257"},
	} {
		for _, port := range []uint16{0, 6257, 7001} {
			if port == 6257 && strings.HasPrefix(c.ns, "gateway") {
				continue // where the test's client sits
			}
			if got := connect(c.ns, c.from, port, c.to, quiet); got != "" {
				t.Errorf("%s from port %d: found that it is answered as %s", c.who, port, got)
			}
		}
	}
	// Nobody where it is off.
	load(firewallOf(2))
	if got := connect(hostOf(1), "10.30.0.1", 0, "10.30.0.2:6257", quiet); got != "" {
		t.Errorf("found %q of a host without metrics", got)
	}
	if got := connect(hostOf(2), "10.30.0.2", 0, "10.30.0.0:6257", quiet); got != "" {
		t.Errorf("found %q of the own gateway without metrics", got)
	}
}
