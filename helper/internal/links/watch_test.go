package links

import (
	"encoding/binary"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
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

func TestDescribeLoss(t *testing.T) {
	name := func(s string) map[uint16]string { return map[uint16]string{unix.IFLA_IFNAME: s + "\x00"} }
	route := make([]byte, unix.SizeofRtMsg)
	route[5] = unix.RTPROT_STATIC
	kernels := append([]byte(nil), route...)
	kernels[5] = unix.RTPROT_KERNEL
	for _, c := range []struct {
		what string
		m    syscall.NetlinkMessage
		want string
	}{
		{"own link deleted", message(unix.RTM_DELLINK, linkHeader(0, 0), name("mo-wg-gw")), "link mo-wg-gw deleted"},
		{"another's link deleted", message(unix.RTM_DELLINK, linkHeader(0, 0), name("docker0")), ""},
		{"own link down", message(unix.RTM_NEWLINK, linkHeader(0, unix.IFF_UP), name("veth_fac0")), "link veth_fac0 set down"},
		{"own link up", message(unix.RTM_NEWLINK, linkHeader(unix.IFF_UP, unix.IFF_UP), name("veth_fac0")), ""},
		{"carrier lost", message(unix.RTM_NEWLINK, linkHeader(unix.IFF_UP, 0), name("mo-ext-gw")), ""},
		{"address", message(unix.RTM_DELADDR, make([]byte, unix.SizeofIfAddrmsg), map[uint16]string{unix.IFA_LOCAL: "\x0a\x1e\x00\x00"}), "address 10.30.0.0 deleted"},
		{"route", message(unix.RTM_DELROUTE, route, map[uint16]string{unix.RTA_DST: "\x0a\x1e\x00\x00"}), "route to 10.30.0.0 deleted"},
		{"default route", message(unix.RTM_DELROUTE, route, nil), "default route deleted"},
		{"the kernel's route", message(unix.RTM_DELROUTE, kernels, nil), ""},
		{"rule", message(unix.RTM_DELRULE, nil, nil), "rule deleted"},
		{"cut short", message(unix.RTM_DELLINK, []byte{1, 2}, nil), ""},
		{"no data", message(unix.RTM_NEWLINK, nil, nil), ""},
	} {
		if got := describeLoss(c.m); got != c.want {
			t.Errorf("%s: found %q, wanted %q", c.what, got, c.want)
		}
	}
}
