package system

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Near names whom the host speaks to, see near. Mobula is not on it.
func Near(ranges network.Ranges, self network.Host, facts *spec.Facts) error {
	return near("/proc", ranges, self, facts)
}

// near names whom the host speaks to now, by a route to more than the two networks, and
// would no longer reach: the operator's own connection may be among them.
func near(proc string, ranges network.Ranges, self network.Host, facts *spec.Facts) error {
	var problems []error
	problem := func(found string, ours network.Named) {
		problems = append(problems, fmt.Errorf("found %s, %s", found, ours.Wanted()))
	}
	for _, a := range facts.Resolvers {
		// Where the NIC moves, others may be named in their place.
		if ours, inside := ranges.In(a); inside && (facts.IsShared() || len(self.UpstreamDNS) == 0) {
			problem("the resolver "+a.String(), ours)
		}
	}
	peers, err := connected(proc)
	if err != nil {
		return err
	}
	seen := map[netip.Addr]bool{}
	for _, a := range peers {
		if ours, inside := ranges.In(a); inside && !seen[a] {
			seen[a] = true
			problem("a TCP connection with "+a.String(), ours)
		}
	}
	return errors.Join(problems...)
}

// connected returns the other ends of the TCP connections that stand (TCP_ESTABLISHED,
// include/net/tcp_states.h).
func connected(proc string) (all []netip.Addr, err error) {
	for _, name := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(proc, "net", name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(data), "\n") {
			if f := strings.Fields(line); len(f) >= 10 && f[3] == "01" {
				if at, ok := parseEnd(f[2]); ok {
					all = append(all, at.Addr())
				}
			}
		}
	}
	return all, nil
}
