package links

import (
	"encoding/binary"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// message builds what the kernel would send.
func message(kind uint16, header []byte, attributes map[uint16]string) syscall.NetlinkMessage {
	data := append([]byte(nil), header...)
	for k, value := range attributes {
		a := make([]byte, unix.SizeofRtAttr)
		binary.NativeEndian.PutUint16(a, uint16(unix.SizeofRtAttr+len(value)))
		binary.NativeEndian.PutUint16(a[2:], k)
		data = append(append(data, a...), value...)
		for len(data)%unix.RTA_ALIGNTO != 0 {
			data = append(data, 0)
		}
	}
	return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data}
}

func linkHeader(flags, change uint32) []byte {
	info := unix.IfInfomsg{Flags: flags, Change: change}
	return append([]byte(nil), (*[unix.SizeofIfInfomsg]byte)(unsafe.Pointer(&info))[:]...)
}

// bits returns the header of an address, route or rule: the length of its prefix
// is the second byte of each (rtnetlink(7)).
func bits(n byte) []byte {
	header := make([]byte, unix.SizeofRtMsg)
	header[1] = n
	return header
}

func number32(n uint32) string { return string(binary.NativeEndian.AppendUint32(nil, n)) }

// TestDescribeForwarding: only a change of what the plan wants of an interface counts.
func TestDescribeForwarding(t *testing.T) {
	p := &spec.Host{Settings: []spec.Setting{
		{Key: "net/ipv4/conf/eth0/forwarding", Value: "1", NIC: "eth0"},
		{NS: spec.Namespace, Key: "net/ipv4/conf/eth1/forwarding", Value: "1"},
		{Key: "net/ipv4/conf/eth2/rp_filter", Value: "1"},
		{Key: "net/ipv4/ip_forward", Value: "1"},
	}}
	asked := 0
	own := NewOwn(p, "")
	own.nameOf = func(index int) string {
		asked++
		return map[int]string{2: "eth0", 3: "eth1", 4: "eth2"}[index]
	}
	conf := func(index int32, forwarding uint32, more ...uint16) syscall.NetlinkMessage {
		all := map[uint16]string{1: number32(uint32(index)), 2: number32(forwarding)}
		for _, kind := range more {
			all[kind] = number32(0)
		}
		return message(unix.RTM_NEWNETCONF, []byte{unix.AF_INET, 0, 0, 0}, all)
	}
	for _, c := range []struct {
		what, want string
		m          syscall.NetlinkMessage
		asks       int
	}{
		{"turned off", "forwarding of eth0 changed", conf(2, 0), 1},
		{"turned on", "", conf(2, 1), 0},
		{"one of another namespace", "", conf(3, 0), 1},
		{"one of which something else is wanted", "", conf(4, 0), 1},
		{"one that is gone", "", conf(5, 0), 1},
		{"all", "net.ipv4.ip_forward set to 0, and by it forwarding of each interface", conf(-1, 0), 0},
		{"all, to what is wanted", "net.ipv4.ip_forward set to 1, and by it forwarding of each interface", conf(-1, 1), 0},
		{"new ones", "", conf(-2, 0), 1},
		{"a new interface", "", conf(2, 0, 3), 0},
		{"another setting", "", message(unix.RTM_NEWNETCONF, []byte{unix.AF_INET, 0, 0, 0}, map[uint16]string{1: number32(2), 3: number32(0)}), 0},
		{"cut short", "", message(unix.RTM_NEWNETCONF, []byte{unix.AF_INET}, nil), 0},
	} {
		asked = 0
		if got := own.describeLoss(c.m); got != c.want || asked != c.asks {
			t.Errorf("%s: found %q and %d questions, wanted %q and %d", c.what, got, asked, c.want, c.asks)
		}
	}
	if got := new(Own).describeLoss(conf(2, 0)); got != "" {
		t.Errorf("nothing is known: found %q", got)
	}
}

func TestDescribeLoss(t *testing.T) {
	name := func(s string) map[uint16]string { return map[uint16]string{unix.IFLA_IFNAME: s + "\x00"} }
	route := func(protocol, table, prefix byte) []byte {
		header := bits(prefix)
		header[4], header[5] = table, protocol
		return header
	}
	const compat = unix.RT_TABLE_COMPAT // the table is an attribute
	p, err := plan.Build(plantest.Document(plantest.Host(1)), 1, *plantest.Facts())
	if err != nil {
		t.Fatal(err)
	}
	host, gateway := NewOwn(p, ""), NewOwn(p, spec.Namespace)
	specific := map[uint16]string{unix.FRA_PRIORITY: number32(spec.RulePriority + 2), unix.FRA_TABLE: number32(unix.RT_TABLE_MAIN)}
	rule := map[uint16]string{unix.FRA_PRIORITY: number32(spec.RulePriority), unix.FRA_TABLE: number32(spec.RouteTable)}
	for _, c := range []struct {
		what string
		own  *Own
		m    syscall.NetlinkMessage
		want string
	}{
		{"own link deleted", gateway, message(unix.RTM_DELLINK, linkHeader(0, 0), name("mo-wg-gw")), "link mo-wg-gw deleted"},
		{"the uplink deleted", gateway, message(unix.RTM_DELLINK, linkHeader(0, 0), name("eth0")), "link eth0 deleted"},
		{"it left the host for its namespace", host, message(unix.RTM_DELLINK, linkHeader(0, 0), name("eth0")), ""},
		{"another's link deleted", host, message(unix.RTM_DELLINK, linkHeader(0, 0), name("docker0")), ""},
		{"own link down", host, message(unix.RTM_NEWLINK, linkHeader(0, unix.IFF_UP), name("veth_fac0")), "link veth_fac0 set down"},
		{"own link that is left down", host, message(unix.RTM_NEWLINK, linkHeader(0, unix.IFF_UP), name("veth_eth0")), ""},
		{"own link up", host, message(unix.RTM_NEWLINK, linkHeader(unix.IFF_UP, unix.IFF_UP), name("veth_fac0")), ""},
		{"another's link down", host, message(unix.RTM_NEWLINK, linkHeader(0, unix.IFF_UP), name("docker0")), ""},
		{"carrier lost", gateway, message(unix.RTM_NEWLINK, linkHeader(unix.IFF_UP, 0), name("mo-ext-gw")), ""},
		{"address", gateway, message(unix.RTM_DELADDR, bits(32)[:unix.SizeofIfAddrmsg], map[uint16]string{unix.IFA_LOCAL: "\x0a\x1e\x00\x00"}), "address 10.30.0.0 deleted"},
		{"the same with another prefix", gateway, message(unix.RTM_DELADDR, bits(16)[:unix.SizeofIfAddrmsg], map[uint16]string{unix.IFA_LOCAL: "\x0a\x1e\x00\x00"}), ""},
		{"another's address", host, message(unix.RTM_DELADDR, bits(16)[:unix.SizeofIfAddrmsg], map[uint16]string{unix.IFA_LOCAL: "\xac\x11\x00\x01"}), ""},
		{"route", gateway, message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 16), map[uint16]string{unix.RTA_DST: "\x0a\x1e\x00\x00"}), "route to 10.30.0.0/16 deleted"},
		{"the same with another metric", gateway, message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 16), map[uint16]string{unix.RTA_DST: "\x0a\x1e\x00\x00", unix.RTA_PRIORITY: number32(5)}), ""},
		{"default route", gateway, message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 0), nil), "default route deleted"},
		{"default route of our table", host, message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, compat, 0), map[uint16]string{unix.RTA_TABLE: number32(spec.RouteTable)}), "default route deleted"},
		{"default route of the host", host, message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, unix.RT_TABLE_MAIN, 0), nil), "default route deleted"},
		{"default route of another table", host, message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, 100, 0), nil), ""},
		{"another's route", host, message(unix.RTM_DELROUTE, route(unix.RTPROT_BGP, unix.RT_TABLE_MAIN, 24), map[uint16]string{unix.RTA_DST: "\xc6\x33\x64\x00"}), ""},
		{"the kernel's route", gateway, message(unix.RTM_DELROUTE, route(unix.RTPROT_KERNEL, unix.RT_TABLE_MAIN, 16), map[uint16]string{unix.RTA_DST: "\x0a\x1e\x00\x00"}), ""},
		{"rule", host, message(unix.RTM_DELRULE, bits(32), rule), "rule 1030 deleted"},
		{"rule to the main table", host, message(unix.RTM_DELRULE, bits(32), specific), "rule 1032 deleted"},
		{"another's rule", host, message(unix.RTM_DELRULE, bits(32), map[uint16]string{unix.FRA_PRIORITY: number32(100), unix.FRA_TABLE: number32(100)}), ""},
		{"nothing is known", new(Own), message(unix.RTM_DELRULE, bits(32), rule), ""},
		{"cut short", host, message(unix.RTM_DELLINK, []byte{1, 2}, nil), ""},
		{"a rule cut short", host, message(unix.RTM_DELRULE, nil, nil), ""},
		{"no data", host, message(unix.RTM_NEWLINK, nil, nil), ""},
	} {
		if got := c.own.describeLoss(c.m); got != c.want {
			t.Errorf("%s: found %q, wanted %q", c.what, got, c.want)
		}
	}
}
