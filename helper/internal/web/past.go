package web

import (
	"encoding/json"
	"math"
	"sort"
	"sync"
	"time"

	"mobula/helper/internal/report"
)

const (
	// PastEvery is how often the ways are looked at. Their loss is that of the last 10 to
	// 20 s, so that little is missed.
	PastEvery = 20 * time.Second
	// pastPoints are an hour.
	pastPoints = int(time.Hour / PastEvery)
	// maxPastHosts bounds the hosts with a past of their own, those with the lowest IDs: of
	// all together there is one anyway.
	maxPastHosts = 128
)

// Past is the last hour of the ways of the page's own host. The zero Past is empty.
type Past struct {
	mu    sync.Mutex
	last  time.Time
	all   series
	hosts map[uint16]*series
	said  []byte // what JSON returns, until there is something new
}

// series are the points of an hour, the oldest first. Negative: not known, or no answer.
type series struct{ rtt, loss [pastPoints]float32 }

func (s *series) clear() {
	for i := range s.rtt {
		s.rtt[i], s.loss[i] = -1, -1
	}
}

// add moves all by so many points, of which the last is the given one.
func (s *series) add(steps int, rtt, loss float32) {
	for _, points := range []*[pastPoints]float32{&s.rtt, &s.loss} {
		copy(points[:], points[steps:])
		for i := pastPoints - steps; i < pastPoints; i++ {
			points[i] = -1
		}
	}
	s.rtt[pastPoints-1], s.loss[pastPoints-1] = rtt, loss
}

// Due reports whether PastEvery is over since the last look.
func (p *Past) Due(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.last) >= PastEvery
}

// Note adds a look at all of the host's ways. Where looks were left out nothing is known.
func (p *Past) Note(now time.Time, ways []report.Way) {
	p.mu.Lock()
	defer p.mu.Unlock()
	steps := pastPoints
	if p.hosts == nil {
		p.hosts = map[uint16]*series{}
		p.all.clear()
	} else if missed := now.Sub(p.last).Round(PastEvery) / PastEvery; missed < time.Duration(pastPoints) {
		steps = max(1, int(missed))
	}
	p.last, p.said = now, nil
	var trips []float64
	worst, told := float32(-1), map[uint16]bool{}
	for _, w := range ways {
		if w.State == report.Unknown {
			continue
		}
		rtt, loss := float32(-1), float32(w.Loss)
		if w.State == report.Up && w.RTT > 0 {
			rtt = float32(w.RTT)
			trips = append(trips, w.RTT)
		}
		worst = max(worst, loss)
		s := p.hosts[w.To]
		if s == nil && len(p.hosts) < maxPastHosts {
			s = &series{}
			s.clear()
			p.hosts[w.To] = s
		}
		if s != nil {
			s.add(steps, rtt, loss)
			told[w.To] = true
		}
	}
	median := float32(-1)
	if len(trips) > 0 {
		sort.Float64s(trips)
		median = float32(trips[len(trips)/2])
	}
	p.all.add(steps, median, worst)
	p.forget(steps, told, ways)
}

// forget drops hosts that are gone, and moves those of which nothing is known now.
func (p *Past) forget(steps int, told map[uint16]bool, ways []report.Way) {
	is := map[uint16]bool{}
	for _, w := range ways {
		is[w.To] = true
	}
	for id, s := range p.hosts {
		switch {
		case !is[id]:
			delete(p.hosts, id)
		case !told[id]:
			s.add(steps, -1, -1)
		}
	}
}

// pastJSON is what /past.json says, see docs/how-to/page.md.
type pastJSON struct {
	Every float64      `json:"every_s"`
	Last  *time.Time   `json:"last"`
	All   seriesJSON   `json:"all"`
	Hosts []hostSeries `json:"hosts"`
}

type hostSeries struct {
	HostID uint16 `json:"host_id"`
	seriesJSON
}

type seriesJSON struct {
	RTT  []*float64 `json:"rtt_ms"`
	Loss []*float64 `json:"loss"`
}

func (s *series) json() seriesJSON {
	points := func(all [pastPoints]float32, digits float64) []*float64 {
		list := make([]*float64, pastPoints)
		for i, v := range all {
			if v >= 0 {
				rounded := math.Round(float64(v)*digits) / digits
				list[i] = &rounded
			}
		}
		return list
	}
	return seriesJSON{points(s.rtt, 100), points(s.loss, 1000)}
}

// JSON returns the last hour, the same bytes to all who ask before there is something new:
// they are up to 280 kB, which take 12 ms.
func (p *Past) JSON() (_ []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.said != nil {
		return p.said, nil
	}
	said := pastJSON{Every: PastEvery.Seconds(), Hosts: []hostSeries{}}
	if !p.last.IsZero() {
		last := p.last.UTC().Truncate(time.Second)
		said.Last = &last
		said.All = p.all.json()
	}
	for id, s := range p.hosts {
		said.Hosts = append(said.Hosts, hostSeries{id, s.json()})
	}
	sort.Slice(said.Hosts, func(a, b int) bool { return said.Hosts[a].HostID < said.Hosts[b].HostID })
	p.said, err = json.Marshal(said)
	return p.said, err
}
