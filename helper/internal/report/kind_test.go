package report

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestKind: what decides the kind of a way, and how it is said.
func TestKind(t *testing.T) {
	found := map[Kind]bool{}
	for _, c := range []struct {
		facts Facts
		kind  Kind
		words string
	}{
		{Facts{State: Up}, Direct, "direct"},
		{Facts{State: Up, IPv6: true}, DirectIPv6, "direct (IPv6)"},
		{Facts{State: Up, Local: true}, LAN, "direct (LAN)"},
		{Facts{State: Up, Local: true, IPv6: true}, LANIPv6, "direct (LAN, IPv6)"},
		{Facts{State: Up, Local: true, Unreached: true}, LAN, "direct (LAN)"},
		{Facts{State: Up, Unreached: true}, Punched, "direct (punched)"},
		{Facts{State: Up, Unreached: true, IPv6: true}, Punched, "direct (punched)"},
		{Facts{State: Up, Via: 3, IPv6: true}, Relayed, "via carol"},
		{Facts{State: Up, Via: 3, Unreached: true}, Relayed, "via carol"},
		{Facts{State: Up, Via: 3, Carried: true, Unreached: true}, Carried, "via carol (carried)"},
		{Facts{State: Down, Via: 3, Carried: true}, "", "via carol"},
		{Facts{State: Unknown, Unreached: true}, "", "direct"},
	} {
		w := Way{State: c.facts.State, Via: c.facts.Via, Kind: c.facts.Kind()}
		if w.Kind != c.kind || w.Contradictory() {
			t.Errorf("%+v: found %q, a contradiction: %v; wanted %q", c.facts, w.Kind, w.Contradictory(), c.kind)
		}
		if words := w.words("carol"); words != c.words || w.Kind != "" && words != w.Kind.Words("carol") {
			t.Errorf("%+v: found %q and %q, wanted %q", c.facts, words, w.Kind.Words("carol"), c.words)
		}
		found[w.Kind] = true
	}
	for _, k := range Kinds {
		if !found[k] {
			t.Errorf("%s was not tried", k)
		}
	}
}

// TestKindThatIsNotKnown: a later version's kind is said as what is known besides.
func TestKindThatIsNotKnown(t *testing.T) {
	for want, w := range map[string]Way{"direct": {State: Up, Kind: "tunneled"}, "via carol": {State: Up, Via: 3, Kind: "tunneled"}} {
		m := well("alice", "bob", "carol")
		w.To = 2
		*m.to(1, 2) = w
		if err := m.Validate(); err != nil {
			t.Error(err)
		}
		if found := w.words("carol"); found != want {
			t.Errorf("found %q, wanted %q", found, want)
		}
	}
}

// TestCarriedIsSaid: where there is room for a matrix it says so, and so does a list.
func TestCarriedIsSaid(t *testing.T) {
	for width, want := range map[int]string{200: "carol (carried) 7.5 MTU", 40: "loses packets of full size, via carol (carried)"} {
		m := well("alice", "bob", "carol")
		w := m.to(1, 2)
		w.Via, w.RTT, w.Kind, w.LargeLost = 3, 7.5, Carried, true
		var b bytes.Buffer
		if err := Render(&b, m, Options{Width: width}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) {
			t.Errorf("found\n%s\nwanted %q in it", &b, want)
		}
	}
}

// TestSchemaOfKinds: it has all kinds, and no others.
func TestSchemaOfKinds(t *testing.T) {
	data, err := os.ReadFile("../../../docs/mesh.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs struct {
			Way struct {
				Properties struct {
					Kind struct {
						Enum []Kind `json:"enum"`
					} `json:"kind"`
				} `json:"properties"`
			} `json:"way"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	if found := schema.Defs.Way.Properties.Kind.Enum; !slices.Equal(found, Kinds) {
		t.Errorf("found %q, wanted %q", found, Kinds)
	}
}
