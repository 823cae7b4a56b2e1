// Package rawudp shares a UDP port with whoever holds it already, such as
// WireGuard in the kernel: it receives copies of what begins with a given prefix,
// and sends from that port. See raw(7).
package rawudp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

const (
	ipHeader  = 20 // bytes of an IPv4 header without options (RFC 791)
	udpHeader = 8  // bytes of a UDP header (RFC 768)
	prefix    = 4  // bytes by which datagrams are told apart
	longest   = 65535
)

// Conn is a port that is shared. It is safe for one reader beside any number of
// writers; the runtime's poller waits, no thread does.
type Conn struct {
	conn  *net.IPConn
	port  uint16
	begin uint32
	in    []byte
	asked netip.Addr // where the datagram that was read last came to

	sending sync.Mutex // holds what follows
	out     []byte
	route   *net.IPConn // carries nothing: it is connected to learn source addresses
}

// Listen shares an IPv4 UDP port in the named network namespace, "" being the
// caller's own. Datagrams whose first four bytes are begin, big-endian, are
// received on all addresses, reassembled and after the firewall's input chains;
// others stay where they are. They queue as a UDP socket's do (net.core.rmem_default
// bytes, udp(7)). What is sent may be fragmented on its way. It needs CAP_NET_RAW.
func Listen(namespace string, port uint16, begin uint32) (*Conn, error) {
	c := &Conn{port: port, begin: begin, in: make([]byte, longest)}
	err := netns.Do(namespace, func() (err error) {
		if c.conn, err = open(unix.IPPROTO_UDP, wanted(port, begin)); err != nil {
			return err
		}
		// A UDP socket would take a port, which may be one that somebody is about to listen on.
		if c.route, err = open(unix.IPPROTO_RAW, nothing); err != nil {
			c.conn.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sharing UDP port %d: %w", port, err)
	}
	return c, nil
}

// wanted is a program of classic BPF (Documentation/networking/filter.rst of Linux)
// that passes whole UDP datagrams to a port with a prefix. It sees the packet from
// its IP header on; reading beyond its end drops it.
func wanted(port uint16, begin uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 6},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: fragment, Jt: 6},
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0}, // X = length of the IP header
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(port), Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IND, K: udpHeader},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: begin, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: longest},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// fragment is what is not zero of flags and offset in a fragment.
const fragment = 0x3fff

var nothing = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}

// open makes a raw socket in the namespace of the thread. The filter comes after the
// socket, and before that foreign packets may queue: parse refuses them.
func open(protocol int, filter []unix.SockFilter) (*net.IPConn, error) {
	return openRaw(fmt.Sprintf("ip4:%d", protocol), "0.0.0.0", filter,
		option{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT})
}

// option is one of a socket's.
type option struct {
	name               string
	level, which, what int
}

func openRaw(network, address string, filter []unix.SockFilter, options ...option) (*net.IPConn, error) {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("SO_ATTACH_FILTER", unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
			for _, o := range options {
				err = errors.Join(err, os.NewSyscallError(o.name, unix.SetsockoptInt(int(fd), o.level, o.which, o.what)))
			}
		})
		return errors.Join(controlErr, err)
	}}
	c, err := config.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	return c.(*net.IPConn), nil
}

// ReadFromUDPAddrPort waits for a datagram and returns the length of its payload,
// which is then in b, and its sender. One that does not fit into b is dropped. After
// Close the error matches net.ErrClosed.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		n, err := c.conn.Read(c.in)
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		if payload, from, ok := c.parse(c.in[:n]); ok && len(payload) <= len(b) {
			c.asked = netip.AddrFrom4([4]byte(c.in[16:20]))
			return copy(b, payload), from, nil
		}
	}
}

// parse takes an IPv4 packet apart; what is odd is not ok. The kernel hands raw
// sockets copies whose UDP checksum nobody has looked at. It protects from broken
// bits only, and from these and all others the MAC of a message does.
func (c *Conn) parse(p []byte) (payload []byte, from netip.AddrPort, ok bool) {
	if len(p) < ipHeader || p[0]>>4 != 4 || p[9] != unix.IPPROTO_UDP || int(binary.BigEndian.Uint16(p[2:])) != len(p) ||
		binary.BigEndian.Uint16(p[6:])&fragment != 0 {
		return nil, from, false
	}
	header := int(p[0]&0xf) * 4
	if header < ipHeader || len(p) < header {
		return nil, from, false
	}
	return wantedOf(p[header:], netip.AddrFrom4([4]byte(p[12:16])), c.port, c.begin)
}

// wantedOf takes a UDP datagram apart, which is ok if it is to the port and has the prefix.
func wantedOf(u []byte, sender netip.Addr, to uint16, begin uint32) (payload []byte, from netip.AddrPort, ok bool) {
	if len(u) < udpHeader+prefix {
		return nil, from, false
	}
	port := binary.BigEndian.Uint16(u)
	if port == 0 || binary.BigEndian.Uint16(u[2:]) != to || int(binary.BigEndian.Uint16(u[4:])) != len(u) ||
		binary.BigEndian.Uint32(u[udpHeader:]) != begin {
		return nil, from, false
	}
	return u[udpHeader:], netip.AddrPortFrom(sender, port), true
}

// WriteToUDPAddrPort sends a datagram from the port, with b as its payload and the
// source address that the route to its receiver prefers now. It returns the
// length of b.
func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	target := to.Addr().Unmap()
	if !target.Is4() {
		return 0, fmt.Errorf("sending %d bytes to %v: %w", len(b), to, unix.EINVAL)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	source, err := c.source(target)
	if err != nil {
		return 0, fmt.Errorf("the source address to %v: %w", target, err)
	}
	return c.send(b, source, target, to.Port())
}

// Answer is WriteToUDPAddrPort from the address to which the datagram came that was read
// last, as WireGuard answers, so that it takes the same way back where routes go by
// sources. It is for the reader alone, after it has read one.
func (c *Conn) Answer(b []byte, to netip.AddrPort) (int, error) {
	target := to.Addr().Unmap()
	if !target.Is4() || !c.asked.IsValid() {
		return 0, fmt.Errorf("answering %v with %d bytes: %w", to, len(b), unix.EINVAL)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.send(b, c.asked, target, to.Port())
}

// send does what is left once the source address is known.
func (c *Conn) send(b []byte, source, target netip.Addr, port uint16) (int, error) {
	if port == 0 || len(b) > longest-ipHeader-udpHeader {
		return 0, fmt.Errorf("sending %d bytes to %v, port %d: %w", len(b), target, port, unix.EINVAL)
	}
	p := datagram(c.out[:0], c.port, port, b)
	c.out = p
	binary.BigEndian.PutUint16(p[6:], checksum(source, target, p))
	// The address may be gone by now: then the kernel refuses, and takes no other one.
	control := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: source.As4()})
	if _, _, err := c.conn.WriteMsgIP(p, control, &net.IPAddr{IP: target.AsSlice()}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// datagram appends a UDP datagram without a checksum.
func datagram(p []byte, from, to uint16, payload []byte) []byte {
	p = append(append(p, make([]byte, udpHeader)...), payload...)
	binary.BigEndian.PutUint16(p, from)
	binary.BigEndian.PutUint16(p[2:], to)
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)))
	return p
}

// source asks the kernel which address it would send from, by connecting a socket
// that sends nothing.
func (c *Conn) source(to netip.Addr) (source netip.Addr, err error) {
	raw, err := c.route.SyscallConn()
	if err != nil {
		return source, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		// A connected socket keeps its address until it is disconnected, see connect(2).
		none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&none)), unix.SizeofSockaddrInet4); errno != 0 {
			err = errno
			return
		}
		if err = unix.Connect(int(fd), &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
			return
		}
		var at unix.Sockaddr
		if at, err = unix.Getsockname(int(fd)); err == nil {
			source = netip.AddrFrom4(at.(*unix.SockaddrInet4).Addr)
		}
	})
	if err = errors.Join(controlErr, err); err == nil && source.IsUnspecified() {
		err = unix.EADDRNOTAVAIL
	}
	return source, err
}

// checksum computes that of a UDP datagram whose own field is zero (RFC 768). WireGuard
// sends one as well, and IPv4's leave to send none is not heeded everywhere: translators
// drop fragments without (RFC 7915 section 4.5).
func checksum(source, target netip.Addr, p []byte) uint16 {
	s, t := source.As4(), target.As4()
	sum := uint64(binary.BigEndian.Uint32(s[:])) + uint64(binary.BigEndian.Uint32(t[:])) + unix.IPPROTO_UDP + uint64(len(p))
	for ; len(p) >= 4; p = p[4:] {
		sum += uint64(binary.BigEndian.Uint32(p))
	}
	var rest [4]byte
	copy(rest[:], p)
	sum += uint64(binary.BigEndian.Uint32(rest[:]))
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum == 0xffff {
		return 0xffff // zero says that there is none
	}
	return ^uint16(sum)
}

// Close lets go of the port. A waiting ReadFromUDPAddrPort returns.
func (c *Conn) Close() error { return errors.Join(c.conn.Close(), c.route.Close()) }
