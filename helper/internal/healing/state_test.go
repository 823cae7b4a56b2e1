package healing

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
)

func states() []State {
	heard := time.Unix(1700000000, 0).UTC()
	return []State{
		{Generation: "0123456789abcdef", Peers: []PeerState{
			{HostID: 2, State: "up", Unanswered: 7, Unverified: 8, Since: heard, RTT: 1.25, Loss: 0.5, LossMinutes: 1, Endpoint: netip.MustParseAddrPort("192.0.2.2:51820"), Generation: "same", LastHeard: &heard},
			{HostID: 256, State: "down", Via: 2, Problem: "packets of full size get lost", Generation: "different", DirectRTT: 3, DirectLoss: 1, DirectWell: 2.5, DirectHold: 10},
			{HostID: 3, State: "unknown", Generation: "unknown", Name: &NameState{Name: "home.example.net", Endpoint: netip.MustParseAddrPort("192.0.2.2:51820"),
				Changed: &heard, Problem: "there is no such name", Since: &heard}},
		}, Unverified: 9},
		{Peers: []PeerState{}},
	}
}

func TestStateComesBack(t *testing.T) {
	for _, want := range states() {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeState(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(got); !bytes.Equal(again, data) {
			t.Errorf("found %s, wanted %s", again, data)
		}
	}
}

func TestStateRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "{", `{"generation":"\u001b[2J"}`, `{"peers":[{"state":"\u001b[2J","generation":"same"}]}`,
		`{"peers":[{"state":"up","generation":"same","problem":"a\nb"}]}`,
		`{"peers":[{"state":"up","generation":"same","loss":1.5}]}`, `{"peers":[{"state":"up","generation":"same","rtt_ms":-1}]}`,
		`{"peers":[{"state":"up","generation":"same","direct_hold_s":-1}]}`, `{"unverified_messages":-1}`,
		`{"peers":[{"state":"up","generation":"same","endpoint":"[fe80::1%\u001b]:1"}]}`,
	} {
		if s, err := decodeState(strings.NewReader(bad)); err == nil {
			t.Errorf("%s: found %+v, wanted an error", bad, s)
		}
	}
	endless := strings.NewReader(`{"generation":"` + strings.Repeat("a", maxStateBytes) + `"}`)
	if _, err := decodeState(endless); err == nil {
		t.Error("a state without an end was taken")
	}
}

// FuzzState takes arbitrary bytes for what the agent says on its socket. What
// 'mobula status' prints of it must be text, and the same after it is written.
func FuzzState(f *testing.F) {
	for _, s := range states() {
		data, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"peers":[{"state":"up","generation":"same","problem":"\u001b]0;x\u0007"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(bytes.NewReader(data))
		if err != nil {
			return
		}
		shown := s.Generation
		for _, p := range s.Peers {
			shown += p.State + p.Problem + p.Generation + p.Endpoint.String()
			if p.Name != nil {
				shown += p.Name.Name + p.Name.Endpoint.String() + p.Name.Problem
			}
			if p.Loss < 0 || p.Loss > 1 || p.RTT < 0 {
				t.Fatalf("found %+v", p)
			}
		}
		for _, r := range shown {
			if !unicode.IsPrint(r) {
				t.Fatalf("found %q in what is shown", r)
			}
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeState(bytes.NewReader(written)); err != nil {
			t.Fatalf("%v in what was written: %s", err, written)
		} else if second, _ := json.Marshal(again); !bytes.Equal(second, written) {
			t.Fatalf("written as %s, then as %s", written, second)
		}
	})
}

// TestStateRefusesOtherEndpoints that cannot be.
func TestStateRefusesOtherEndpoints(t *testing.T) {
	for endpoint, good := range map[string]bool{
		`{"endpoint":"10.9.0.1:51820","works":true,"local":true,"rtt_ms":0.3,"loss":0.5}`: true,
		`{"endpoint":"10.9.0.1:51820","works":false}`:                                     true,
		`{"endpoint":"10.9.0.1:51820","works":true,"loss":1.5}`:                           false,
		`{"endpoint":"10.9.0.1:51820","works":true,"rtt_ms":-1}`:                          false,
		`{"endpoint":"[fe80::1%\u001b]:7","works":true}`:                                  false,
	} {
		_, err := decodeState(strings.NewReader(`{"generation":"0","peers":[{"host_id":2,"state":"up","generation":"same","endpoint":"192.0.2.1:51820","other_endpoints":[` + endpoint + `]}]}`))
		if (err == nil) != good {
			t.Errorf("%s: found %v", endpoint, err)
		}
	}
}

// TestStateRefusesNames that would do something to a terminal.
func TestStateRefusesNames(t *testing.T) {
	for _, c := range []struct {
		name string
		good bool
	}{
		{`{"name":"home.example.net","endpoint":"192.0.2.1:51820","problem":"no resolver has an answer"}`, true},
		{`{"name":"\u001b[2Jhome","endpoint":"192.0.2.1:51820"}`, false},
		{`{"name":"","endpoint":"192.0.2.1:51820"}`, false},
		{`{"name":"home.example.net","endpoint":"192.0.2.1:51820","problem":"\u0007"}`, false},
		{`{"name":"home.example.net","endpoint":"[fe80::1%\u001b]:7"}`, false},
	} {
		_, err := decodeState(strings.NewReader(`{"generation":"0","peers":[{"host_id":2,"state":"up","generation":"same","endpoint":"192.0.2.1:51820","endpoint_name":` + c.name + `}]}`))
		if (err == nil) != c.good {
			t.Errorf("%s: found %v", c.name, err)
		}
	}
}
