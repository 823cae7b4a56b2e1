package mesh

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

// someHeard returns clients, of which the first was heard longest ago.
func someHeard(n int) (all []Heard) {
	for i := 0; i < n; i++ {
		all = append(all, Heard{uint16(0x8001 + i), time.Duration(n-i) * time.Second})
	}
	return all
}

// readClients puts the pages of a snapshot together, as who asks does.
func readClients(t *testing.T, s *Snapshot, exceptions bool) (ways, heard int, clients []Heard, pages int) {
	t.Helper()
	for q := (question{exceptions: exceptions, clients: true, nonce: 5}); ; {
		b := s.page(q)
		p, err := parsePage(b)
		if err != nil || len(b) > MaxPage || !p.tells || p.after != q.after || p.afterClient != q.afterClient {
			t.Fatalf("found %+v of %d bytes, %v", p, len(b), err)
		}
		if (p.head != nil) != (pages == 0) {
			t.Fatalf("page %d: found a head: %v", pages, p.head != nil)
		}
		if pages++; p.head != nil {
			heard = p.heard
		}
		ways, clients = ways+len(p.ways), append(clients, p.clients...)
		if !p.more {
			return ways, heard, clients, pages
		}
		if n := len(p.ways); n > 0 {
			q.after = p.ways[n-1].To
		}
		if n := len(p.clients); n > 0 {
			q.afterClient = p.clients[n-1].Number
		}
	}
}

// TestClientsInPages: clients follow the ways, in the room that is left; of too many those
// that were heard last, and the number of all.
func TestClientsInPages(t *testing.T) {
	for _, c := range []struct {
		ways, clients int
		exceptions    bool
		pages         int
	}{
		{2, 0, false, 1}, {2, 3, false, 1}, {2, 150, false, 1}, {99, 20, false, 2}, {99, 400, false, 4}, {127, MaxHeard, false, 5},
		{9, 300, true, 2}, // no exceptions
		{3000, 20, true, 6}, {2, 20_000, false, 3},
	} {
		all := someHeard(c.clients)
		ways, heard, clients, pages := readClients(t, NewSnapshot(someHost(), someWays(c.ways), all), c.exceptions)
		if c.exceptions {
			c.ways /= 10
		}
		if last := all[max(0, len(all)-MaxHeard):]; len(last) != len(clients) || len(last) > 0 && !reflect.DeepEqual(last, clients) {
			t.Errorf("%+v: found %d clients, wanted the last %d", c, len(clients), len(last))
		}
		if ways != c.ways || heard != c.clients || pages != c.pages {
			t.Errorf("%+v: found %d ways and %d clients heard in %d pages", c, ways, heard, pages)
		}
	}
}

// What the version before, which knows nothing of clients, asks and answers: of someHost with
// three of someWays.
const (
	questionBefore = "01010100000300000000000000000004"
	answerBefore   = "0102001400000003000000000000000500530000000000000123456789abcdef0000004d0003000000000000000000fa000000fa000000001d02000076312d322d676162636465662c20494420303132333435363738396162096f6e65207468696e6707616e6f7468657200020100000000000000ffff00000000000000000003010000000000000000000000007d00000001000401000000000000000001000000fa00000002"
)

// TestClientsAndTheVersionBefore: it gets byte for byte what its own version answers, whatever
// this host heard, but for how many clients that are; its answer is one without clients, and
// is known to be.
func TestClientsAndTheVersionBefore(t *testing.T) {
	before, err := hex.DecodeString(answerBefore)
	if err != nil {
		t.Fatal(err)
	}
	now := NewSnapshot(someHost(), someWays(3), someHeard(7)).page(question{nonce: 5})
	if now[headerSize+35] != 7 {
		t.Fatalf("found %x", now)
	}
	now[headerSize+35] = 0 // which it does not read
	if !bytes.Equal(now, before) {
		t.Errorf("found\n%x\nwanted\n%x", now, before)
	}
	p, err := parsePage(before)
	if err != nil || p.tells || len(p.clients) != 0 || len(p.ways) != 3 || p.head.Version != someHost().Version {
		t.Errorf("found %+v, %v", p, err)
	}
	asked, err := hex.DecodeString(questionBefore)
	if err != nil {
		t.Fatal(err)
	}
	if q, err := parseQuestion(asked); err != nil || q.clients || !q.exceptions || q.after != 3 || q.nonce != 4 {
		t.Errorf("found %+v, %v", q, err)
	}
}

// TestBadClients: what no agent says of clients is not taken, and a later version's are.
func TestBadClients(t *testing.T) {
	good := func() []byte {
		return NewSnapshot(someHost(), someWays(2), someHeard(3)).page(question{clients: true, nonce: 1})
	}
	at := len(good()) - 3*heardSize
	for what, change := range map[string]func([]byte) []byte{
		"too short":    func(b []byte) []byte { return b[:len(b)-1] },
		"out of order": func(b []byte) []byte { copy(b[at+heardSize:], b[at:at+heardSize]); return b },
		"the one before": func(b []byte) []byte {
			b[20], b[21] = 0xff, 0xff
			return b
		},
		"small ones": func(b []byte) []byte { b[22] = heardSize - 1; return b },
		"too many":   func(b []byte) []byte { b[18] = 0xff; return b },
	} {
		if p, err := parsePage(change(good())); err == nil {
			t.Errorf("%s: found %+v, wanted an error", what, p)
		}
	}
	b := good()
	later := append([]byte{}, b[:at]...)
	for rest := b[at:]; len(rest) > 0; rest = rest[heardSize:] {
		later = append(append(later, rest[:heardSize]...), 1, 2)
	}
	later[22] = heardSize + 2
	p, err := parsePage(append(later, "more"...))
	if err != nil || !reflect.DeepEqual(p.clients, someHeard(3)) {
		t.Errorf("of a later version: found %+v, %v", p, err)
	}
}

// TestRoundClients: of what all hosts heard the last counts, and it is known which hosts did
// not say: one is down, one of the version before, one heard more than it tells, and one is
// cut off after its first page.
func TestRoundClients(t *testing.T) {
	s := newSimulation(6, 3, 10*time.Millisecond)
	say := func(id uint16, heard ...Heard) { s.hosts[id].snapshot = NewSnapshot(someHost(), someWays(3), heard) }
	say(2, Heard{0x8001, time.Hour}, Heard{0x8002, time.Minute})
	say(3, Heard{0x8001, time.Minute}, Heard{0x8002, time.Hour}, Heard{0x8003, 0})
	s.hosts[4].silent = true
	say(5, Heard{0x8001, time.Second})
	s.hosts[5].before = true
	say(6, someHeard(MaxHeard+1)...)
	say(7, someHeard(500)...)
	s.hosts[7].first = true
	s.run(t, func(uint16) string { return report.Up })
	if found := s.unknownAt(); !reflect.DeepEqual(found, []uint16{4, 5, 6, 7}) {
		t.Errorf("found %v, wanted the four", found)
	}
	began := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	var clients []report.Client
	for i := byte(1); i <= 3; i++ {
		clients = append(clients, report.Client{Address: netip.AddrFrom4([4]byte{10, 30, 128, i})})
	}
	own := began.Add(-time.Second)
	clients[1].HostID, clients[1].LastHandshake = 1, &own
	clients = append(clients, report.Client{Address: netip.MustParseAddr("10.30.255.9")})
	s.clients = entries{}
	for _, id := range []uint16{2, 3} {
		s.clients.take(id, s.hosts[id].snapshot.clients, 20*time.Millisecond)
	}
	if last := s.clients[0x8002]; last.host != 2 {
		t.Errorf("found %+v, wanted host 2, which heard it later", last)
	}
	for i, c := range s.clients.join(clients, began) {
		want := []report.Client{
			{HostID: 3, LastHandshake: ptr(began.Add(-time.Minute))}, {HostID: 1, LastHandshake: &own}, {HostID: 3, LastHandshake: ptr(began)}, {},
		}[i]
		if want.Address = clients[i].Address; !reflect.DeepEqual(c, want) {
			t.Errorf("found %+v, %v, wanted %+v, %v", c, c.LastHandshake, want, want.LastHandshake)
		}
	}
}

func ptr(t time.Time) *time.Time { return &t }

// TestRoundOfManyClients: 3,000 hosts that each heard more clients than they tell of take
// some messages more, and all answer in the time that they always have. Some of them tell
// all of their pages, and of the others it is said.
func TestRoundOfManyClients(t *testing.T) {
	s := newSimulation(2999, 0, 80*time.Millisecond)
	snapshot := NewSnapshot(someHost(), nil, someHeard(MaxHeard))
	for _, h := range s.hosts {
		h.snapshot = snapshot
	}
	took := s.run(t, func(uint16) string { return report.Up })
	if n := s.count(); took > Deadline/2 || n[report.Answered] != 2999 {
		t.Errorf("after %v: found %v, wanted that all answered within %v", took, n, Deadline/2)
	}
	if most := 2999 + maxClientPages; s.sent > most || s.sent < most-10 || len(s.clients) != MaxHeard {
		t.Errorf("found %d messages and %d clients, wanted %d at most", s.sent, len(s.clients), most)
	}
	if n := len(s.unknownAt()); n > 2999-maxClientPages/3 || n < 2999-maxClientPages {
		t.Errorf("found %d hosts that did not tell all", n)
	}
	t.Logf("%v, %d messages", took, s.sent)
}

// TestClientsOfServices: what a host is told has the names of its document, and its clients
// with where they were heard last, by the real services.
func TestClientsOfServices(t *testing.T) {
	a := newAgents(t, 3, nil)
	now := time.Now().UTC().Truncate(time.Second)
	client := netip.MustParseAddr("10.30.128.1")
	for id := uint16(1); id <= 3; id++ {
		id, service := id, a.services[id]
		view := service.View
		service.mu.Lock() // it serves already
		service.View = func() View {
			v := view()
			v.Names = []report.Name{{Name: "alice.example.com", Address: netip.MustParseAddr("10.31.128.1"), Of: "host"}}
			v.Clients = []report.Client{{Name: "laptop.example.com", Address: client}, {Address: client.Next()}}
			if id != 2 {
				v.Clients[0].HostID, v.Clients[0].LastHandshake = id, ptr(now.Add(-time.Hour/time.Duration(id)))
			}
			return v
		}
		service.mu.Unlock()
	}
	m, err := a.services[1].Ask(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if m.Names == nil || len(m.Names.List) != 1 || m.Clients == nil || len(m.Clients.List) != 2 || len(m.Clients.UnknownAt) != 0 {
		t.Fatalf("found %+v and %+v", m.Names, m.Clients)
	}
	c, since := m.Clients.List[0], now.Add(-20*time.Minute)
	if c.Name != "laptop.example.com" || c.HostID != 3 || c.LastHandshake.Before(since.Add(-time.Second)) || c.LastHandshake.After(m.Asked.Add(-19*time.Minute)) {
		t.Errorf("found %+v at %v, wanted it heard by host 3 at %v", c, c.LastHandshake, since)
	}
	if m.Clients.List[1].LastHandshake != nil || m.Asked.Before(now) {
		t.Errorf("found %+v, asked at %v", m.Clients.List[1], m.Asked)
	}
}
