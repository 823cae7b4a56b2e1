package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"mobula/helper/internal/agent"
	"mobula/helper/internal/network"
)

// TestStatusTellsWhatWasTooMuch: what the agent's budgets refused is told, and nothing
// if they refused nothing.
func TestStatusTellsWhatWasTooMuch(t *testing.T) {
	for _, c := range []struct {
		state      agent.State
		text, json []string
	}{
		{agent.State{Peers: []agent.PeerState{{HostID: 2, State: "up"}}}, nil, nil},
		{agent.State{Unverified: 5, Peers: []agent.PeerState{{HostID: 2, State: "up", Unanswered: 7, Unverified: 8}}},
			[]string{"bob: 7 of its probes were too many to be answered\n", "bob: 8 probes from its address were too many to be verified\n",
				"\n5 probes from unknown addresses were too many to be verified\n"},
			[]string{`"unanswered_probes":7`, `"unverified_messages":8`, `"unverified_messages":5`}},
	} {
		report := &statusReport{Hostname: "alice", HostID: 1, Peers: []peerReport{{Name: "bob", HostID: 2}, {Name: "client 10.30.128.1"}}}
		report.take(&c.state, &network.Document{})
		var out bytes.Buffer
		if err := (&call{stdout: &out}).printStatus(report); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.text {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%+v: found\n%swanted %q in it", c.state, &out, w)
			}
		}
		for _, w := range c.json {
			if !bytes.Contains(data, []byte(w)) {
				t.Errorf("%+v: found %s, wanted %s in it", c.state, data, w)
			}
		}
		if c.text == nil && (strings.Contains(out.String(), "too many") || bytes.Contains(data, []byte("unanswered")) || bytes.Contains(data, []byte("unverified"))) {
			t.Errorf("nothing was refused: found\n%s%s", &out, data)
		}
	}
}
