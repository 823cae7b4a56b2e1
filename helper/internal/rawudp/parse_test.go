package rawudp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// packet is an IPv4 packet from 192.0.2.2:9 to the port.
func packet(options int, payload []byte) []byte {
	p := make([]byte, ipHeader+options+udpHeader)
	p[0], p[9] = 0x40|byte((ipHeader+options)/4), unix.IPPROTO_UDP
	copy(p[12:], []byte{192, 0, 2, 2})
	u := p[ipHeader+options:]
	u[1] = 9
	binary.BigEndian.PutUint16(u[2:], port)
	binary.BigEndian.PutUint16(u[4:], uint16(udpHeader+len(payload)))
	p = append(p, payload...)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return p
}

func TestParse(t *testing.T) {
	c := &Conn{port: port, begin: begin}
	for _, options := range []int{0, 4, 40} {
		for _, size := range []int{4, 40, 9000} {
			payload, from, ok := c.parse(packet(options, message(size)))
			if !ok || from.String() != "192.0.2.2:9" || !bytes.Equal(payload, message(size)) {
				t.Errorf("%d bytes of options, %d of payload: found %d from %v, %v", options, size, len(payload), from, ok)
			}
		}
	}
	for about, change := range map[string]func(p []byte) []byte{
		"empty":                   func(p []byte) []byte { return nil },
		"cut short":               func(p []byte) []byte { return p[:len(p)-1] },
		"something behind it":     func(p []byte) []byte { return append(p, 0) },
		"cut in the header":       func(p []byte) []byte { p[3] = 19; return p[:19] },
		"cut in UDP's header":     func(p []byte) []byte { p[3] = 27; return p[:27] },
		"cut in the prefix":       func(p []byte) []byte { p[3], p[25] = 31, 11; return p[:31] },
		"IPv6":                    func(p []byte) []byte { p[0] = 0x65; return p },
		"a header of 16 bytes":    func(p []byte) []byte { p[0] = 0x44; return p },
		"a header beyond the end": func(p []byte) []byte { p[0], p[3] = 0x4f, 60; return p[:60] },
		"TCP":                     func(p []byte) []byte { p[9] = 6; return p },
		"the first fragment":      func(p []byte) []byte { p[6] = 0x20; return p },
		"the second fragment":     func(p []byte) []byte { p[7] = 1; return p },
		"from port 0":             func(p []byte) []byte { p[21] = 0; return p },
		"to another port":         func(p []byte) []byte { p[23]++; return p },
		"a longer UDP":            func(p []byte) []byte { p[25]++; return p },
		"a shorter UDP":           func(p []byte) []byte { p[25]--; return p },
		"another prefix":          func(p []byte) []byte { p[28]++; return p },
	} {
		if payload, from, ok := c.parse(change(packet(0, message(40)))); ok {
			t.Errorf("%s: found %x from %v, wanted that it is refused", about, payload, from)
		}
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(packet(0, message(40)))
	f.Add(packet(40, message(4)))
	f.Fuzz(func(t *testing.T, p []byte) {
		c := &Conn{port: port, begin: begin}
		payload, from, ok := c.parse(p)
		if ok && (!bytes.HasSuffix(p, payload) || len(payload) < prefix || len(payload) > len(p)-ipHeader-udpHeader || !from.Addr().Is4() || from.Port() == 0) {
			t.Errorf("%x: found %x from %v", p, payload, from)
		}
	})
}
