package rawudp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
)

const (
	port  = 51820
	begin = 0x4d4f4255
	first = "one"
	other = "two"
)

// message is a payload of a size, with the prefix.
func message(size int) []byte {
	b := bytes.Repeat([]byte{0xa5, 0x17, 3}, size/3+1)[:size]
	binary.BigEndian.PutUint32(b, begin)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hosts makes two namespaces with a wire between them: 192.0.2.1 and 192.0.2.2.
func hosts(t *testing.T) {
	t.Helper()
	netnstest.Namespace(t, first)
	netnstest.Namespace(t, other)
	wire(t, "a", "192.0.2.1/24", "192.0.2.2/24")
}

func wire(t *testing.T, name, one, two string) {
	t.Helper()
	netnstest.Run(t, "", "ip", "link", "add", name+"1", "netns", first, "type", "veth", "peer", "name", name+"2", "netns", other)
	for ns, address := range map[string]string{first: one, other: two} {
		link := name + map[string]string{first: "1", other: "2"}[ns]
		netnstest.Run(t, ns, "ip", "address", "add", address, "dev", link)
		netnstest.Run(t, ns, "ip", "link", "set", link, "up")
	}
}

// listen shares the port.
func listen(t *testing.T, namespace string) *Conn {
	t.Helper()
	c, err := Listen(namespace, port, begin)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// ordinary opens a UDP socket, such as WireGuard's.
func ordinary(t *testing.T, namespace string, port int) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, netns.Do(namespace, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

type reader interface {
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	SetReadDeadline(time.Time) error
}

func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// received returns the first n datagrams that come, and what comes soon after them.
func received(t *testing.T, c reader, n int) (all []string) {
	t.Helper()
	b := make([]byte, longest)
	for {
		patience := 5 * time.Second
		if len(all) >= n {
			patience = 50 * time.Millisecond
		}
		must(t, c.SetReadDeadline(time.Now().Add(patience)))
		size, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		must(t, err)
		all = append(all, brief(from, b[:size]))
	}
}

func brief(from netip.AddrPort, b []byte) string {
	return fmt.Sprintf("%v %d %x %08x", from, len(b), b[:min(len(b), 4)], checksum(netip.IPv4Unspecified(), netip.IPv4Unspecified(), b))
}

func gets(t *testing.T, who string, c reader, want []string) {
	t.Helper()
	if found := received(t, c, len(want)); fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("%s: found %q, wanted %q", who, found, want)
	}
}

// TestBesideAnother: who holds the port gets all as before, and the Conn copies of its own.
func TestBesideAnother(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	holder := ordinary(t, first, port)
	elsewhere := ordinary(t, first, port+1)
	shared := listen(t, first)
	sender := ordinary(t, other, port)
	raw, err := sender.SyscallConn()
	must(t, err)
	options := func(o string) {
		must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, o) }))
		must(t, err)
	}
	wireGuards := append([]byte{4, 0, 0, 0}, message(60)...)
	from := netip.MustParseAddrPort("192.0.2.2:51820")
	var all, own []string
	for _, o := range []string{"", "\x01\x01\x01\x00", "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00"} {
		options(o)
		// Of more than the MTU of 1500 are fragments, of which the second begins with none.
		for _, b := range [][]byte{wireGuards, message(40), message(4), message(3 + 4)[4:], {}, message(1400), message(9000), bytes.Repeat([]byte{4, 0, 0, 0}, 2000)} {
			_, err := sender.WriteToUDPAddrPort(b, netip.MustParseAddrPort("192.0.2.1:51820"))
			must(t, err)
			all = append(all, brief(from, b))
			if len(b) >= 4 && binary.BigEndian.Uint32(b) == begin {
				own = append(own, brief(from, b))
			}
		}
	}
	_, err = sender.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("192.0.2.1:51821"))
	must(t, err)
	gets(t, "the socket that holds the port", holder, all)
	gets(t, "the Conn", shared, own)
	if n := len(received(t, elsewhere, 1)); n != 1 {
		t.Errorf("another port: found %d datagrams, wanted 1", n)
	}
}

// TestTwoHosts exchange messages, and what is on the wire is as of an ordinary socket.
func TestTwoHosts(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	one, two := listen(t, first), listen(t, other)
	holder := ordinary(t, other, port)
	ordinary(t, first, port) // or the kernel answers that nobody holds it
	var tap int
	must(t, netns.Do(other, func() (err error) {
		tap, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, unix.ETH_P_IP>>8)
		return err
	}))
	defer unix.Close(tap)
	b := make([]byte, longest)
	for _, size := range []int{40, 41, 42, 43, 1472, 1473, 9216, longest - ipHeader - udpHeader} {
		sent := message(size)
		n, err := one.WriteToUDPAddrPort(sent, netip.MustParseAddrPort("192.0.2.2:51820"))
		if n != size || err != nil {
			t.Fatalf("sending %d bytes: found %d, %v", size, n, err)
		}
		must(t, two.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, from, err := two.ReadFromUDPAddrPort(b)
		if err != nil || from.String() != "192.0.2.1:51820" || !bytes.Equal(b[:n], sent) {
			t.Fatalf("a message of %d bytes: found %d from %v, %v", size, n, from, err)
		}
		_, err = two.WriteToUDPAddrPort(b[:n], from)
		must(t, err)
		must(t, one.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, from, err = one.ReadFromUDPAddrPort(b)
		if err != nil || from.String() != "192.0.2.2:51820" || !bytes.Equal(b[:n], sent) {
			t.Fatalf("an answer of %d bytes: found %d from %v, %v", size, n, from, err)
		}
		// The kernel checks the sum before it hands over a datagram, a fragmented one too.
		gets(t, "an ordinary socket", holder, []string{brief(netip.MustParseAddrPort("192.0.2.1:51820"), sent)})
		seen := 0
		for {
			n, _, err := unix.Recvfrom(tap, b, 0)
			if err != nil {
				break
			}
			seen++
			p := b[:n]
			if p[6]&0x40 != 0 {
				t.Errorf("%d bytes: wanted that it may be fragmented, found %x", size, p[:ipHeader])
			}
			if u := p[ipHeader:]; n == ipHeader+udpHeader+size && (u[6] == 0 && u[7] == 0 || !sumFits(p)) {
				t.Errorf("%d bytes: found a wrong checksum or none: %x", size, p[:ipHeader+udpHeader])
			}
		}
		if want := (size + udpHeader + 1479) / 1480; seen != want && size < longest/2 { // more than a queue holds
			t.Errorf("%d bytes: found %d packets, wanted %d", size, seen, want)
		}
	}
	if n, err := one.WriteToUDPAddrPort(message(longest-ipHeader-udpHeader+1), netip.MustParseAddrPort("192.0.2.2:51820")); err == nil {
		t.Errorf("a datagram that is too long: found %d sent", n)
	}
	if n, err := one.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("192.0.2.2:0")); err == nil {
		t.Errorf("to port 0: found %d sent", n)
	}
}

// sumFits computes it as RFC 768 tells.
func sumFits(p []byte) bool {
	u := append([]byte{}, p[ipHeader:]...)
	pseudo := append(append([]byte{}, p[12:20]...), 0, unix.IPPROTO_UDP, byte(len(u)>>8), byte(len(u)))
	sum := 0
	for b := append(append(pseudo, u...), 0); len(b) >= 2; b = b[2:] {
		sum += int(b[0])<<8 | int(b[1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// TestChecksum: one that would be zero is sent as all ones, and odd bytes count.
func TestChecksum(t *testing.T) {
	none := netip.IPv4Unspecified()
	for _, c := range []struct {
		target string
		data   []byte
		want   uint16
	}{
		{"255.236.0.0", []byte{0, 0}, 0xffff}, // 0xffec + 17 + 2
		{"255.235.0.0", []byte{0, 0}, 1},
		{"255.235.0.0", []byte{0, 0, 0x12}, ^uint16(0x1200)},
		{"255.255.255.255", []byte{0xff, 0xff, 0xff, 0xff}, ^uint16(17 + 4)},
	} {
		if got := checksum(none, netip.MustParseAddr(c.target), c.data); got != c.want {
			t.Errorf("to %s, %x: found %#x, wanted %#x", c.target, c.data, got, c.want)
		}
	}
}

// TestAddresses: of several source addresses the route's is taken, also after it has
// changed, and a NAT keeps the checksum right.
func TestAddresses(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	wire(t, "b", "198.51.100.1/24", "198.51.100.2/24")
	one, holder := listen(t, first), ordinary(t, other, port)
	check := func(about, to, from string) {
		t.Helper()
		b := message(len(about) + 4)
		_, err := one.WriteToUDPAddrPort(b, netip.MustParseAddrPort(to))
		must(t, err)
		gets(t, about, holder, []string{brief(netip.MustParseAddrPort(from), b)})
	}
	check("one network", "192.0.2.2:51820", "192.0.2.1:51820")
	check("another", "198.51.100.2:51820", "198.51.100.1:51820")
	check("the first again", "192.0.2.2:51820", "192.0.2.1:51820")
	netnstest.Run(t, first, "ip", "address", "add", "192.0.2.7/24", "dev", "a1")
	check("a second address", "192.0.2.2:51820", "192.0.2.1:51820")
	netnstest.Run(t, first, "ip", "route", "change", "192.0.2.0/24", "dev", "a1", "src", "192.0.2.7")
	check("the route prefers it", "192.0.2.2:51820", "192.0.2.7:51820")
	netnstest.Run(t, first, "ip", "address", "flush", "dev", "a1")
	if _, err := one.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("192.0.2.2:51820")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("no route: found %v, wanted %v", err, unix.ENETUNREACH)
	}
	check("the other link", "198.51.100.2:51820", "198.51.100.1:51820")
	netnstest.Run(t, first, "ip", "address", "add", "192.0.2.9/24", "dev", "a1")
	check("a new address", "192.0.2.2:51820", "192.0.2.9:51820")
	netnstest.Run(t, first, "nft", "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c oifname b1 udp sport 51820 snat to 198.51.100.1:40000")
	check("behind a NAT", "198.51.100.2:51820", "198.51.100.1:40000")
}

// TestFirewall: what an input chain drops, nobody gets.
func TestFirewall(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	one, holder, sender := listen(t, first), ordinary(t, first, port), ordinary(t, other, port)
	send := func() {
		_, err := sender.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("192.0.2.1:51820"))
		must(t, err)
	}
	send()
	want := []string{brief(netip.MustParseAddrPort("192.0.2.2:51820"), message(40))}
	gets(t, "no firewall: the holder", holder, want)
	gets(t, "no firewall: the Conn", one, want)
	netnstest.Run(t, first, "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c udp dport 51820 drop")
	send()
	gets(t, "dropped: the holder", holder, nil)
	gets(t, "dropped: the Conn", one, nil)
}

// TestFloods: what is not for the Conn takes no room in its queue, which is a UDP
// socket's.
func TestFloods(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	one, holder, sender := listen(t, first), ordinary(t, first, port), ordinary(t, other, port)
	to := netip.MustParseAddrPort("192.0.2.1:51820")
	for i := 0; i < 2000; i++ {
		_, err := sender.WriteToUDPAddrPort(make([]byte, 1400), to)
		must(t, err)
	}
	_, err := sender.WriteToUDPAddrPort(message(40), to)
	must(t, err)
	gets(t, "after a flood", one, []string{brief(netip.MustParseAddrPort("192.0.2.2:51820"), message(40))})
	room := func(c syscall.Conn) (n int) {
		raw, err := c.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }))
		must(t, err)
		return n
	}
	if got, want := room(one.conn), room(holder); got != want {
		t.Errorf("the queue: found %d bytes, wanted %d", got, want)
	}
}

// TestBeforeTheFilter: what queued before the filter was there is refused.
func TestBeforeTheFilter(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	sender := ordinary(t, other, port)
	one := &Conn{port: port, begin: begin, in: make([]byte, longest)}
	must(t, netns.Do(first, func() (err error) {
		one.conn, err = open(unix.IPPROTO_UDP, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: longest}})
		return err
	}))
	defer one.conn.Close()
	for _, c := range []struct {
		port string
		data []byte
	}{{"51820", make([]byte, 60)}, {"51821", message(60)}, {"51820", message(41)}, {"51820", nil}} {
		_, err := sender.WriteToUDPAddrPort(c.data, netip.MustParseAddrPort("192.0.2.1:"+c.port))
		must(t, err)
	}
	gets(t, "read", one, []string{brief(netip.MustParseAddrPort("192.0.2.2:51820"), message(41))})
}

// TestClose: a waiting reader takes no thread, and returns.
func TestClose(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, first)
	const readers = 30
	results := make(chan error, readers)
	var all []*Conn
	before := netnstest.Threads(t)
	for i := 0; i < readers; i++ {
		c := listen(t, first)
		all = append(all, c)
		go func() {
			_, _, err := c.ReadFromUDPAddrPort(make([]byte, 100))
			results <- err
		}()
	}
	time.Sleep(100 * time.Millisecond)
	if n := netnstest.Threads(t) - before; n > readers/2 {
		t.Errorf("%d readers: found %d threads more", readers, n)
	}
	for _, c := range all {
		must(t, c.Close())
		select {
		case err := <-results:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("a reader: found %v, wanted %v", err, net.ErrClosed)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a reader still waits")
		}
		if _, err := c.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a writer: found %v, wanted %v", err, net.ErrClosed)
		}
	}
	if _, err := Listen("none", port, begin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such namespace: found %v, wanted %v", err, os.ErrNotExist)
	}
}

// TestHere: "" is the namespace of the caller.
func TestHere(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	c := listen(t, "")
	_, err := c.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort("127.0.0.1:51820"))
	must(t, err)
	gets(t, "to itself", c, []string{brief(netip.MustParseAddrPort("127.0.0.1:51820"), message(40))})
}

// TestAnswersComeFromWhereItWasAsked: at any of the host's addresses, whichever the route
// back prefers. From one that is gone by then nothing leaves.
func TestAnswersComeFromWhereItWasAsked(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	hosts(t)
	netnstest.Run(t, first, "ip", "address", "add", "10.9.0.1/32", "dev", "a1")
	netnstest.Run(t, other, "ip", "route", "add", "10.9.0.1/32", "dev", "a2")
	one, two := listen(t, first), listen(t, other)
	ordinary(t, first, port) // or the kernel answers that nobody holds it
	ordinary(t, other, port)
	if n, err := one.Answer(message(40), netip.MustParseAddrPort("192.0.2.2:51820")); err == nil {
		t.Errorf("answered before anybody asked, with %d bytes", n)
	}
	b := make([]byte, longest)
	for _, at := range []string{"10.9.0.1:51820", "192.0.2.1:51820", "10.9.0.1:51820"} {
		_, err := two.WriteToUDPAddrPort(message(40), netip.MustParseAddrPort(at))
		must(t, err)
		must(t, one.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, from, err := one.ReadFromUDPAddrPort(b)
		must(t, err)
		sent, err := one.Answer(b[:n], from)
		if must(t, err); sent != 40 {
			t.Errorf("found %d bytes sent", sent)
		}
		gets(t, "who asked "+at, two, []string{brief(netip.MustParseAddrPort(at), message(40))})
	}
	netnstest.Run(t, first, "ip", "address", "del", "10.9.0.1/32", "dev", "a1")
	if n, err := one.Answer(message(40), netip.MustParseAddrPort("192.0.2.2:51820")); err == nil {
		t.Errorf("answered with %d bytes from an address that is gone", n)
	}
}
