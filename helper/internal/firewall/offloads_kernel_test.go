//go:build kernel

package firewall

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOthersOffloads: datagrams that the sender or the relay's kernel has merged into one
// packet arrive as they were sent, also by a way on whose packets are shorter, however the
// host's card is set.
func TestOthersOffloads(t *testing.T) {
	t.Parallel()
	if !relayWorld(t) {
		return
	}
	relayed(t)
	// Packets wait for others that can be merged with them, which a veth's are if its other
	// end cannot send merged ones (veth_skb_is_eligible_for_gro).
	sh(t, "router", "ethtool -K relay tso off tx-tcp-mangleid-segmentation off tx-tcp-ecn-segmentation off tx-tcp6-segmentation off")
	sh(t, "", "mount -t sysfs sysfs /sys; echo 20000000 >/sys/class/net/eth0/gro_flush_timeout; echo 10 >/sys/class/net/eth0/napi_defer_hard_irqs")
	for _, set := range []string{"gro off", "gro on", "rx-udp-gro-forwarding on", "rx-gro-list on"} {
		sh(t, "", "ethtool -K eth0 "+set)
		for _, bySender := range []bool{true, false} {
			a, b, c := udp(t, "alice", alice+":51820"), udp(t, "bob", bob+":443"), udp(t, "carol", carol+":51820")
			for _, size := range []int{148, 500, 700, carolsMTU - headers} {
				for _, to := range []struct {
					at   string
					conn *net.UDPConn
				}{{toBob, b}, {toCarol, c}} {
					if got := burst(t, a, to.conn, to.at, size, bySender); got != inABurst {
						t.Errorf("%s, merged by the sender %v: of %d datagrams of %d bytes to %s %d arrive", set, bySender, inABurst, size, to.at, got)
					}
				}
			}
			a.Close()
			b.Close()
			c.Close()
		}
	}
	// 2 hosts, 4 sizes, sent in one packet and in 8, by 4 settings.
	packets := 0
	fmt.Sscanf(sh(t, "", "nft list counter netdev mobula relayed | grep packets"), "packets %d", &packets)
	if packets >= 2*4*(1+inABurst)*4 {
		t.Errorf("%d packets were relayed: none was merged here", packets)
	}
}

const inABurst = 8

// burst sends datagrams of a size, in one packet or fast one after the other, and returns
// how many arrive as they were.
func burst(t *testing.T, from, at *net.UDPConn, to string, size int, merged bool) (whole int) {
	t.Helper()
	text := bytes.Repeat([]byte("x"), size)
	target := netip.MustParseAddrPort(to)
	segment, packets := 0, inABurst
	if merged {
		text, segment, packets = bytes.Repeat(text, inABurst), size, 1
	}
	control(t, from, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, segment) })
	for i := 0; i < packets; i++ {
		if _, err := from.WriteToUDPAddrPort(text, target); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 1<<16)
	for whole < inABurst {
		if err := at.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := at.ReadFromUDPAddrPort(b)
		if err != nil || n != size {
			return whole
		}
		whole++
	}
	return whole
}
