package firewall

import (
	"net"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// TestPageIsForMembers: the page of the network is seen by hosts and clients, by guests if
// they are to see it, and never from outside.
func TestPageIsForMembers(t *testing.T) {
	forGuests := func(f func(uint16) *spec.Firewall) func(uint16) *spec.Firewall {
		return func(id uint16) *spec.Firewall {
			of := f(id)
			of.PageForGuests = true
			return of
		}
	}
	t.Run("moved", func(t *testing.T) { pageIsForMembers(t, firewallOf, false) })
	t.Run("shared", func(t *testing.T) { pageIsForMembers(t, sharedFirewallOf, false) })
	t.Run("moved, for guests", func(t *testing.T) { pageIsForMembers(t, forGuests(firewallOf), true) })
	t.Run("shared, for guests", func(t *testing.T) { pageIsForMembers(t, forGuests(sharedFirewallOf), true) })
}

func pageIsForMembers(t *testing.T, first func(uint16) *spec.Firewall, guests bool) {
	if !worldWith(t, first) {
		return
	}
	for _, at := range []string{"10.31.0.1:6256", "10.30.0.0:6256"} {
		serve(t, gateway(1), at)
	}
	// A client of host 1: here it sits beside host 2's gateway, which must not take it for its own.
	sh(t, gateway(2), `ip addr add 10.30.128.1/32 dev lo; ip rule add from 10.30.128.1 lookup 77; ip route add 10.30.0.0/17 dev mo-wg-gw table 77; ip route add 10.31.0.0/16 dev mo-wg-gw table 77
nft 'table ip client { chain out { type filter hook output priority raw; ip saddr 10.30.128.1 notrack; }; }'
nft insert rule inet mobula input ip daddr 10.30.128.1 accept`)
	sh(t, gateway(1), `ip route add 10.30.128.1/32 dev mo-wg-gw`)
	for _, c := range []struct {
		who, ns, from, to string
		sees              bool
	}{
		{"the host, by the direct link", hostOf(1), "10.30.0.1", "10.30.0.0:6256", true},
		{"another host", hostOf(2), "10.30.0.2", "10.30.0.1:6256", true},
		{"a client, by the gateway", gateway(2), "10.30.128.1", "10.31.0.1:6256", true},
		{"a client, by the host's intrawire address", gateway(2), "10.30.128.1", "10.30.0.1:6256", true},
		{"a guest, by its gateway", guestOf(1), "10.31.200.1", "10.31.0.1:6256", guests},
		{"a guest, by the direct link's address", guestOf(1), "10.31.200.1", "10.30.0.0:6256", guests},
		{"a guest of another host, by the host's intrawire address", guestOf(2), "10.31.200.2", "10.30.0.1:6256", guests},
		{"a guest, by its host's intrawire address", guestOf(1), "10.31.200.1", "10.30.0.1:6256", false},
		{"a stranger, by the host's address", outside, "198.51.100.1", "192.0.2.1:6256", false},
	} {
		most := quiet
		if c.sees {
			most = patience
		}
		from := seen(c.ns, c.from, c.to, most)
		if (from != "") != c.sees {
			t.Errorf("%s: found that it is seen as %q, wanted %v", c.who, from, c.sees)
		}
		if c.ns == gateway(2) && from != c.from {
			t.Errorf("%s: found that it is seen as %q, wanted itself", c.who, from)
		}
	}
	// Who is outside and sends its packets to the gateway's addresses by force.
	sh(t, outside, `ip route add 10.30.0.0/16 via 192.0.2.1; ip route add 10.31.0.0/16 via 192.0.2.1`)
	for _, to := range []string{"10.31.0.1:6256", "10.30.0.0:6256", "10.30.0.1:6256"} {
		if from := seen(outside, "198.51.100.1", to, quiet); from != "" {
			t.Errorf("a stranger sees %s as %s", to, from)
		}
	}
}

// seen connects from an address ("": any) and returns what serve answers; "" for none.
func seen(ns, from, to string, most time.Duration) string {
	answer := make([]byte, 100)
	n := 0
	_ = netns.Do(ns, func() error {
		dialer := net.Dialer{Timeout: most, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp4", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		n, err = conn.Read(answer)
		return err
	})
	return string(answer[:n])
}
