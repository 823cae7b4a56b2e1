package sourceport

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/spec"
)

// socket is a UDP socket in a namespace.
func socket(t *testing.T, namespace, at string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := netns.Do(namespace, func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// asks sends from one to the other and back, and returns the ports from which that came.
func asks(t *testing.T, one, other *net.UDPConn, at string) (there, back uint16) {
	t.Helper()
	buf := make([]byte, 16)
	receive := func(c *net.UDPConn, want string) netip.AddrPort {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("found %q, %v, wanted %s", buf[:n], err, want)
		}
		return from
	}
	if _, err := one.WriteToUDPAddrPort([]byte("question"), netip.MustParseAddrPort(at)); err != nil {
		t.Fatal(err)
	}
	from := receive(other, "question")
	if _, err := other.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	return from.Port(), receive(one, "answer").Port()
}

// TestAnotherSourcePort: others see another port and answer to it, over both families, whether the
// kernel tracks connections or not, and the socket notices nothing; the loopback interface and
// other sockets are as before, and all is when it ends.
func TestAnotherSourcePort(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, "one")
	netnstest.Namespace(t, "other")
	netnstest.Run(t, "one", "sh", "-ec", `ip link set lo up; ip link add e0 type veth peer name e0 netns other; ip addr add 192.0.2.1/24 dev e0; ip addr add 2001:db8::1/64 dev e0 nodad; ip link set e0 up
nft add table inet f; nft add chain inet f in '{ type filter hook input priority 0; policy drop; }'; nft add rule inet f in iifname lo accept
nft add rule inet f in meta l4proto ipv6-icmp accept; nft add rule inet f in ct state established accept`)
	netnstest.Run(t, "other", "sh", "-ec", `ip addr add 192.0.2.2/24 dev e0; ip addr add 2001:db8::2/64 dev e0 nodad; ip link set e0 up`)
	own, neighbor := socket(t, "one", "[::]:5000"), socket(t, "one", "[::]:5001")
	other, inside := socket(t, "other", "[::]:7000"), socket(t, "one", "127.0.0.1:7000")
	all := func(want uint16) {
		t.Helper()
		for _, at := range []string{"192.0.2.2:7000", "[2001:db8::2]:7000"} {
			if there, back := asks(t, own, other, at); there != want || back != 7000 {
				t.Errorf("to %s: found the ports %d and %d, wanted %d and 7000", at, there, back, want)
			}
			if there, _ := asks(t, neighbor, other, at); there != 5001 {
				t.Errorf("to %s: another socket's port is %d", at, there)
			}
		}
		if there, _ := asks(t, own, inside, "127.0.0.1:7000"); there != 5000 {
			t.Errorf("on the loopback interface the port is %d", there)
		}
	}
	all(5000)
	r, err := Begin("one", 5000)
	if err != nil {
		t.Fatal(err)
	}
	if r.Port < First || r.Port > Last {
		t.Errorf("found port %d", r.Port)
	}
	all(r.Port)
	again, err := Begin("one", 5000) // as after the death of the process
	if err != nil || again.Port == r.Port {
		t.Fatalf("found %v, %v, wanted another port", again, err)
	}
	all(again.Port)
	if err := errors.Join(r.Close(), again.Close()); err != nil {
		t.Fatal(err)
	}
	all(5000)
	err = netns.Do("one", func() error {
		out, err := exec.Command("nft", "list", "tables").Output()
		if strings.Contains(string(out), spec.SourcePortTable) {
			t.Errorf("found %s, wanted the table gone", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
