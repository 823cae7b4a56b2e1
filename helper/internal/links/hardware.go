package links

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// lookForFilters notes hardware addresses that links were given to listen to
// besides their own: a device forgets them when it moves (dev_uc_flush,
// dev_mc_flush in the kernel).
func (v *view) lookForFilters(h *netlink.Handle) error {
	entries, err := h.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("forwarding entries: %w", err)
	}
	for _, e := range entries {
		if multicast := len(e.HardwareAddr) > 0 && e.HardwareAddr[0]&1 != 0; e.Flags&netlink.NTF_SELF != 0 && !multicast {
			v.filters[e.LinkIndex] = append(v.filters[e.LinkIndex], e.HardwareAddr.String())
		}
	}
	// No message tells which multicast addresses somebody gave a link (ip-maddress(8)).
	data, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(data), "\n") {
		var index, users, given int
		var name, address string
		if n, _ := fmt.Sscan(line, &index, &name, &users, &given, &address); n == 5 && given > 0 {
			v.filters[index] = append(v.filters[index], address)
		}
	}
	return nil
}

// lookForTokens notes the links whose IPv6 addresses end as somebody wants it
// (ip-token(8)), which does not come back with the link.
func (v *view) lookForTokens() error {
	const token = 7 // IFLA_INET6_TOKEN
	return eachInet6(func(index int, found map[uint16][]byte) {
		v.tokens[index] = !bytes.Equal(found[token], make([]byte, len(found[token])))
	})
}

// eachInet6 calls f with what IPv6 tells of each link (IFLA_AF_SPEC in rtnetlink(7)).
func eachInet6(f func(index int, found map[uint16][]byte)) error {
	_, err := dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), nil, func(m []byte, _ map[int]string) (struct{}, error) {
		if len(m) < unix.SizeofIfInfomsg {
			return struct{}{}, fmt.Errorf("a link in %d bytes", len(m))
		}
		families := attributes(attributes(m[unix.SizeofIfInfomsg:])[unix.IFLA_AF_SPEC])
		f(int(nl.DeserializeIfInfomsg(m).Index), attributes(families[unix.AF_INET6]))
		return struct{}{}, nil
	})
	return err
}

// itself names what the uplink has of its own besides addresses and routes, and
// would not have again.
func (u *uplinkView) itself() {
	for _, address := range u.filters[u.link.Index] {
		u.lost("the further hardware address %s", address)
	}
	if u.tokens[u.link.Index] {
		u.lost("an IPv6 token")
	}
	u.ownLinkLocal()
}

// The values of addr_gen_mode that need no secret.
const (
	modeEUI64 = "0"
	modeNone  = "1"
)

// ownLinkLocal holds that the kernel will give the uplink the link-local address
// that it has: that of its MAC address, or none (addrconf_addr_gen).
func (u *uplinkView) ownLinkLocal() {
	prefix := "net/ipv6/conf/" + u.link.Name + "/"
	if off, err := readSetting(prefix + "disable_ipv6"); err != nil || off == "1" {
		return // it will be off again
	}
	mode, err := readSetting(prefix + "addr_gen_mode")
	if err == nil && mode != modeEUI64 && mode != modeNone {
		u.lost("IPv6 addresses made from a secret (addr_gen_mode %s)", mode)
		return
	}
	found := false
	for _, a := range u.addresses {
		if a.index != u.link.Index || !u.linkLocal(a) {
			continue
		}
		of := isEUI64(a.Prefix.Addr().AsSlice(), u.link.HardwareAddr)
		found = found || of
		if !of || mode == modeNone {
			u.lost("link-local address %s of a former MAC address or mode", a.Prefix)
		}
	}
	if !found && mode == modeEUI64 {
		u.lost("no link-local address")
	}
}

// isEUI64 reports that an IPv6 address ends in the modified EUI-64 of a MAC
// address (RFC 4291, appendix A).
func isEUI64(ip net.IP, mac net.HardwareAddr) bool {
	return len(ip) == net.IPv6len && len(mac) == 6 &&
		bytes.Equal(ip[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// readyTime is how long a NIC that was set up may take to have a carrier.
const readyTime = 5 * time.Second

// waitUntilReady waits until IPv6 takes a link that is up for ready, which it then gives
// the link's MTU (IF_READY in addrconf_notify). Without IPv6 on it there is nothing to
// wait for.
func waitUntilReady(name string) {
	for end := time.Now().Add(readyTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
			return
		}
		if flags, known := inet6Flags(link.Attrs().Index); !known || flags&ifReady != 0 {
			return
		}
	}
}

// ifReady is IF_READY of linux/if.h's inet6_dev flags, as IFLA_INET6_FLAGS has them.
const ifReady = 0x80000000

// inet6Flags returns what IPv6 notes of a link.
func inet6Flags(index int) (flags uint32, known bool) {
	const flagsAttribute = 1 // IFLA_INET6_FLAGS
	err := eachInet6(func(of int, found map[uint16][]byte) {
		if value := found[flagsAttribute]; of == index && len(value) == 4 {
			flags, known = nl.NativeEndian().Uint32(value), true
		}
	})
	return flags, known && err == nil
}
