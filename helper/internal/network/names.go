package network

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
)

// NameAddress is one A record.
type NameAddress struct {
	Name    string
	Address netip.Addr
	// Kind is what the name is of: one of the constants.
	Kind string
}

// What private names are of.
const (
	HostName   = "host"   // a member
	ExtraName  = "extra"  // whatever else the operator named, in extra_hosts.yml
	ClientName = "client" // an administrator's client
)

// PrivateNames returns every private name in lower case with its address, in
// the order of the names.
func (d *Document) PrivateNames() []NameAddress {
	var all []NameAddress
	for _, h := range d.Hosts {
		all = append(all, NameAddress{strings.ToLower(h.Hostname), d.NamedAddress(h.ID), HostName})
	}
	for _, n := range d.Names {
		for _, name := range n.Names {
			all = append(all, NameAddress{strings.ToLower(name), n.Address, ExtraName})
		}
	}
	for _, c := range d.Clients {
		if c.Name != "" {
			all = append(all, NameAddress{strings.ToLower(c.Name), c.Address, ClientName})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// NameChanges says which private names come (+), go (-) or move (~) from one
// document to another, one a line, in the order of the names.
func NameChanges(from, to *Document) []string {
	before, after := from.PrivateNames(), to.PrivateNames()
	var changes []string
	for len(before)+len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Name < after[0].Name:
			changes = append(changes, fmt.Sprintf("- name %s: %s", before[0].Name, before[0].Address))
			before = before[1:]
		case len(before) == 0 || after[0].Name < before[0].Name:
			changes = append(changes, fmt.Sprintf("+ name %s: %s", after[0].Name, after[0].Address))
			after = after[1:]
		default:
			if before[0].Address != after[0].Address {
				changes = append(changes, fmt.Sprintf("~ name %s: %s → %s", after[0].Name, before[0].Address, after[0].Address))
			}
			before, after = before[1:], after[1:]
		}
	}
	return changes
}
