package web

import (
	"encoding/json"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

// TestPast: an hour is kept, with gaps where nothing is known, of so many hosts and no more.
func TestPast(t *testing.T) {
	var p Past
	read := func() (said pastJSON) {
		b, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &said); err != nil {
			t.Fatal(err)
		}
		return said
	}
	if said := read(); said.Last != nil || len(said.Hosts) != 0 {
		t.Errorf("found %+v, wanted nothing yet", said)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	way := func(to uint16, rtt, loss float64) report.Way {
		return report.Way{To: to, State: report.Up, RTT: rtt, Loss: loss}
	}
	down := report.Way{To: 3, State: report.Down, Loss: 1}
	p.Note(now, []report.Way{way(2, 5, 0), down})
	if p.Due(now.Add(PastEvery-1)) || !p.Due(now.Add(PastEvery)) {
		t.Error("wanted it to be due after PastEvery")
	}
	now = now.Add(3*PastEvery + PastEvery/3) // two looks were left out
	p.Note(now, []report.Way{way(2, 7.126, 0.25), {To: 3, State: report.Unknown}})
	said := read()
	is := func(at *float64, want float64) bool { return at != nil && *at == want }
	two, three, n := said.Hosts[0], said.Hosts[1], pastPoints
	if two.HostID != 2 || len(two.RTT) != n || !is(two.RTT[n-1], 7.13) || !is(two.Loss[n-1], 0.25) || two.RTT[n-2] != nil || two.RTT[n-3] != nil || !is(two.RTT[n-4], 5) || two.RTT[n-5] != nil {
		t.Errorf("of host 2 found %v", two)
	}
	if three.RTT[n-4] != nil || !is(three.Loss[n-4], 1) || three.Loss[n-1] != nil {
		t.Errorf("of host 3 found %v", three)
	}
	if !is(said.All.RTT[n-1], 7.13) || !is(said.All.Loss[n-4], 1) {
		t.Errorf("of all found %v", said.All)
	}

	var many []report.Way
	for id := uint16(2); id < 3000; id++ {
		many = append(many, way(id, 1, 0))
	}
	for i := 0; i < 2*pastPoints; i++ {
		now = now.Add(PastEvery)
		p.Note(now, many)
	}
	if said := read(); len(said.Hosts) != maxPastHosts || len(said.All.RTT) != pastPoints {
		t.Errorf("found %d hosts and %d points", len(said.Hosts), len(said.All.RTT))
	}
	// Whoever asks again and again makes no work, nor does who reads slowly take memory.
	first, _ := p.JSON()
	t.Logf("an hour of %d hosts has %d bytes", maxPastHosts, len(first))
	if n := testing.AllocsPerRun(10, func() { _, _ = p.JSON() }); n > 0 {
		t.Errorf("found %v allocations for what was said before, wanted none", n)
	}
	p.Note(now.Add(24*time.Hour), many[:1]) // the agent was paused for a day
	if said := read(); len(said.Hosts) != 1 || said.Hosts[0].RTT[0] != nil || !is(said.Hosts[0].RTT[n-1], 1) {
		t.Errorf("after a day found %+v", said.Hosts)
	}
}
