package lab

import (
	"net"
	"testing"
	"time"
)

// dhcpMessage is what a host sends: current is the address that it has, asked the one that it asks for.
func dhcpMessage(kind byte, mac net.HardwareAddr, current, asked string) []byte {
	m := make([]byte, bootpSize)
	m[0], m[1], m[2] = 1, 1, 6
	copy(m[4:8], "xyzt")
	copy(m[12:16], net.ParseIP(current).To4())
	copy(m[28:34], mac)
	m = append(append(m, dhcpCookie...), 0, 12, 1, 'a', 53, 1, kind)
	if asked != "" {
		m = append(append(m, 50, 4), net.ParseIP(asked).To4()...)
	}
	return append(m, 255)
}

// TestDHCPAnswer: each host is given the address that is its own, and told where another one
// is. Who has an address is told there, but that it has it no longer (RFC 2131, 4.1).
func TestDHCPAnswer(t *testing.T) {
	dir := t.TempDir()
	l := &Lab{Dir: dir, Hosts: []*Host{
		{HostSpec: HostSpec{Name: "erin", ID: 1, Address: "192.0.2.5", DHCP: true}},
		{HostSpec: HostSpec{Name: "static", ID: 2, Address: "192.0.2.6"}},
	}}
	for _, h := range l.Hosts {
		h.lab = l
	}
	mac, _ := net.ParseMAC(l.Hosts[0].MAC())
	static, _ := net.ParseMAC(l.Hosts[1].MAC())
	const own, other, all = "192.0.2.5", "192.0.2.77", "255.255.255.255"
	check := func(when string, message []byte, kind byte, to, address string) {
		t.Helper()
		reply, sentTo := dhcpAnswer(message, l.leaseOf)
		if reply == nil {
			t.Fatalf("%s: no answer", when)
		}
		if got := dhcpMessageType(reply[bootpSize+4:]); got != kind || sentTo.String() != to {
			t.Errorf("%s: the answer is %d to %s, wanted %d to %s", when, got, sentTo, kind, to)
		}
		if got := net.IP(reply[16:20]).String(); string(reply[4:8]) != "xyzt" || got != address {
			t.Errorf("%s: found %s, wanted %s: %x", when, got, address, reply)
		}
	}
	check("it looks for one", dhcpMessage(dhcpDiscover, mac, "", ""), dhcpOffer, all, own)
	check("it takes what was offered", dhcpMessage(dhcpRequest, mac, "", own), dhcpAck, all, own)
	check("it asks again", dhcpMessage(dhcpRequest, mac, own, ""), dhcpAck, own, own)
	if err := l.Hosts[0].SetLease(other, 12*time.Second); err != nil {
		t.Fatal(err)
	}
	check("it asks again for what is no longer its own", dhcpMessage(dhcpRequest, mac, own, ""), dhcpNak, all, "0.0.0.0")
	check("it comes back with that", dhcpMessage(dhcpRequest, mac, "", own), dhcpNak, all, "0.0.0.0")
	check("it looks for another one", dhcpMessage(dhcpDiscover, mac, "", own), dhcpOffer, all, other)
	check("it takes that", dhcpMessage(dhcpRequest, mac, "", other), dhcpAck, all, other)
	if err := l.Hosts[0].SetLease("erin", time.Hour); err == nil {
		t.Error("a name for an address is accepted")
	}
	for name, m := range map[string][]byte{
		"release": dhcpMessage(7, mac, own, ""), "stranger": dhcpMessage(dhcpDiscover, make([]byte, 6), "", ""), "who knows its address": dhcpMessage(dhcpDiscover, static, "", ""),
		"short": dhcpMessage(1, mac, "", "")[:100], "cut": dhcpMessage(1, mac, "", "")[:bootpSize+9], "empty": nil,
	} {
		if reply, _ := dhcpAnswer(m, l.leaseOf); reply != nil {
			t.Errorf("%s is answered", name)
		}
	}
}

// TestDHCPRoutes: a host that has its address alone is told first that its router is on the
// link, and then that all else goes there.
func TestDHCPRoutes(t *testing.T) {
	for _, tc := range []struct {
		spec                 HostSpec
		mask, routes, router string
	}{
		{HostSpec{Address: "192.0.2.5"}, "\xff\xff\xff\x00", "", "\xc0\x00\x02\xfe"},
		{HostSpec{Address: "203.0.113.8", Site: true}, "\xff\xff\xff\x00", "", "\xcb\x00\x71\xfe"},
		{
			HostSpec{Address: "192.0.2.5", HostRoute: true}, "\xff\xff\xff\xff",
			"\x20\xc0\x00\x02\xfe\x00\x00\x00\x00" + "\x00\xc0\x00\x02\xfe", "\xc0\x00\x02\xfe",
		},
	} {
		h := &Host{HostSpec: tc.spec, lab: &Lab{Dir: t.TempDir()}}
		its, err := h.lease()
		if err != nil {
			t.Fatal(err)
		}
		options := its.answer(dhcpMessage(dhcpDiscover, make([]byte, 6), "", ""), dhcpOffer)[bootpSize+4:]
		for code, want := range map[byte]string{1: tc.mask, 121: tc.routes, 3: tc.router, 51: "\x00\x00\x0e\x10"} {
			if got := string(dhcpOption(options, code)); got != want {
				t.Errorf("%+v: option %d is %x, wanted %x", tc.spec, code, got, want)
			}
		}
	}
}
