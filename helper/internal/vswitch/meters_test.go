package vswitch

import (
	"reflect"
	"strings"
	"testing"
)

func TestWantedMeters(t *testing.T) {
	for remotes, settings := range map[int]string{
		1:    "rate=5000 burst_size=10000",
		20:   "rate=5000 burst_size=10000",
		21:   "rate=4761 burst_size=9522",
		1000: "rate=100 burst_size=200",
		2000: "rate=50 burst_size=100",
		3000: "rate=50 burst_size=100",
	} {
		want := meters{floodMeter: meterForm + settings, slowMeter: meterForm + settings}
		if got := wantedMeters(remotes); !reflect.DeepEqual(got, want) {
			t.Errorf("%d remotes: found %v", remotes, got)
		}
	}
	if got := wantedMeters(0); len(got) != 0 {
		t.Errorf("a single host has meters: %v", got)
	}
	if got := (bounded{}).want(1000); len(got) != 0 {
		t.Errorf("wanted of a kernel without meters: %v", got)
	}
}

func TestMetersDiffer(t *testing.T) {
	want := wantedMeters(21)
	for _, c := range []struct {
		have meters
		text string
	}{
		{wantedMeters(21), ""},
		{nil, "meter 1 none → rate=4761 burst_size=9522, meter slowpath none → rate=4761 burst_size=9522"},
		{wantedMeters(22), "meter 1 rate=4545 burst_size=9090 → rate=4761 burst_size=9522, meter slowpath rate=4545 burst_size=9090 → rate=4761 burst_size=9522"},
		{meters{"1": want["1"], "slowpath": want["1"], "7": "kbps bands= type=drop rate=1"}, "meter 7 kbps bands= type=drop rate=1 → none"},
		{meters{"1": "kbps bands= type=drop rate=4761", "slowpath": want["1"]}, "meter 1 kbps bands= type=drop rate=4761 → rate=4761 burst_size=9522"},
	} {
		if got := want.difference(c.have); got != c.text {
			t.Errorf("found %q, wanted %q", got, c.text)
		}
	}
}

// What ovs-ofctl 3.1 prints.
func TestParseMeters(t *testing.T) {
	got := parseMeters([]byte(`OFPST_METER_CONFIG reply (OF1.4) (xid=0x2):
meter=1 pktps burst stats bands=
type=drop rate=50 burst_size=100

meter=slowpath pktps burst stats bands=
type=drop rate=50 burst_size=100
`))
	if !reflect.DeepEqual(got, wantedMeters(2000)) {
		t.Errorf("found %v", got)
	}
	if got := parseMeters([]byte("OFPST_METER_CONFIG reply (OF1.4) (xid=0x2):\n")); len(got) != 0 {
		t.Errorf("found %v where there is none", got)
	}
	if n := parseMetered([]byte(`OFPST_METER reply (OF1.4) (xid=0x2):
meter:1 flow_count:1 packet_in_count:10000 byte_in_count:600000 duration:1.3s bands:
0: packet_count:7600 byte_count:456000

meter:slowpath flow_count:0 packet_in_count:9 byte_in_count:1 duration:1.3s bands:
0: packet_count:3 byte_count:1
`)); n != 7603 {
		t.Errorf("found %d dropped frames", n)
	}
	for text, want := range map[string]bool{
		"OFPST_METER_FEATURES reply (OF1.4) (xid=0x2):\nmax_meter:262144 max_bands:1 max_color:0\nband_types: drop\n": true,
		"OFPST_METER_FEATURES reply (OF1.4) (xid=0x2):\nmax_meter:0 max_bands:0 max_color:0\nband_types: 0\n":         false,
		"": false,
	} {
		if hasMeters([]byte(text)) != want {
			t.Errorf("%q: wanted %v", text, want)
		}
	}
}

// TestWithoutMeters: the flows of a kernel that has none are the same but for one.
func TestWithoutMeters(t *testing.T) {
	with, err := Pipeline(*example(1, 1, 2, 3), true, defaultNeighbors)
	if err != nil {
		t.Fatal(err)
	}
	without, err := Pipeline(*example(1, 1, 2, 3), false, defaultNeighbors)
	if err != nil {
		t.Fatal(err)
	}
	there := map[uint64]bool{}
	for _, f := range without {
		there[f.cookie] = true
		if text := f.text(); strings.Contains(text, "meter") {
			t.Errorf("without meters: %s", text)
		}
	}
	var more []string
	for _, f := range with {
		if !there[f.cookie] {
			more = append(more, f.text())
		}
	}
	if len(more) != 1 || len(with) != len(without)+1 || !strings.Contains(more[0], "actions=meter:1,load:0x1->NXM_NX_REG6[],resubmit(,21)") {
		t.Errorf("with meters there is more: %v", more)
	}
}
