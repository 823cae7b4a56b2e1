//go:build ovs

package vswitch

import (
	"fmt"
	"testing"
)

// TestInventedAddresses6: a guest that invents IPv6 addresses and speaks to the host with
// them, or to everybody, who would answer, gets through with as many as a bound allows.
// Whoever was known before, members, guests of other hosts, and IPv4 go on.
func TestInventedAddresses6(t *testing.T) {
	b := newBench(t)
	sw := example(1, 1, 2, 256)
	sw.LocalPorts = []string{"mo-fac-ovs", "lab0"}
	b.options.Neighbors = 40
	b.apply(sw, sw)
	const (
		groups   = "33:33:00:00:00:01"
		members  = "33:33:ff:02:00:01" // who has an address of veth_fac0?
		own      = "fe80::6d:6fff:fe02:1"
		tooMany  = "too many stations or addresses from "
		everyone = "LOCAL 3 10.30.0.2 10.30.1.0"
	)
	from := func(i int) string { return fmt.Sprintf("ipv6_src=fd00::%x", i+1) }
	asks := ",icmpv6_type=135,icmpv6_code=0,nd_target=" + own
	b.send(frame{"guest", access, gateway, "ip,nw_src=10.31.128.1", ""}.flow()) // the host is behind that port, too
	play := func(when string, frames ...frame) {
		t.Helper()
		for _, f := range frames {
			if got := b.send(f.flow()); got != f.to {
				t.Errorf("%s: %s from %s: found %q, wanted %q", when, f.flow(), f.from, got, f.to)
			}
		}
	}
	for i := 0; i < 40/4; i++ {
		play("at first", []frame{
			{"guest", guestA, members, "icmp6," + from(i) + asks, everyone},
			{"guest", guestA, groups, "icmp6," + from(i) + ",icmpv6_type=128", everyone},
			{"guest", guestA, access, "udp6," + from(i), "nowhere"}, // to the port that it came from
		}[i%3])
	}
	play("then",
		frame{"guest", guestA, members, "icmp6," + from(1000) + asks, tooMany + "guest"},
		frame{"guest", guestA, groups, "icmp6," + from(1000) + ",icmpv6_type=128", tooMany + "guest"},
		frame{"guest", guestA, all, "udp6," + from(1000), tooMany + "guest"},
		frame{"guest", guestA, access, "udp6," + from(1000), tooMany + "guest"},
		frame{"guest", guestA, guestB, "udp6," + from(1000), everyone}, // who is not this host
		frame{"guest", guestA, members, "icmp6," + from(0) + asks, everyone},
		frame{"guest", guestA, all, "dl_vlan=5,ipv6," + from(1000), everyone}, // another network
		frame{"guest", guestA, gateway, "ip,nw_dst=10.31.0.1,nw_src=10.31.220.1", "LOCAL"},
		frame{"guest", access, members, "icmp6,ipv6_src=" + own + ",icmpv6_type=135,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:2", everyone},
		frame{"10.30.0.2", guestB, members, "icmp6," + from(1000) + asks, "LOCAL 2 3"},
	)
	for i := 1; i < 40/6; i++ {
		b.send(frame{"10.30.0.2", guestB, members, "icmp6," + from(1000+i) + asks, ""}.flow())
	}
	play("behind other hosts",
		frame{"10.30.0.2", guestB, members, "icmp6," + from(2000) + asks, tooMany + "tunnel"},
		frame{"10.30.1.0", "02:6d:6f:02:01:00", members, "icmp6," + from(2000) + asks, tooMany + "tunnel"},
		frame{"10.30.1.0", "02:6d:6f:02:01:00", members, "icmp6,ipv6_src=fe80::6d:6fff:fe02:100" + asks, "LOCAL 2 3"},
	)
}
