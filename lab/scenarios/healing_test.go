//go:build lab

package scenarios

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
	"mobula/lab/meter"
)

// healing is what breaks while hosts exchange numbered packets.
var healing = []step{
	{"all paths are direct", allDirect},
	{"a cut path", cutPaths},
	{"what a relay costs, and failback", relayAndBack},
	{"one direction", oneDirection},
	{"a relay dies", relayDies},
	{"loss and a path that comes and goes", noFlapping},
	{"a smaller MTU", smallerMTU},
	{"a long delay", longDelay},
	{"strangers at a relay port", strangers},
	{"the switch is killed", switchKilled},
	{"broken by hand", brokenByHand},
	{"the cable is pulled", cablePulled},
	{"an address changes", addressChanges},
	{"what the agent costs", agentCost},
}

// TestHealing runs all of it at length, for the figures, in a lab of four hosts:
// there is a choice of relays. TestScenarios has some of it.
func TestHealing(t *testing.T) {
	w := start(t, "alice", "bob", "carol", "erin")
	if os.Getenv("MOBULA_LAB_REUSE") == "" { // else it is deployed already
		w.inventory(t)
		w.deploy(t)
	}
	for _, s := range healing {
		w.forget(t)
		if !t.Run(s.dashed(), func(t *testing.T) { s.run(t, w) }) {
			collect(t, w, "healing "+s.name)
		}
		if err := w.ClearFaults(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// forget has all agents begin anew: a path that came and went is taken again later
// each time, which is not what is measured.
func (w *world) forget(t *testing.T) {
	t.Helper()
	for _, name := range w.hosts {
		w.on(t, name, "systemctl restart mobula-agent")
	}
}

// paths returns the ways from a host to its peers, by their full names: "direct",
// a relay's name, or a state such as "down".
func (w *world) paths(t *testing.T, host string) map[string]string {
	t.Helper()
	ways := map[string]string{}
	for _, p := range w.quick(t, host).Peers {
		switch {
		case p.Path == nil:
			ways[p.Name] = "unknown"
		case p.Path.State != "up":
			ways[p.Name] = p.Path.State
		case p.Relay != "":
			ways[p.Name] = p.Relay
		default:
			ways[p.Name] = "direct"
		}
	}
	return ways
}

func (w *world) pathTo(t *testing.T, host, peer string) string {
	t.Helper()
	return w.paths(t, host)[w.Host(peer).FQDN()]
}

// waitDirect waits until all paths among the hosts are direct. It asks seldom,
// because asking takes time from the processors that the hosts share.
func (w *world) waitDirect(t *testing.T, most time.Duration, hosts ...string) {
	t.Helper()
	deadline := time.Now().Add(most)
	for _, from := range hosts {
		for again := true; again; {
			ways := w.paths(t, from)
			again = false
			for _, to := range hosts {
				if way := ways[w.Host(to).FQDN()]; to != from && way != "direct" {
					again = true
					if time.Now().After(deadline) {
						t.Fatalf("from %s to %s: the path is %q, wanted a direct one within %v", from, to, way, most)
					}
				}
			}
			if again {
				time.Sleep(3 * time.Second)
			}
		}
	}
}

func allDirect(t *testing.T, w *world) { w.waitDirect(t, 3*time.Minute, w.hosts...) }

// broken breaks the path between two hosts and returns what puts it right.
func (w *world) broken(t *testing.T, a, b string, f lab.Fault) (undo func()) {
	t.Helper()
	end, err := w.Fault(w.ctx, w.Host(a), w.Host(b), f)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
}

// packets starts numbered packets among all hosts on intrawire: every packetEvery
// each way between two of them, and a tenth as many among all others. More would
// leave no time to two processors that emulate all the hosts, and the silence
// measured would be their own.
func (w *world) packets(t *testing.T, a, b string) *lab.Meter {
	t.Helper()
	flows := lab.Pairs(w.members(), lab.HostSpec.IntrawireAddress)
	for i, f := range flows {
		if !between(f.From.Host.Name, f.To.Host.Name, a, b) {
			flows[i].Every = 10 * packetEvery
		}
	}
	m, err := w.StartMeter(w.ctx, flows, lab.MeterOptions{Every: packetEvery})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // the engines notice the traffic
	return m
}

// packetEvery is the distance of the packets between two hosts whose path breaks.
const packetEvery = 10 * time.Millisecond

// between tells whether a flow is one of the two between a and b.
func between(from, to, a, b string) bool { return from == a && to == b || from == b && to == a }

// others are the results of the flows that are not between a and b.
func others(results []lab.FlowResult, a, b string) []lab.FlowResult {
	var some []lab.FlowResult
	for _, r := range results {
		if !between(r.From, r.To, a, b) {
			some = append(some, r)
		}
	}
	return some
}

func (w *world) stop(t *testing.T, m *lab.Meter) []lab.FlowResult {
	t.Helper()
	results, err := m.Stop(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// longest returns the longest silence of the flows between two hosts that fell
// into the given time, and the most packets lost in one. They need not be the same:
// a host that stands still is silent and loses nothing.
func longest(results []lab.FlowResult, a, b string, from, to time.Time) (most meter.Gap) {
	for _, r := range results {
		if !between(r.From, r.To, a, b) {
			continue
		}
		for _, g := range r.Gaps {
			if g.Start.Add(g.Length).After(from) && g.Start.Before(to) {
				most.Length, most.Lost = max(most.Length, g.Length), max(most.Lost, g.Lost)
			}
		}
	}
	return most
}

// forever is later than any test.
var forever = time.Unix(1<<40, 0)

// clock returns the time on a host.
func (w *world) clock(t *testing.T, host string) time.Time {
	t.Helper()
	s, err := strconv.ParseFloat(w.on(t, host, "date +%s.%N"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, int64(s*1e9))
}

func percentile(all []time.Duration, p int) time.Duration {
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all[(len(all)*p+99)/100-1].Round(time.Millisecond)
}

// cutPaths cuts each path several times and measures the silence of its two flows,
// and what silence there was in as many seconds before: that of busy processors.
// Packets lost tell how long the path was broken, also where a host stands still.
// The other pairs must not notice.
func cutPaths(t *testing.T, w *world) {
	const during, mostOutage = 4 * time.Second, 2 * time.Second
	var outages, lost, noise []time.Duration
	for i, a := range w.hosts {
		for _, b := range w.hosts[i+1:] {
			w.forget(t)
			w.waitDirect(t, 3*time.Minute, w.hosts...)
			m := w.packets(t, a, b)
			var cuts []time.Time // by the clock of a
			for n := 0; n < 4; n++ {
				time.Sleep(during)
				w.waitDirect(t, 3*time.Minute, w.hosts...) // or others would lose a relay
				cuts = append(cuts, w.clock(t, a))
				undo := w.broken(t, a, b, lab.Fault{Drop: true})
				time.Sleep(during)
				path := w.pathTo(t, a, b)
				undo()
				if !strings.Contains(path, ".") { // a relay's name
					t.Errorf("%s–%s: the path is %s after %v, wanted a relay", a, b, path, during)
				}
			}
			results := w.stop(t, m)
			if err := lab.Lossless(others(results, a, b)); err != nil {
				t.Errorf("%s–%s was cut, and others lost packets: %v", a, b, err)
			}
			for _, at := range cuts {
				outage, before := longest(results, a, b, at, at.Add(during)), longest(results, a, b, at.Add(-during), at.Add(-time.Second))
				t.Logf("%s–%s: silent for %v, before at most %v", a, b, outage, before)
				outages, noise = append(outages, outage.Length), append(noise, before.Length)
				silent := time.Duration(outage.Lost) * packetEvery
				lost = append(lost, silent)
				if silent == 0 || silent >= mostOutage {
					t.Errorf("%s–%s: packets were lost for %v, wanted more than none (else no fault struck) and less than %v", a, b, silent, mostOutage)
				}
			}
		}
	}
	t.Logf("outage of a cut path over %d repetitions: p50 %v, p99 %v, max %v; by packets lost: p50 %v, p99 %v; silence before: p50 %v, max %v", len(outages),
		percentile(outages, 50), percentile(outages, 99), percentile(outages, 100), percentile(lost, 50), percentile(lost, 99),
		percentile(noise, 50), percentile(noise, 100))
	if typical := percentile(lost, 50); typical >= time.Second {
		t.Errorf("half of the cuts lost packets for %v or more, wanted less than 1 s", typical)
	}
}

// wayAround cuts one path, however busy the machines are: who needs figures takes
// cutPaths.
func wayAround(t *testing.T, w *world) {
	w.saysHowTheNetworkIs(t, "carol", "")
	w.around(t, "alice", "bob")
}

func (w *world) around(t *testing.T, a, b string) {
	t.Helper()
	undo := w.broken(t, a, b, lab.Fault{Drop: true})
	defer undo()
	eventually(t, time.Minute, "a way around", func() error {
		there, back := w.pathTo(t, a, b), w.pathTo(t, b, a)
		if !strings.Contains(there, ".") || !strings.Contains(back, ".") { // a relay's name
			return fmt.Errorf("the path is %s, and %s back", there, back)
		}
		_, err := w.Host(a).Run(w.ctx, "ping -q -c 3 -i 0.3 -W 5 "+w.Host(b).IntrawireAddress())
		if err == nil {
			t.Logf("over %s, and over %s back", there, back)
		}
		return err
	})
}

// ping returns the average round trip over intrawire.
func (w *world) ping(t *testing.T, from, to string) time.Duration {
	t.Helper()
	return w.pings(t, from, to, "-c 100 -i 0.05")
}

func (w *world) pings(t *testing.T, from, to, options string) time.Duration {
	t.Helper()
	return w.roundTrip(t, from, w.Host(to).IntrawireAddress(), options)
}

// throughput returns what one TCP stream carries over intrawire, in Mbit/s.
func (w *world) throughput(t *testing.T, from, to string) float64 {
	t.Helper()
	return w.stream(t, w.Host(from), w.Host(to), w.Host(to).IntrawireAddress())
}

func relayAndBack(t *testing.T, w *world) {
	allDirect(t, w)
	direct, directRate := w.ping(t, "alice", "bob"), w.throughput(t, "alice", "bob")
	undo := w.broken(t, "alice", "bob", lab.Fault{Drop: true})
	eventually(t, 10*time.Second, "a relay", func() error {
		if path := w.pathTo(t, "alice", "bob"); !strings.Contains(path, ".") {
			return fmt.Errorf("the path is %s", path)
		}
		return nil
	})
	relayed, relayedRate := w.ping(t, "alice", "bob"), w.throughput(t, "alice", "bob")
	m := w.packets(t, "alice", "bob")
	undo()
	began := time.Now()
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
	took := time.Since(began)
	time.Sleep(2 * time.Second)
	results := w.stop(t, m)
	if err := lab.Lossless(results); err != nil {
		t.Errorf("failback: %v\n%s", err, lab.Table(results))
	}
	t.Logf("round trip: direct %v, relayed %v (%.2f times); one TCP stream: direct %.0f Mbit/s, relayed %.0f Mbit/s (%.2f times); back after %v\n%s",
		direct, relayed, relayed.Seconds()/direct.Seconds(), directRate, relayedRate, relayedRate/directRate, took.Round(time.Second), lab.Table(results))
}

func oneDirection(t *testing.T, w *world) {
	allDirect(t, w)
	m := w.packets(t, "alice", "bob")
	w.waitDirect(t, 3*time.Minute, "alice", "bob") // busy hosts may have moved meanwhile
	since := w.clock(t, "alice")
	undo := w.broken(t, "alice", "bob", lab.Fault{Drop: true, OneWay: true})
	time.Sleep(8 * time.Second)
	path := w.pathTo(t, "alice", "bob")
	results := w.stop(t, m)
	outage := longest(results, "alice", "bob", since, forever)
	t.Logf("only alice → bob cut: silent for %v, then over %s\n%s", outage, path, lab.Table(results))
	if !strings.Contains(path, ".") {
		t.Errorf("the path is %s, wanted a relay", path)
	}
	lost := uint64(0) // a host that stands still is silent for longer, and loses nothing
	for _, r := range results {
		if r.From == "alice" && r.To == "bob" {
			lost = r.LongestLoss
		}
	}
	if lost == 0 {
		t.Error("nothing was lost: nothing was cut")
	}
	undo()
}

// relay waits until a host has another one relay what it sends to a peer.
func (w *world) relay(t *testing.T, host, peer string) (relay *lab.Host) {
	t.Helper()
	eventually(t, 20*time.Second, "a relay", func() error {
		path := w.pathTo(t, host, peer)
		for _, h := range w.members() {
			if h.FQDN() == path {
				relay = h
				return nil
			}
		}
		return fmt.Errorf("the path is %s", path)
	})
	return relay
}

func relayDies(t *testing.T, w *world) {
	allDirect(t, w)
	undo := w.broken(t, "alice", "bob", lab.Fault{Drop: true})
	defer undo()
	w.relay(t, "alice", "bob")
	m := w.packets(t, "alice", "bob")
	since := w.clock(t, "alice")
	relay := w.relay(t, "alice", "bob") // now
	defer func() {
		if err := relay.PowerCut(w.ctx); err != nil {
			t.Error(err)
		}
	}()
	if err := relay.PowerOff(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(8 * time.Second)
	path := w.pathTo(t, "alice", "bob")
	results, err := m.Stop(w.ctx) // which the relay cannot answer
	for _, r := range results {
		if between(r.From, r.To, "alice", "bob") && r.Received == 0 {
			t.Errorf("nothing arrived from %s at %s (%v)", r.From, r.To, err)
		}
	}
	outage := longest(results, "alice", "bob", since, forever)
	t.Logf("%s died, then over %s: silent for %v", relay.Name, path, outage)
	if outage.Lost == 0 {
		t.Errorf("nothing was lost: %s relayed nothing when it died", relay.Name)
	}
	if path == relay.FQDN() || !strings.Contains(path, ".") {
		t.Errorf("now over %s, wanted another relay than %s\n%s", path, relay.Name, lab.Table(results))
	}
}
