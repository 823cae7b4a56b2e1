package report

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestManyInside: of thousands of names and clients so many are told, those that were heard
// last among them, and how many more there are.
func TestManyInside(t *testing.T) {
	m := judged("well")
	m.Names, m.Clients = someNames(MaxNames+7), someClients(m, 3*MaxClients)
	if len(m.Names.List) != MaxNames || m.Names.More != 7 || len(m.Clients.List) != MaxClients || m.Clients.More != 2*MaxClients {
		t.Errorf("found %d names and %d more, %d clients and %d more", len(m.Names.List), m.Names.More, len(m.Clients.List), m.Clients.More)
	}
	for i, c := range m.Clients.List {
		if want := m.Asked.Add(time.Duration(-1-2*i) * time.Minute); c.LastHandshake == nil || !c.LastHandshake.Equal(want) {
			t.Fatalf("at %d found %+v, wanted one that was heard at %v", i, c, want)
		}
	}
	var out strings.Builder
	if err := Render(&out, m, Options{Width: 120}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n2980 more; --json has those that were heard last", "\n5007 private names;"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("found %s, wanted %q", out.String(), want)
		}
	}
	if few := someClients(m, 4); few.More != 0 || few.List[1].LastHandshake == nil || few.List[2].LastHandshake != nil || few.List[3].Address.Less(few.List[2].Address) {
		t.Errorf("found %+v, wanted all, first those that were heard", few)
	}
}

// TestForGuests: who is on the access network is told nothing of clients, in no field, and
// the others are.
func TestForGuests(t *testing.T) {
	m := judged("well")
	m.Names, m.Clients = someNames(30), someClients(m, 30, 2)
	data, err := json.Marshal(m.ForGuests())
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{`"clients"`, "10.30.128.", "client1", "name2.example", `"client"`, "unknown_at", "last_handshake\""} {
		if strings.Contains(string(data), hidden) {
			t.Errorf("found %s in %s", hidden, data)
		}
	}
	if told := m.ForGuests(); len(told.Names.List) != 20 || len(told.Hosts) != 3 {
		t.Errorf("found %d names and %d hosts, wanted the others", len(told.Names.List), len(told.Hosts))
	}
	var many []Name
	for i := 0; i < MaxNames+5; i++ {
		many = append(many, Name{fmt.Sprintf("a%d.example.com", i), netip.AddrFrom4([4]byte{10, 30, 128 + byte(i>>8), byte(i)}), OfClient})
	}
	for i := 0; i < MaxNames+3; i++ {
		many = append(many, Name{fmt.Sprintf("b%d.example.com", i), netip.AddrFrom4([4]byte{10, 31, byte(i >> 8), byte(i)}), "extra"})
	}
	crowded := Mesh{Names: NewNames(many)}
	if told := crowded.ForGuests().Names; len(told.List) != MaxNames || told.List[0].Name != "b0.example.com" || told.More != 3 {
		t.Errorf("beside thousands of clients found %d names and %d more, wanted all others, and nothing that counts clients", len(told.List), told.More)
	}
	if len(m.Names.List) != 30 || m.Clients == nil {
		t.Error("the others are told less")
	}
	if none := judged("well").ForGuests(); none.Names != nil || none.Clients != nil {
		t.Errorf("found %+v", none)
	}
}

// TestAgesThatCannotBe: how long ago a client was heard is another host's word.
func TestAgesThatCannotBe(t *testing.T) {
	m := judged("well")
	for age, want := range map[time.Duration]string{(math.MaxUint32 + 5) * time.Second: "1193046h28m15s ago", -time.Hour: "0s ago"} {
		at := m.Asked.Add(-age)
		r := renderer{Mesh: m}
		if found := r.client(Client{HostID: 1, LastHandshake: &at})[2].text; found != want {
			t.Errorf("%v: found %q, wanted %q", age, found, want)
		}
	}
}
