package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/healing"
	"mobula/helper/internal/network"
)

// TestStatusTellsWhatWasTooMuch: what the agent's budgets refused is told, and nothing
// if they refused nothing.
func TestStatusTellsWhatWasTooMuch(t *testing.T) {
	for _, c := range []struct {
		state      healing.State
		text, json []string
	}{
		{healing.State{Peers: []healing.PeerState{{HostID: 2, State: "up"}}}, nil, nil},
		{healing.State{Unverified: 5, Peers: []healing.PeerState{{HostID: 2, State: "up", Unanswered: 7, Unverified: 8}}},
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

// TestStatusTellsTheWay: in a network in common, directly or over whom, and the endpoint.
func TestStatusTellsTheWay(t *testing.T) {
	at := netip.MustParseAddrPort("10.9.0.2:51820")
	for _, c := range []struct {
		path healing.PeerState
		want string
	}{
		{healing.PeerState{State: "up", Local: true}, "direct (LAN)"},
		{healing.PeerState{State: "up"}, "direct"},
		{healing.PeerState{State: "up", OtherEndpoints: []healing.EndpointState{{Endpoint: netip.MustParseAddrPort("192.0.2.2:51820"), Works: true, RTT: 1.5, Loss: 0.1}, {Endpoint: netip.MustParseAddrPort("10.9.0.2:7"), Local: true}}}, "direct"},
		{healing.PeerState{State: "up", Endpoint: netip.MustParseAddrPort("[2001:db8::2]:51820")}, "direct (IPv6)"},
		{healing.PeerState{State: "up", Local: true, Endpoint: netip.MustParseAddrPort("[fd00::2]:51820")}, "direct (LAN, IPv6)"},
		{healing.PeerState{State: "up", Punched: true}, "direct (punched)"},
		{healing.PeerState{State: "up", Via: 3}, "via carol.example.com"},
		{healing.PeerState{State: "up", Via: 3, Carried: true}, "via carol.example.com (carried)"},
		{healing.PeerState{State: "up", Via: 9, Carried: true}, "via host 9 (carried)"},
		{healing.PeerState{State: "unknown", Punched: true}, "unknown"},
		{healing.PeerState{State: "down", Local: true}, "down"},
	} {
		report := &statusReport{Hostname: "alice", HostID: 1, Peers: []peerReport{{Name: "bob", HostID: 2, Endpoint: at}}}
		c.path.HostID = 2
		report.take(&healing.State{Peers: []healing.PeerState{c.path}}, &network.Document{Hosts: []network.Host{{ID: 3, Hostname: "carol.example.com"}}})
		var out bytes.Buffer
		if err := (&call{stdout: &out}).printStatus(report); err != nil {
			t.Fatal(err)
		}
		if also := strings.Contains(out.String(), "bob: also 192.0.2.2:51820: 1.5 ms, 10 % lost; 10.9.0.2:7 (LAN): no answer\n"); also != (c.path.OtherEndpoints != nil) {
			t.Errorf("found\n%sof other endpoints %v", &out, c.path.OtherEndpoints)
		}
		if !strings.Contains(out.String(), "\nbob   "+c.want+" ") || !strings.Contains(out.String(), " "+at.String()+"\n") {
			t.Errorf("found\n%swanted %q and %v in it", &out, c.want, at)
		}
		data, err := json.Marshal(report)
		if local := bytes.Contains(data, []byte(`"via":0,"local":true`)); err != nil || local != c.path.Local {
			t.Errorf("found %s, %v, wanted local %v", data, err, c.path.Local)
		}
	}
}

// TestStatusTellsNames: the name of an endpoint, what it stands for if that has changed,
// and why it cannot be looked up.
func TestStatusTellsNames(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	document, moved := netip.MustParseAddrPort("192.0.2.2:51820"), netip.MustParseAddrPort("198.51.100.7:51820")
	for _, c := range []struct {
		about     string
		name      *healing.NameState
		want, not []string
	}{
		{"no name", nil, nil, []string{"name"}},
		{"as in the document", &healing.NameState{Name: "home.example.net", Endpoint: document}, []string{" 192.0.2.2:51820 (home.example.net)\n"}, []string{"its name"}},
		{"moved", &healing.NameState{Name: "home.example.net", Endpoint: moved, Changed: &long}, []string{"(home.example.net)\n",
			"bob: its name home.example.net has stood for 198.51.100.7:51820, another address than in the document, since 1h0m0s ago\n"}, []string{"cannot"}},
		{"gone", &healing.NameState{Name: "home.example.net", Endpoint: document, Problem: "there is no such name", Since: &long},
			[]string{"bob: its name home.example.net cannot be looked up, since 1h0m0s ago: there is no such name; 192.0.2.2:51820 counts\n"}, []string{"has stood"}},
	} {
		report := &statusReport{Hostname: "alice", HostID: 1, Peers: []peerReport{{Name: "bob", HostID: 2, Endpoint: document}}}
		report.take(&healing.State{Peers: []healing.PeerState{{HostID: 2, State: "up", Name: c.name}}}, &network.Document{})
		var out bytes.Buffer
		if err := (&call{stdout: &out}).printStatus(report); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: found\n%swanted %q in it", c.about, &out, w)
			}
		}
		for _, n := range c.not {
			if strings.Contains(out.String(), n) {
				t.Errorf("%s: found\n%swanted no %q", c.about, &out, n)
			}
		}
	}
}

// TestSilentHosts: hosts whose last session has ended are silent, clients never.
func TestSilentHosts(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) *time.Time { then := now.Add(-ago); return &then }
	d := &network.Document{}
	for id := uint16(1); id <= 4; id++ {
		d.Hosts = append(d.Hosts, network.Host{ID: id, Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(id)}), 51820)})
	}
	got := silentHosts([]peerReport{
		{Name: "never", HostID: 2}, {Name: "long ago", HostID: 3, LastHandshake: at(4 * time.Minute)}, {Name: "now", HostID: 4, LastHandshake: at(time.Minute)},
		{Name: "client"},
	}, d, now)
	if fmt.Sprint(got) != "map[long ago:192.0.2.3 never:192.0.2.2]" {
		t.Errorf("found %v", got)
	}
}
