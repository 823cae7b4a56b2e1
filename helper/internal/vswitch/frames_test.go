//go:build ovs

package vswitch

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Frames, byte by byte: what a guest may send is not what a well-kept library
// would let one build.

func hw(text string) []byte {
	mac, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return mac
}

func addr(text string) []byte { return netip.MustParseAddr(text).AsSlice() }

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// ethernet builds a frame; what follows the addresses is the rest.
func ethernet(dst, src string, rest ...[]byte) []byte {
	return join(append([][]byte{hw(dst), hw(src)}, rest...)...)
}

// typed is a payload after its EtherType, tag an IEEE 802.1Q or 802.1ad tag.
func typed(etherType int, payload []byte) []byte { return join(u16(etherType), payload) }

func tag(tpid, tci int) []byte { return join(u16(tpid), u16(tci)) }

// snap is a payload in an IEEE 802.2 frame with SNAP (RFC 1042).
func snap(etherType int, payload []byte) []byte {
	return join(u16(8+len(payload)), []byte{0xaa, 0xaa, 3, 0, 0, 0}, u16(etherType), payload)
}

// arpPacket is ARP (RFC 826); the zero of hardware, protocol and lengths is what
// Ethernet and IPv4 have.
type arpPacket struct {
	hardware, protocol, hardwareLen, protocolLen, operation int
	sha, spa, tha, tpa                                      string
}

func (a arpPacket) bytes() []byte {
	or := func(n, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return n
	}
	if a.tha == "" {
		a.tha = "00:00:00:00:00:00"
	}
	return typed(0x0806, join(u16(or(a.hardware, 1)), u16(or(a.protocol, 0x0800)),
		[]byte{byte(or(a.hardwareLen, 6)), byte(or(a.protocolLen, 4))}, u16(a.operation),
		hw(a.sha), addr(a.spa), hw(a.tha), addr(a.tpa), make([]byte, 18)))
}

// ipv4Packet is IPv4 (RFC 791) around its payload.
type ipv4Packet struct {
	src, dst string
	protocol byte
	options  []byte // a multiple of 4
	fragment int    // flags and offset
	length   int    // total length; 0: the true one
	version  int    // 0: 4
	payload  []byte
}

func (p ipv4Packet) bytes() []byte { return typed(0x0800, p.packet()) }

func (p ipv4Packet) packet() []byte {
	header := 20 + len(p.options)
	if p.length == 0 {
		p.length = header + len(p.payload)
	}
	if p.version == 0 {
		p.version = 4
	}
	h := join([]byte{byte(p.version<<4 | header/4), 0}, u16(p.length), u16(77), u16(p.fragment),
		[]byte{64, p.protocol, 0, 0}, addr(p.src), addr(p.dst), p.options)
	copy(h[10:], checksum(h))
	return append(h, p.payload...)
}

// ipv6Packet is IPv6 (RFC 8200); extensions are in their order.
type ipv6Packet struct {
	src, dst   string
	extensions []extension
	protocol   byte
	length     int // of the payload; 0: the true one, -1: none
	payload    []byte
}

// extension is an extension header without its first byte.
type extension struct {
	kind byte
	rest []byte
}

// The extension headers that IPv6 knows, empty.
var (
	hopByHop    = extension{0, []byte{0, 1, 4, 0, 0, 0, 0}}
	destination = extension{60, []byte{0, 1, 4, 0, 0, 0, 0}}
	routing     = extension{43, []byte{0, 0, 0, 0, 0, 0, 0}}
)

// fragmentHeader has the offset in units of 8 bytes.
func fragmentHeader(offset int, more bool) extension {
	n := offset << 3
	if more {
		n |= 1
	}
	return extension{44, join([]byte{0}, u16(n), u32(77))}
}

func (p ipv6Packet) bytes() []byte {
	next := p.protocol
	var body []byte
	for i := len(p.extensions) - 1; i >= 0; i-- {
		body = join([]byte{next}, p.extensions[i].rest, body)
		next = p.extensions[i].kind
	}
	body = append(body, p.payload...)
	switch p.length {
	case 0:
		p.length = len(body)
	case -1:
		p.length = 0
	}
	return typed(0x86dd, join([]byte{0x60, 0, 0, 0}, u16(p.length), []byte{next, 255}, addr(p.src), addr(p.dst), body))
}

// udp4 and udp6 are a datagram to the port where receivers listen.
func udp4(src, dst string) ipv4Packet {
	return ipv4Packet{src: src, dst: dst, protocol: 17, payload: join(u16(9999), u16(receiverPort), u16(12), u16(0), []byte("mobu"))}
}

func udp6(src, dst string) ipv6Packet {
	datagram := join(u16(9999), u16(receiverPort), u16(12), u16(0), []byte("mobu"))
	copy(datagram[6:], pseudo6(src, dst, 17, datagram))
	return ipv6Packet{src: src, dst: dst, protocol: 17, payload: datagram}
}

// icmp6Message is an ICMPv6 message with its checksum.
func icmp6Message(src, dst string, kind, code byte, body ...[]byte) ipv6Packet {
	message := join(append([][]byte{{kind, code, 0, 0}}, body...)...)
	copy(message[2:], pseudo6(src, dst, 58, message))
	return ipv6Packet{src: src, dst: dst, protocol: 58, payload: message}
}

// Options of neighbor discovery (RFC 4861 section 4.6).
func sourceLink(mac string) []byte { return join([]byte{1, 1}, hw(mac)) }
func targetLink(mac string) []byte { return join([]byte{2, 1}, hw(mac)) }

// advertise is a neighbor advertisement with the flag "override".
func advertise(src, dst, target string, options ...[]byte) ipv6Packet {
	return icmp6Message(src, dst, advertisement, 0, append([][]byte{u32(0x20000000), addr(target)}, options...)...)
}

func solicit(src, dst, target string, options ...[]byte) ipv6Packet {
	return icmp6Message(src, dst, solicitation, 0, append([][]byte{u32(0), addr(target)}, options...)...)
}

// routerMessage advertises the sender as a router of 2001:db8:66::/64.
func routerMessage(src, dst string, options ...[]byte) ipv6Packet {
	prefix := join([]byte{3, 4, 64, 0xc0}, u32(3600), u32(3600), u32(0), addr("2001:db8:66::"))
	return icmp6Message(src, dst, routerAdvertisement, 0,
		append([][]byte{{64, 0}, u16(1800), u32(0), u32(0), prefix}, options...)...)
}

func checksum(b []byte) []byte {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return u16(int(^sum & 0xffff))
}

func pseudo6(src, dst string, protocol byte, payload []byte) []byte {
	return checksum(join(addr(src), addr(dst), u32(uint32(len(payload))), []byte{0, 0, 0, protocol}, payload))
}
