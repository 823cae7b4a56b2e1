package report

import (
	"fmt"
	"net/netip"
	"sort"
	"time"
)

// What is told of a network at most; how many more there are is told as well.
const (
	MaxNames   = 5000
	MaxClients = 1000
)

// Names are private names and their addresses, in the order of the names.
type Names struct {
	List []Name `json:"list"`
	// More are not in the list.
	More int `json:"more,omitempty"`

	all []Name // nil: not known, as when it was read
}

// Name is one of them.
type Name struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	// Of is what it is of: "host", "extra" (extra_hosts.yml) or "client".
	Of string `json:"of"`
}

// OfClient is what Name.Of says of the names of clients.
const OfClient = "client"

// NewNames returns the first MaxNames of names, which are in their order, and are not changed
// any more.
func NewNames(all []Name) *Names {
	told := min(len(all), MaxNames)
	return &Names{List: append([]Name{}, all[:told]...), More: len(all) - told, all: all}
}

// without returns those that are not of one kind: as many as are told, though others of it
// come before, and without a word of how many these are.
func (n *Names) without(kind string) *Names {
	all := n.all
	if all == nil {
		all = n.List
	}
	var others []Name
	for _, name := range all {
		if name.Of != kind {
			others = append(others, name)
		}
	}
	return NewNames(others)
}

// Clients are the administrators' WireGuard clients.
type Clients struct {
	// List has those that were heard last first, then by their addresses those that were not.
	List []Client `json:"list"`
	// More are not in the list.
	More int `json:"more,omitempty"`
	// UnknownAt are the hosts of which it is not known whom they heard, by their IDs: they do
	// not answer, or not all of it, or are of a version that does not tell.
	UnknownAt []uint16 `json:"unknown_at"`
}

// Client is one of them.
type Client struct {
	Name    string     `json:"name,omitempty"` // "": it has none
	Address netip.Addr `json:"address"`
	// HostID is the host that shook hands with it last, and LastHandshake when, by the asking
	// host's clock and to some two seconds; 0 and nil: none of those that tell did, since their
	// WireGuard was set up.
	HostID        uint16     `json:"host_id,omitempty"`
	LastHandshake *time.Time `json:"last_handshake"`
}

// NewClients puts clients into their order, and leaves out what is beyond MaxClients.
func NewClients(all []Client, unknownAt []uint16) *Clients {
	c := &Clients{List: append([]Client{}, all...), UnknownAt: append([]uint16{}, unknownAt...)}
	sort.Slice(c.List, func(i, k int) bool {
		a, b := c.List[i], c.List[k]
		switch {
		case a.LastHandshake == nil && b.LastHandshake == nil:
			return a.Address.Less(b.Address)
		case a.LastHandshake == nil || b.LastHandshake == nil:
			return b.LastHandshake == nil
		case a.LastHandshake.Equal(*b.LastHandshake):
			return a.Address.Less(b.Address)
		}
		return a.LastHandshake.After(*b.LastHandshake)
	})
	if c.More = len(c.List) - MaxClients; c.More > 0 {
		c.List = c.List[:MaxClients]
	}
	c.More = max(0, c.More)
	return c
}

// ForGuests returns what guests of the access network may know: all but the administrators'
// clients, where they are, and what they are called.
func (m *Mesh) ForGuests() *Mesh {
	told := *m
	told.Clients = nil
	if m.Names != nil {
		told.Names = m.Names.without(OfClient)
	}
	return &told
}

// validate refuses what would do more to a terminal than appear: the zone of an address is
// any text.
func (n *Names) validate() error {
	if n == nil {
		return nil
	}
	for _, name := range n.List {
		if !Printable(name.Name) || !Printable(name.Of) || !name.Address.Is4() {
			return fmt.Errorf("name: found %q of %q, wanted printable text and an IPv4 address", name.Name, name.Of)
		}
	}
	return nil
}

func (c *Clients) validate() error {
	if c == nil {
		return nil
	}
	for _, client := range c.List {
		if !Printable(client.Name) || !client.Address.Is4() {
			return fmt.Errorf("client: found %q, wanted printable text and an IPv4 address", client.Name)
		}
	}
	return nil
}
