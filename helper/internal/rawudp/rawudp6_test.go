package rawudp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
)

func (c *Conn6) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// hosts6 is hosts with 2001:db8::1 and 2001:db8::2.
func hosts6(t *testing.T) {
	t.Helper()
	hosts(t)
	for ns, address := range map[string]string{first: "2001:db8::1/64", other: "2001:db8::2/64"} {
		link := map[string]string{first: "a1", other: "a2"}[ns]
		netnstest.Run(t, ns, "ip", "address", "add", address, "dev", link, "nodad")
	}
}

func listen6(t *testing.T, namespace string) *Conn6 {
	t.Helper()
	c, err := Listen6(namespace, port, begin)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func ordinary6(t *testing.T, namespace string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, netns.Do(namespace, func() (err error) {
		c, err = net.ListenUDP("udp6", &net.UDPAddr{Port: port})
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// TestBesideAnother6: who holds the port gets all as before, and the Conn6 copies of its own,
// fragmented ones too.
func TestBesideAnother6(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts6(t)
	holder, shared, sender := ordinary6(t, first), listen6(t, first), ordinary6(t, other)
	from := netip.MustParseAddrPort("[2001:db8::2]:51820")
	var all, own []string
	for _, b := range [][]byte{append([]byte{4, 0, 0, 0}, message(60)...), message(40), message(4), {}, message(1400), message(9000), bytes.Repeat([]byte{4, 0, 0, 0}, 2000)} {
		_, err := sender.WriteToUDPAddrPort(b, netip.MustParseAddrPort("[2001:db8::1]:51820"))
		must(t, err)
		all = append(all, brief(from, b))
		if len(b) >= 4 && bytes.Equal(b[:4], message(4)) {
			own = append(own, brief(from, b))
		}
	}
	gets(t, "the socket that holds the port", holder, all)
	gets(t, "the Conn6", shared, own)
}

// TestTwoHosts6 exchange messages whose checksum an ordinary socket accepts, from the address
// that was asked, though the route prefers another.
func TestTwoHosts6(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts6(t)
	netnstest.Run(t, first, "ip", "address", "add", "2001:db8::7/64", "dev", "a1", "nodad")
	one, two, holder := listen6(t, first), listen6(t, other), ordinary6(t, other)
	ordinary6(t, first) // or the kernel answers that nobody holds it
	b := make([]byte, longest)
	for _, size := range []int{40, 41, 1452, 1453, 9216, longest - udpHeader} {
		sent := message(size)
		n, err := two.WriteToUDPAddrPort(sent, netip.MustParseAddrPort("[2001:db8::7]:51820"))
		if n != size || err != nil {
			t.Fatalf("sending %d bytes: found %d, %v", size, n, err)
		}
		must(t, one.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, from, err := one.ReadFromUDPAddrPort(b)
		if err != nil || from.String() != "[2001:db8::2]:51820" || !bytes.Equal(b[:n], sent) {
			t.Fatalf("a message of %d bytes: found %d from %v, %v", size, n, from, err)
		}
		_, err = one.Answer(b[:n], from)
		must(t, err)
		gets(t, "an ordinary socket", holder, []string{brief(netip.MustParseAddrPort("[2001:db8::7]:51820"), sent)})
		gets(t, "the other Conn6", two, []string{brief(netip.MustParseAddrPort("[2001:db8::7]:51820"), sent)})
	}
	for _, to := range []string{"[2001:db8::2]:0", "192.0.2.2:51820", "[::ffff:192.0.2.2]:51820"} {
		if n, err := one.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort(to)); !errors.Is(err, unix.EINVAL) {
			t.Errorf("to %s: found %d sent, %v", to, n, err)
		}
	}
	if _, err := one.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("[2001:db8:1::2]:51820")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("no route: found %v, wanted %v", err, unix.ENETUNREACH)
	}
}

// TestWrongChecksum6: what was broken on its way, nobody gets.
func TestWrongChecksum6(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts6(t)
	one := listen6(t, first)
	var fd int
	must(t, netns.Do(other, func() (err error) { // RFC 3542: a raw socket without IPV6_CHECKSUM
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP)
		return err
	}))
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::1").As16()}
	must(t, unix.Sendto(fd, append(datagram(nil, port, port, message(40)[:6]), 1, 2), 0, to))
	gets(t, "the Conn6", one, nil)
}
