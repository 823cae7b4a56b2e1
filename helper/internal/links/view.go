package links

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// view is everything of a host that a survey judges.
type view struct {
	links     []netlink.Link
	names     map[int]string
	addresses []foundAddress // of both families, in the kernel's order
	routes    []foundRoute   // of all tables, as addresses
	rules     []foundRule
	// neighbors are permanent entries, nextHops the objects of ip-nexthop(8), by
	// interface.
	neighbors map[int][]netip.Addr
	nextHops  map[int][]uint32
	qdiscs    []netlink.Qdisc
	// filters are hardware addresses that somebody gave interfaces besides their
	// own, tokens tells which have an IPv6 token.
	filters map[int][]string
	tokens  map[int]bool
	// occupied tells that there is a namespace with our name.
	occupied bool
}

// foundRule is what a survey asks of a rule.
type foundRule struct {
	priority, table int
	from, to        netip.Prefix
	in, out         string // interfaces
}

// look takes the view in the calling thread's namespace.
func look(h *netlink.Handle) (v *view, err error) {
	v = &view{neighbors: map[int][]netip.Addr{}, nextHops: map[int][]uint32{},
		filters: map[int][]string{}, tokens: map[int]bool{}, occupied: netns.Exists(spec.Namespace)}
	if v.links, err = h.LinkList(); err != nil {
		return nil, err
	}
	v.names = namesOf(v.links)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := v.lookAt(h, family); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(v.lookForNextHops(), v.lookForFilters(h), v.lookForTokens()); err != nil {
		return nil, err
	}
	for _, l := range v.links {
		some, err := h.QdiscList(l)
		if err != nil {
			return nil, fmt.Errorf("queueing of %s: %w", l.Attrs().Name, err)
		}
		v.qdiscs = append(v.qdiscs, some...)
	}
	return v, nil
}

func (v *view) lookAt(h *netlink.Handle, family int) error {
	addresses, err := dumpAddresses(family, v.names)
	if err != nil {
		return err
	}
	v.addresses = append(v.addresses, addresses...)
	routes, err := dumpRoutes(family, v.names)
	if err != nil {
		return err
	}
	v.routes = append(v.routes, routes...)
	rules, err := dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}}, v.names, readRule)
	if err != nil {
		return err
	}
	v.rules = append(v.rules, rules...)
	neighbors, err := h.NeighList(0, family)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	proxies, err := h.NeighProxyList(0, family)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	for _, n := range append(neighbors, proxies...) {
		ip, ok := netip.AddrFromSlice(n.IP)
		if ok && (n.State&netlink.NUD_PERMANENT != 0 || n.Flags&netlink.NTF_PROXY != 0) && !ip.IsMulticast() {
			v.neighbors[n.LinkIndex] = append(v.neighbors[n.LinkIndex], ip.Unmap())
		}
	}
	return nil
}

// readRule reads an RTM_NEWRULE message (<linux/fib_rules.h>).
func readRule(m []byte, _ map[int]string) (foundRule, error) {
	if len(m) < unix.SizeofRtMsg {
		return foundRule{}, fmt.Errorf("a rule in %d bytes", len(m))
	}
	all := attributes(m[unix.SizeofRtMsg:])
	r := foundRule{priority: int(numberIn(all[nl.FRA_PRIORITY])), table: int(m[4]), in: text(all[nl.FRA_IIFNAME]), out: text(all[nl.FRA_OIFNAME])}
	if t, ok := all[nl.FRA_TABLE]; ok {
		r.table = int(numberIn(t))
	}
	if to, ok := netip.AddrFromSlice(all[nl.FRA_DST]); ok {
		r.to = netip.PrefixFrom(to, int(m[1]))
	}
	if from, ok := netip.AddrFromSlice(all[nl.FRA_SRC]); ok {
		r.from = netip.PrefixFrom(from, int(m[2]))
	}
	return r, nil
}

// lookForNextHops reads the objects of ip-nexthop(8) (<linux/nexthop.h>).
func (v *view) lookForNextHops() error {
	const get, is, headerSize, id, oif = 106, 104, 8, 1, 5
	_, err := dump(get, is, rawHeader(make([]byte, headerSize)), nil, func(m []byte, _ map[int]string) (struct{}, error) {
		if len(m) >= headerSize {
			all := attributes(m[headerSize:])
			if at := all[oif]; len(at) == 4 {
				index := int(binary.NativeEndian.Uint32(at))
				v.nextHops[index] = append(v.nextHops[index], numberIn(all[id]))
			}
		}
		return struct{}{}, nil
	})
	return err
}

// rawHeader is a message's header that the library does not know.
type rawHeader []byte

func (h rawHeader) Len() int          { return len(h) }
func (h rawHeader) Serialize() []byte { return h }

// nicSettings returns the settings of an interface that differ from what a new
// one gets. Some say what the kernel does, not what somebody set.
func nicSettings(nic *netlink.LinkAttrs) (all []spec.NICSetting, err error) {
	name, mtu := nic.Name, nic.MTU
	for _, group := range spec.NICSettingGroups {
		dir := settingPath("net/" + group + "/" + name)
		files, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if f.Name() == "base_reachable_time" || f.Name() == "retrans_time" {
				continue // the kernel warns of whoever reads them: the same as those in ms
			}
			info, err := f.Info()
			if err != nil || info.Mode().Perm()&0o600 != 0o600 {
				continue
			}
			value, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				continue // stable_secret cannot be read before it is set
			}
			found, normal := strings.TrimSpace(string(value)), ""
			for _, other := range []string{"lo", "default"} { // a container has no neigh/default
				if value, err := os.ReadFile(settingPath("net/" + group + "/" + other + "/" + f.Name())); err == nil {
					normal = strings.TrimSpace(string(value))
				}
			}
			// One without ARP gets no duplicate address detection when it is made or moves
			// (ipv6_add_dev), and keeps what it had when it loses ARP.
			resets := f.Name() == "accept_dad" && nic.RawFlags&unix.IFF_NOARP != 0
			if (found != normal || resets) && !(f.Name() == "mtu" && found == fmt.Sprint(mtu)) {
				all = append(all, spec.NICSetting{Group: group, Name: f.Name(), Value: found})
			}
		}
	}
	return all, nil
}
