package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/netns"
)

// raw is a raw socket for UDP, which sees a port beside whoever has that (raw(7)).
type raw struct{ *net.IPConn }

func rawUDP(t *testing.T, ns string) raw {
	t.Helper()
	var conn net.PacketConn
	err := netns.Do(ns, func() (err error) {
		conn, err = net.ListenPacket("ip4:udp", "0.0.0.0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return raw{conn.(*net.IPConn)}
}

func (r raw) send(t *testing.T, from uint16, to, text string) {
	t.Helper()
	at := netip.MustParseAddrPort(to)
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	b = append(b, 0, 0) // no checksum (RFC 768)
	if _, err := r.WriteTo(append(b, text...), &net.IPAddr{IP: at.Addr().AsSlice()}); err != nil {
		t.Fatal(err)
	}
}

// hear returns what arrives for a port, and from where; "" if nothing does.
func (r raw) hear(t *testing.T, port uint16) (text string, from netip.AddrPort) {
	t.Helper()
	b := make([]byte, 100)
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		n, at, err := r.ReadFrom(b)
		if err != nil {
			return "", netip.AddrPort{}
		}
		if n >= 8 && binary.BigEndian.Uint16(b[2:]) == port {
			address, _ := netip.AddrFromSlice(at.(*net.IPAddr).IP.To4())
			return string(b[8:n]), netip.AddrPortFrom(address, binary.BigEndian.Uint16(b))
		}
	}
}

// TestDirectProbes: what has WireGuard's port for a source and a destination passes,
// straight and by the relay port of a third host, beside the socket that has the port.
func TestDirectProbes(t *testing.T) {
	if !world(t) {
		return
	}
	const port = 51820
	udp(t, gateway(2), "192.0.2.2:51820") // WireGuard's
	third, second := udp(t, outside, "192.0.2.3:51820"), rawUDP(t, gateway(2))
	for _, c := range []struct{ way, to, from string }{
		{"straight", "192.0.2.2:51820", "192.0.2.3:51820"},
		{"by host 1's relay", "192.0.2.1:32770", "192.0.2.1:32771"},
	} {
		send(t, third, c.to, "MOBU request")
		text, from := second.hear(t, port)
		if text != "MOBU request" || from.String() != c.from {
			t.Errorf("%s: host 2 hears %q from %s, wanted %s", c.way, text, from, c.from)
			continue
		}
		second.send(t, port, c.from, "MOBU echo")
		if text, from := hear(t, third); text != "MOBU echo" || from.String() != c.to {
			t.Errorf("%s: the sender hears %q from %s, wanted %s", c.way, text, from, c.to)
		}
	}
	if entries := sh(t, gateway(2), "conntrack -L -p udp 2>/dev/null | grep -c '' || true"); entries != "0" {
		t.Errorf("the target has %s entries of UDP, wanted none", entries)
	}
}
