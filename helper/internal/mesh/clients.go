package mesh

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"sort"
	"time"

	"mobula/helper/internal/report"
)

// Heard is an administrator's client with which a host shook hands. How long ago is told, not
// when: clocks differ.
type Heard struct {
	// Number are the last two bytes of its address, which tell clients of a network apart.
	Number uint16
	// Ago is told in whole seconds.
	Ago time.Duration
}

const (
	// heardSize is that of a client in an answer: 0 its number, 2 seconds since the last
	// handshake.
	heardSize = 6
	// MaxHeard are the clients that a host tells of, those that it heard last: three pages.
	MaxHeard = 512
)

// numberOf returns the number of a client; its address is one of IPv4.
func numberOf(client netip.Addr) uint16 {
	b := client.As4()
	return binary.BigEndian.Uint16(b[2:])
}

// heard returns those of a host's clients that it heard.
func heard(clients []report.Client, now time.Time) (all []Heard) {
	for _, c := range clients {
		if c.LastHandshake != nil {
			all = append(all, Heard{numberOf(c.Address), max(0, now.Sub(*c.LastHandshake))})
		}
	}
	return all
}

// lastHeard returns the MaxHeard clients that were heard last, by their numbers.
func lastHeard(all []Heard) []Heard {
	all = append([]Heard{}, all...)
	if len(all) > MaxHeard {
		sort.Slice(all, func(i, k int) bool { return all[i].Ago < all[k].Ago })
		all = all[:MaxHeard]
	}
	sort.Slice(all, func(i, k int) bool { return all[i].Number < all[k].Number })
	return all
}

// appendClients adds to an answer the clients after the given one, if it is their turn, as
// many as there is room for.
func (s *Snapshot) appendClients(b []byte, after uint16, turn bool) []byte {
	b[2] |= flagClients
	binary.BigEndian.PutUint16(b[20:], after)
	b[22] = heardSize
	rest := s.clients[sort.Search(len(s.clients), func(i int) bool { return s.clients[i].Number > after }):]
	n := 0
	if turn {
		n = min(len(rest), (MaxPage-len(b))/heardSize)
	}
	if n < len(rest) {
		b[2] |= flagMore
	}
	binary.BigEndian.PutUint16(b[18:], uint16(n))
	for _, h := range rest[:n] {
		b = binary.BigEndian.AppendUint16(b, h.Number)
		b = binary.BigEndian.AppendUint32(b, uint32(min(h.Ago/time.Second, math.MaxUint32)))
	}
	return b
}

// first reports that the head is asked for.
func (q question) first() bool { return q.after == 0 && q.afterClient == 0 }

// readClients reads what an answer says of clients, which are at the beginning of rest.
func (p *page) readClients(b, rest []byte) error {
	if p.tells = b[2]&flagClients != 0; !p.tells {
		return nil
	}
	count, size := int(binary.BigEndian.Uint16(b[18:])), int(b[22])
	p.afterClient = binary.BigEndian.Uint16(b[20:])
	if size < heardSize || count*size > len(rest) {
		return errSize
	}
	last := p.afterClient
	for i := 0; i < count; i++ {
		at := rest[i*size:]
		h := Heard{binary.BigEndian.Uint16(at), time.Duration(binary.BigEndian.Uint32(at[2:])) * time.Second}
		if h.Number <= last {
			return fmt.Errorf("client %d after %d", h.Number, last)
		}
		last = h.Number
		p.clients = append(p.clients, h)
	}
	return nil
}

// entry is where and when a client was heard last, measured as a round does: from its
// beginning.
type entry struct {
	host uint16
	at   time.Duration
}

// entries are those of a round, by the clients' numbers.
type entries map[uint16]entry

// take takes what a host heard.
func (e entries) take(host uint16, all []Heard, now time.Duration) {
	for _, h := range all {
		if last, ok := e[h.Number]; !ok || now-h.Ago > last.at {
			e[h.Number] = entry{host, now - h.Ago}
		}
	}
}

// join returns clients with what others heard of them later than this host. began is when
// the round did.
func (e entries) join(clients []report.Client, began time.Time) []report.Client {
	all := append([]report.Client{}, clients...)
	for i := range all {
		last, ok := e[numberOf(all[i].Address)]
		if !ok {
			continue
		}
		at := began.Add(last.at).UTC().Truncate(time.Second)
		if all[i].LastHandshake == nil || at.After(*all[i].LastHandshake) {
			all[i].HostID, all[i].LastHandshake = last.host, &at
		}
	}
	return all
}
