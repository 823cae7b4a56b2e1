package rawudp

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

// Conn6 is Conn for IPv6. The kernel gives raw sockets of IPv6 no header and makes
// checksums itself (RFC 3542 sections 3 and 3.1), so it is a Conn with less to do.
type Conn6 struct {
	conn    *net.IPConn
	port    uint16
	begin   uint32
	in, oob []byte
	asked   netip.Addr // where the datagram that was read last came to

	sending sync.Mutex // holds what follows
	out     []byte
}

// Listen6 is Listen for IPv6. Where the kernel has none, or systemd keeps it from the caller
// (RestrictAddressFamilies), the error matches syscall.EAFNOSUPPORT.
func Listen6(namespace string, port uint16, begin uint32) (*Conn6, error) {
	c := &Conn6{port: port, begin: begin, in: make([]byte, longest), oob: make([]byte, 128)}
	err := netns.Do(namespace, func() (err error) {
		c.conn, err = openRaw(fmt.Sprintf("ip6:%d", unix.IPPROTO_UDP), "::", wanted6(port, begin),
			// Where the sum is: 6 bytes behind the beginning. It is checked, too, of what comes.
			option{"IPV6_CHECKSUM", unix.IPPROTO_IPV6, unix.IPV6_CHECKSUM, 6},
			option{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			option{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sharing UDP port %d over IPv6: %w", port, err)
	}
	return c, nil
}

// wanted6 is wanted for a raw socket of IPv6, which sees the datagram from its UDP header on.
func wanted6(port uint16, begin uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(port), Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: udpHeader},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: begin, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: longest},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// ReadFromUDPAddrPort is Conn's.
func (c *Conn6) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		n, more, _, from, err := c.conn.ReadMsgIP(c.in, c.oob)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		sender, _ := netip.AddrFromSlice(from.IP)
		payload, at, ok := wantedOf(c.in[:n], sender.WithZone(from.Zone), c.port, c.begin)
		if ok && len(payload) <= len(b) {
			c.asked = destination(c.oob[:more])
			return copy(b, payload), at, nil
		}
	}
}

// destination returns where a datagram came to; zero: the kernel does not say.
func destination(oob []byte) (to netip.Addr) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return to
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return to
}

// WriteToUDPAddrPort is Conn's.
func (c *Conn6) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.send(b, netip.Addr{}, to)
}

// Answer is Conn's.
func (c *Conn6) Answer(b []byte, to netip.AddrPort) (int, error) {
	if !c.asked.IsValid() {
		return 0, fmt.Errorf("answering %v with %d bytes: %w", to, len(b), unix.EINVAL)
	}
	return c.send(b, c.asked, to)
}

// send sends from an address; zero: the one that the route prefers.
func (c *Conn6) send(b []byte, source netip.Addr, to netip.AddrPort) (int, error) {
	target := to.Addr()
	if !target.Is6() || target.Is4In6() || to.Port() == 0 || len(b) > longest-udpHeader {
		return 0, fmt.Errorf("sending %d bytes to %v: %w", len(b), to, unix.EINVAL)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	c.out = datagram(c.out[:0], c.port, to.Port(), b)
	var control []byte
	if source.IsValid() {
		control = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: source.As16()})
	}
	if _, _, err := c.conn.WriteMsgIP(c.out, control, &net.IPAddr{IP: target.AsSlice(), Zone: target.Zone()}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close is Conn's.
func (c *Conn6) Close() error { return c.conn.Close() }
