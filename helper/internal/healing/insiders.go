package healing

import (
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/report"
	"mobula/helper/internal/wireguard"
)

// insiders are what of the document others than agents ask for: its names, and clients with when
// this host shook hands with them last. What was heard is the kernel's to remember.
type insiders struct {
	names   []report.Name
	clients []report.Client
	byKey   map[network.Key]int // of clients
}

// insidersOf returns those of a document; of which nothing was heard yet.
func insidersOf(d *network.Document) insiders {
	in := insiders{byKey: map[network.Key]int{}}
	for _, n := range d.PrivateNames() {
		in.names = append(in.names, report.Name{Name: n.Name, Address: n.Address, Of: n.Kind})
	}
	for i, c := range d.Clients {
		in.clients = append(in.clients, report.Client{Name: c.Name, Address: c.Address})
		in.byKey[c.PublicKey] = i
	}
	return in
}

// toCome is how far ahead a handshake may seem to be, for what the kernel rounds.
const toCome = 2 * time.Second

// look takes over what the kernel of host self says of its peers. When a handshake was that lies
// ahead, as the clock was set back since, nobody knows: it would be the latest for that long.
func (in *insiders) look(self uint16, states []wireguard.PeerState) {
	latest := time.Now().Add(toCome)
	for _, s := range states {
		i, ok := in.byKey[s.PublicKey]
		if !ok {
			continue
		}
		c := &in.clients[i]
		if c.HostID, c.LastHandshake = 0, nil; !s.LastHandshake.IsZero() && s.LastHandshake.Before(latest) {
			at := s.LastHandshake.UTC().Truncate(time.Second)
			c.HostID, c.LastHandshake = self, &at
		}
	}
}

// list returns the clients as they are now.
func (in *insiders) list() []report.Client { return append([]report.Client{}, in.clients...) }
