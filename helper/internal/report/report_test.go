package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

const generation = "0123456789abcdef"

// well returns a network in which all is well.
func well(names ...string) *Mesh {
	m := &Mesh{Format: Format, AskedBy: 1, Generation: generation, Asked: time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC), TookSeconds: 0.123, Ways: AllWays}
	for i, name := range names {
		h := Host{HostID: uint16(i + 1), Name: name, Answer: Answered, Generation: generation, Version: "v1-3-gabcdef", SinceSeconds: 3600}
		for k := range names {
			if k != i {
				h.Ways = append(h.Ways, Way{To: uint16(k + 1), State: Up, RTT: 1.25 * float64(i+k), SinceSeconds: 300, HandshakeSeconds: 61})
			}
		}
		m.Hosts = append(m.Hosts, h)
	}
	return m
}

// host returns the host of an ID.
func (m *Mesh) host(id uint16) *Host { return &m.Hosts[id-1] }

// to returns the way of a host to another one.
func (m *Mesh) to(from, to uint16) *Way {
	h := m.host(from)
	for i := range h.Ways {
		if h.Ways[i].To == to {
			return &h.Ways[i]
		}
	}
	panic("no such way")
}

// fails has a host answer nothing, and be down for these others.
func (m *Mesh) fails(id uint16, answer string, by ...uint16) {
	h := m.host(id)
	*h = Host{HostID: id, Name: h.Name, Answer: answer}
	for _, from := range by {
		*m.to(from, id) = Way{To: id, State: Down, Loss: 1, LossMinutes: 0.4, SinceSeconds: 95, HandshakeSeconds: 200}
	}
}

// networks are what the golden files show.
var networks = map[string]func() *Mesh{
	"well": func() *Mesh { return well("alice.example.com", "bob.example.com", "carol.example.com") },
	"broken": func() *Mesh {
		m := well("alice.example.com", "bob.example.com", "carol.example.com", "dave.example.com", "erin.example.com")
		m.fails(5, Unreachable, 1, 2, 3, 4)
		m.to(1, 2).Via, m.to(1, 2).RTT, m.to(1, 2).Kind = 3, 7.5, Carried
		m.to(2, 1).Via, m.to(2, 1).Kind = 3, Relayed
		m.to(3, 4).Kind, m.to(4, 3).Kind = Punched, LANIPv6
		m.to(3, 4).LossMinutes, m.to(3, 4).Loss = 0.08, 0.07
		m.to(4, 3).LargeLost = true
		m.host(4).Generation, m.host(4).Version = "fedcba9876543210", "v1-2-g123456"
		m.host(3).Problems = []string{"generation fedcba9876543210 waits for confirmation"}
		m.Names, m.Clients = someNames(3), someClients(m, 4, 4, 5)
		return m
	},
	"one-sees-less": func() *Mesh {
		m := well("alice.example.com", "bob.example.com", "carol.example.com", "node.example.com", "node.example.org")
		m.fails(2, Unreachable, 1)
		m.fails(4, Silent)
		m.host(4).OtherGeneration = true
		m.fails(5, NotInTime)
		return m
	},
	"alone": func() *Mesh {
		m := well("alice.example.com", "bob.example.com", "carol.example.com")
		m.fails(2, Unreachable, 1)
		m.fails(3, Unreachable, 1)
		return m
	},
	"many": many,
}

// someNames has names of hosts, of clients, and of what else is there.
func someNames(n int) *Names {
	var all []Name
	for i := 0; i < n; i++ {
		all = append(all, Name{fmt.Sprintf("name%d.example.com", i), netip.AddrFrom4([4]byte{10, 31, byte(i >> 8), byte(i)}), []string{"host", "extra", "client"}[i%3]})
	}
	return NewNames(all)
}

// someClients has every second one been heard by host 1 or 2, the later the higher its number.
func someClients(m *Mesh, n int, unknown ...uint16) *Clients {
	var all []Client
	for i := 0; i < n; i++ {
		c := Client{Address: netip.AddrFrom4([4]byte{10, 30, 128 + byte(i>>8), byte(i + 1)})}
		if i > 0 {
			c.Name = fmt.Sprintf("client%d.example.com", i)
		}
		if i%2 == 1 {
			at := m.Asked.Add(time.Duration(i-n) * time.Minute)
			c.HostID, c.LastHandshake = uint16(1+i/2%2), &at
		}
		all = append(all, c)
	}
	return NewClients(all, unknown)
}

// many is a large network, of which exceptions are told: host 7 is reached by relays alone,
// and host 9 is down.
func many() *Mesh {
	var names []string
	for i := 1; i <= 150; i++ {
		names = append(names, fmt.Sprintf("host%d.example.com", i))
	}
	m := well(names...)
	var others []uint16
	for id := uint16(1); id <= 150; id++ {
		if id != 9 {
			others = append(others, id)
		}
		if id != 7 && id != 9 {
			m.to(id, 7).Via, m.to(7, id).Via = 1+id%5, 1+id%5
		}
	}
	m.fails(9, Unreachable, others...)
	m.Ways = Exceptions
	for i := range m.Hosts {
		h := &m.Hosts[i]
		h.Count(h.Ways)
		var told []Way
		for _, w := range h.Ways {
			if w.Exception() {
				told = append(told, w)
			}
		}
		h.Ways = told
	}
	return m
}

func judged(name string) *Mesh {
	m := networks[name]()
	if m.Ways == AllWays {
		for i := range m.Hosts {
			m.Hosts[i].Count(m.Hosts[i].Ways)
		}
	}
	m.Judge()
	return m
}

// TestGolden: what is printed of networks that are well and of ones that are not, on
// terminals of several widths.
func TestGolden(t *testing.T) {
	for name := range networks {
		for kind, o := range map[string]Options{"wide": {Width: 120}, "narrow": {Width: 50}, "color": {Width: 120, Color: true}} {
			if kind != "wide" && name != "broken" {
				continue
			}
			var b bytes.Buffer
			if err := Render(&b, judged(name), o); err != nil {
				t.Fatal(err)
			}
			compare(t, name+"-"+kind+".txt", b.Bytes())
			if colored := strings.Contains(b.String(), "\x1b"); colored != o.Color {
				t.Errorf("%s, %s: found colors: %v", name, kind, colored)
			}
		}
	}
	data, err := json.MarshalIndent(judged("broken"), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "broken.json", append(data, '\n'))
}

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: found\n%s\nwanted\n%s", path, got, want)
	}
}

// TestProblems: each thing that is wrong is told once, of the right hosts.
func TestProblems(t *testing.T) {
	said := func(m *Mesh, of ...uint16) string {
		var texts []string
		for _, p := range m.Problems {
			if reflect.DeepEqual(p.Hosts, of) {
				texts = append(texts, p.Severity+": "+p.Text)
			}
		}
		return strings.Join(texts, "\n")
	}
	for _, c := range []struct {
		network string
		hosts   []uint16
		want    string
	}{
		{"broken", []uint16{5}, "bad: erin.example.com is unreachable: none of the 4 hosts that answer reaches it"},
		{"broken", []uint16{1, 2}, "poor: alice.example.com and bob.example.com reach each other by a third host"},
		{"broken", []uint16{3, 4}, "bad: carol.example.com and dave.example.com lose packets of full size"},
		{"broken", []uint16{3}, "note: carol.example.com: generation fedcba9876543210 waits for confirmation"},
		{"one-sees-less", []uint16{1, 2}, "bad: alice.example.com does not reach bob.example.com, but 1 other host does"},
		{"one-sees-less", []uint16{4}, "note: node.example.com does not answer this question: an older version?"},
		{"one-sees-less", []uint16{5}, "note: node.example.org did not answer before time was over"},
		{"alone", []uint16{1}, "bad: alice.example.com reaches none of the others"},
		{"many", []uint16{9}, "bad: host9.example.com is unreachable: none of the 149 hosts that answer reaches it"},
		{"many", []uint16{7}, "poor: host7.example.com is reached by way of third hosts by 148 others"},
	} {
		if got := said(judged(c.network), c.hosts...); !strings.Contains(got, c.want) {
			t.Errorf("%s: of %v found %q, wanted %q", c.network, c.hosts, got, c.want)
		}
	}
	if m := judged("many"); len(m.Problems) != 2 {
		t.Errorf("found %d problems, wanted one for each of the two hosts: %+v", len(m.Problems), m.Problems)
	}
	if m := judged("well"); len(m.Problems) != 0 {
		t.Errorf("all is well: found %+v", m.Problems)
	}
}

// TestHostileText: nothing that another host says does more to a terminal than appear.
func TestHostileText(t *testing.T) {
	for what, change := range map[string]func(*Mesh){
		"version":    func(m *Mesh) { m.host(2).Version = "\x1b[2J" },
		"generation": func(m *Mesh) { m.host(2).Generation = "a\nb" },
		"problem":    func(m *Mesh) { m.host(2).Problems = []string{"\a"} },
		"answer":     func(m *Mesh) { m.host(2).Answer = "maybe" },
		"loss":       func(m *Mesh) { m.to(2, 1).Loss = 7 },
		"state":      func(m *Mesh) { m.to(2, 1).State = "\x1b" },
		"a way":      func(m *Mesh) { m.to(2, 1).Kind = "\x1b[2J" },
		"no relay":   func(m *Mesh) { m.to(2, 1).Kind = Carried },
		"no packets": func(m *Mesh) { m.to(2, 1).State, m.to(2, 1).Kind = Down, Direct },
		"ways":       func(m *Mesh) { m.Ways = "" },
		"a name":     func(m *Mesh) { m.Names.List[0].Name = "\x1b[2J" },
		"a kind":     func(m *Mesh) { m.Names.List[0].Of = "\a" },
		"a zone":     func(m *Mesh) { m.Names.List[0].Address = netip.MustParseAddr("fe80::1%\x1b[2J") },
		"a client":   func(m *Mesh) { m.Clients.List[0].Name = "\n" },
		"its zone":   func(m *Mesh) { m.Clients.List[0].Address = netip.MustParseAddr("fe80::1%\x1b[2J") },
	} {
		m := judged("well")
		m.Names, m.Clients = someNames(2), someClients(m, 2)
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := m.Validate(); err == nil {
			t.Errorf("%s: found no error", what)
		}
	}
}

// TestSchema: the schema of docs/ has all fields, and no others.
func TestSchema(t *testing.T) {
	data, err := os.ReadFile("../../../docs/mesh.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
	}
	var schema struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value any
		found object
	}{
		"mesh": {Mesh{}, schema.object}, "host": {Host{}, schema.Defs["host"]}, "way": {Way{}, schema.Defs["way"]},
		"problem": {Problem{}, schema.Defs["problem"]}, "group": {Group{}, schema.Defs["group"]},
		"names": {Names{}, schema.Defs["names"]}, "name": {Name{}, schema.Defs["name"]}, "clients": {Clients{}, schema.Defs["clients"]}, "client": {Client{}, schema.Defs["client"]},
	} {
		required := map[string]bool{}
		for _, r := range c.found.Required {
			required[r] = true
		}
		fields := 0 // those that JSON has
		for _, f := range reflect.VisibleFields(reflect.TypeOf(c.value)) {
			if !f.IsExported() {
				continue
			}
			fields++
			field, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			if _, ok := c.found.Properties[field]; !ok {
				t.Errorf("%s: %s is not in the schema", name, field)
			}
			if required[field] == (rest == "omitempty") {
				t.Errorf("%s: %s: found that it is required: %v, and is left out when it is empty: %q", name, field, required[field], rest)
			}
		}
		if len(c.found.Properties) != fields {
			t.Errorf("%s: found %d properties, wanted %d", name, len(c.found.Properties), fields)
		}
	}
}
