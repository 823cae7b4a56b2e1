package plan

import "mobula/helper/internal/spec"

// lastIndexes are the numbers (ifindex) of Mobula's links that the host has addresses on.
// What lists a host's addresses, as getifaddrs(3) does and with it hostname -I, begins with
// the lowest number; software that takes the first one would take a NIC's that appears
// after Mobula's links for none. Kernels before 6.9 list by the number's last byte, which
// is a high one here, too (inet_dump_ifaddr).
var lastIndexes = map[string]int{spec.DirectHost: 1<<30 - 2, spec.AccessLink: 1<<30 - 1}

// last returns the links with those numbers.
func last(links []spec.Link) []spec.Link {
	for i, l := range links {
		if index, ours := lastIndexes[l.Name]; ours {
			links[i].Index = index
		}
	}
	return links
}
