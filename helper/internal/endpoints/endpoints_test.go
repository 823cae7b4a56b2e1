package endpoints

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addresses(texts ...string) (all []netip.Addr) {
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// many returns n hosts with a name each.
func many(n int) (all []Peer) {
	for id := 1; id <= n; id++ {
		all = append(all, Peer{Of{ID: uint16(id)}, fmt.Sprintf("h%d.example.net", id), at(fmt.Sprintf("192.0.%d.%d:51820", id>>8, id&255))})
	}
	return all
}

func nobody(uint16) bool    { return false }
func everybody(uint16) bool { return true }

// world answers what is asked after a while, second by second.
type world struct {
	names  *Names
	now    time.Duration
	takes  time.Duration // how long an answer takes; negative: for ever
	open   map[string]time.Duration
	asked  map[string][]time.Duration
	most   int // questions open at a time
	answer func(name string) ([]netip.Addr, error)
}

func newWorld(n int) *world {
	w := &world{names: New(1), now: time.Second, takes: 50 * time.Millisecond, open: map[string]time.Duration{}, asked: map[string][]time.Duration{},
		answer: func(string) ([]netip.Addr, error) { return nil, errors.New("no resolver has an answer") }}
	w.names.Set(w.now, network.Ranges{}, many(n))
	return w
}

func (w *world) run(d time.Duration, lost func(uint16) bool) {
	for end := w.now + d; w.now < end; w.now += time.Second {
		for _, name := range w.names.Due(w.now, lost) {
			if _, twice := w.open[name]; twice {
				panic(name + " is asked for twice at a time")
			}
			w.open[name] = w.now
			w.asked[name] = append(w.asked[name], w.now)
		}
		w.most = max(w.most, len(w.open))
		for name, since := range w.open {
			if w.takes >= 0 && w.now+time.Second >= since+w.takes {
				delete(w.open, name)
				found, err := w.answer(name)
				w.names.Answer(w.now+w.takes, name, found, err)
			}
		}
	}
}

func (w *world) questions() (n int) {
	for _, times := range w.asked {
		n += len(times)
	}
	return n
}

// TestNowAndThen: names whose hosts are reached are all asked for, rarely and not in step.
func TestNowAndThen(t *testing.T) {
	w := newWorld(100)
	w.run(2*time.Hour, nobody)
	seconds := map[time.Duration]int{}
	for name, times := range w.asked {
		for i := 1; i < len(times); i++ {
			if d := times[i] - times[i-1]; d < 7*time.Minute || d > 13*time.Minute {
				t.Errorf("%s: asked again after %v, wanted 10 min, more or less", name, d)
			}
		}
		for _, at := range times {
			seconds[at]++
		}
	}
	if n := w.questions(); len(w.asked) != 100 || n < 900 || n > 1300 {
		t.Errorf("found %d questions for %d names in 2 h, wanted all and some 1,200", n, len(w.asked))
	}
	if len(seconds) < 800 {
		t.Errorf("the questions fall into %d seconds only", len(seconds))
	}
}

// TestLostHosts: the name of a host that is lost is asked for at once, and less and less.
func TestLostHosts(t *testing.T) {
	w := newWorld(3)
	w.run(time.Minute, nobody)
	w.asked = map[string][]time.Duration{}
	fell := w.now
	lost := func(id uint16) bool { return id == 2 }
	w.run(30*time.Minute, lost)
	times := w.asked["h2.example.net"]
	if len(times) < 15 || len(times) > 30 || times[0]-fell > 3*time.Second || times[2]-fell > 15*time.Second {
		t.Errorf("fell at %v: found %d questions, at %v", fell, len(times), times)
	}
	for i := len(times) - 5; i > 0 && i < len(times); i++ {
		if d := times[i] - times[i-1]; d < 85*time.Second || d > 155*time.Second {
			t.Errorf("in the end asked again after %v, wanted 2 min, more or less", d)
		}
	}
	if n := len(w.asked["h1.example.net"]); n > 5 {
		t.Errorf("a host that is reached: found %d questions", n)
	}
	w.run(time.Hour, nobody)
	w.asked = map[string][]time.Duration{}
	fell = w.now
	w.run(10*time.Second, lost)
	if times := w.asked["h2.example.net"]; len(times) == 0 || times[0]-fell > 3*time.Second {
		t.Errorf("when it falls again at %v: found questions at %v", fell, times)
	}
}

// TestBounds: thousands of names, all of them reached or all lost, with resolvers that
// answer, that take their time and that never come back.
func TestBounds(t *testing.T) {
	const seconds = 900
	for _, c := range []struct {
		name  string
		lost  func(uint16) bool
		takes time.Duration
		most  int // questions in that time
	}{
		{"reached", nobody, 0, seconds * idlePerSecond * 3 / 2},
		{"lost", everybody, 0, seconds*perSecond + perSecond},
		{"lost, and answers take 5 s", everybody, 5 * time.Second, seconds*MaxAsking/5 + MaxAsking},
		{"lost, and no answer comes", everybody, -1, MaxAsking},
	} {
		w := newWorld(3000)
		w.takes = c.takes
		w.run(seconds*time.Second, c.lost)
		if n := w.questions(); n > c.most || n < c.most/3 || w.most > MaxAsking {
			t.Errorf("%s: found %d questions in %d s, %d at a time, wanted at most %d and %d", c.name, n, seconds, w.most, c.most, MaxAsking)
		}
		if c.most > 3000 && len(w.asked) != 3000 {
			t.Errorf("%s: only %d names were asked for", c.name, len(w.asked))
		}
	}
}

// TestOneLostAmongMany: it does not wait for those that are reached.
func TestOneLostAmongMany(t *testing.T) {
	w := newWorld(3000)
	w.run(5*time.Minute, nobody)
	w.asked = map[string][]time.Duration{}
	fell := w.now
	w.run(10*time.Second, func(id uint16) bool { return id == 2999 })
	if times := w.asked["h2999.example.net"]; len(times) < 2 || times[0]-fell > 3*time.Second {
		t.Errorf("fell at %v: found questions at %v", fell, times)
	}
}

func TestAnswers(t *testing.T) {
	peers := []Peer{{Of{ID: 1}, "home.example.net", at("192.0.2.1:51820")}, {Of{ID: 2}, "home.example.net", at("192.0.2.1:51821")},
		{Of{ID: 3}, "other.example.net", at("192.0.2.3:51820")}, {Of{ID: 4}, "", at("192.0.2.4:51820")}, {Of{ID: 5}, "six.example.net", at("[2001:db8::5]:51820")}}
	noSuch := errors.New("there is no such name")
	for _, c := range []struct {
		name    string
		found   []netip.Addr
		err     error
		want    string
		problem string
	}{
		{"the same", addresses("192.0.2.1"), nil, "[]", ""},
		{"the same among others", addresses("192.0.2.0", "192.0.2.1", "192.0.2.9"), nil, "[]", ""},
		{"another", addresses("198.51.100.7"), nil, "[{{1 0} 198.51.100.7:51820} {{2 0} 198.51.100.7:51821}]", ""},
		{"others, the smallest counts", addresses("198.51.100.9", "198.51.100.8"), nil, "[{{1 0} 198.51.100.8:51820} {{2 0} 198.51.100.8:51821}]", ""},
		{"mapped", addresses("::ffff:198.51.100.7"), nil, "[{{1 0} 198.51.100.7:51820} {{2 0} 198.51.100.7:51821}]", ""},
		{"one that no host can have", addresses("127.0.0.1", "10.31.128.1", "10.30.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "2001:db8::1"), nil, "[]", "no IPv4 address at which a host can be"},
		{"one of them that a host can have", addresses("10.31.128.1", "198.51.100.7"), nil, "[{{1 0} 198.51.100.7:51820} {{2 0} 198.51.100.7:51821}]", ""},
		{"nothing", nil, nil, "[]", "no IPv4 address at which a host can be"},
		{"an error", nil, noSuch, "[]", "there is no such name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := New(1)
			n.Set(time.Second, network.Ranges{}, peers)
			due := n.Due(time.Hour, everybody)
			if got := strings.Join(due, " "); got != "home.example.net other.example.net six.example.net" {
				t.Fatalf("asked for %s, wanted each name once", got)
			}
			if got := fmt.Sprint(n.Answer(time.Hour, "home.example.net", c.found, c.err)); got != c.want {
				t.Errorf("found %s, wanted %s", got, c.want)
			}
			for id, port := range map[uint16]uint16{1: 51820, 2: 51821} {
				r, _ := n.Report(Of{ID: id})
				changed := c.want != "[]"
				if r.Problem != c.problem || (r.Changed == time.Hour) != changed || (r.Endpoint == peers[id-1].Endpoint) == changed || r.Endpoint.Port() != port {
					t.Errorf("host %d: found %+v", id, r)
				}
			}
			if _, named := n.Report(Of{ID: 4}); named {
				t.Error("a host without a name has one")
			}
		})
	}
}

// TestFamilies: an endpoint stays with the kind of address that its name had.
func TestFamilies(t *testing.T) {
	n := New(1)
	n.Set(time.Second, network.Ranges{}, []Peer{{Of{1, 0}, "both.example.net", at("192.0.2.1:51820")}, {Of{2, 1}, "both.example.net", at("[2001:db8::2]:7")}})
	for _, c := range []struct {
		found   []netip.Addr
		want    string
		problem string
	}{
		{addresses("192.0.2.1", "2001:db8::2"), "[]", ""},
		{addresses("2001:db8::4", "192.0.2.1", "2001:db8::3", "fe80::1"), "[{{2 1} [2001:db8::3]:7}]", ""},
		{addresses("192.0.2.9"), "[{{1 0} 192.0.2.9:51820}]", "no IPv6 address at which a host can be"},
		{addresses("2001:db8::3"), "[]", "no IPv4 address at which a host can be"},
		{addresses("2001:db8::5", "192.0.2.8"), "[{{1 0} 192.0.2.8:51820} {{2 1} [2001:db8::5]:7}]", ""},
	} {
		n.Due(time.Hour, everybody)
		if got := fmt.Sprint(n.Answer(time.Hour, "both.example.net", c.found, nil)); got != c.want {
			t.Errorf("%v: found %s, wanted %s", c.found, got, c.want)
		}
		if r, _ := n.Report(Of{2, 1}); r.Problem != c.problem {
			t.Errorf("%v: found the problem %q, wanted %q", c.found, r.Problem, c.problem)
		}
	}
}

// TestSeveralNamesOfOneHost: each of its endpoints follows its own name.
func TestSeveralNamesOfOneHost(t *testing.T) {
	n := New(1)
	n.Set(time.Second, network.Ranges{}, []Peer{{Of{1, 0}, "", at("192.0.2.1:51820")}, {Of{1, 1}, "a.example.net", at("192.0.2.2:51820")}, {Of{1, 2}, "b.example.net", at("192.0.2.3:7")}})
	if due := n.Due(time.Hour, everybody); len(due) != 2 {
		t.Fatalf("asked for %v", due)
	}
	if got, want := fmt.Sprint(n.Answer(time.Hour, "b.example.net", addresses("198.51.100.7"), nil)), "[{{1 2} 198.51.100.7:7}]"; got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
	a, _ := n.Report(Of{1, 1})
	b, _ := n.Report(Of{1, 2})
	if _, named := n.Report(Of{1, 0}); named || a.Endpoint != at("192.0.2.2:51820") || b.Endpoint != at("198.51.100.7:7") {
		t.Errorf("found %+v, %+v, and of the first %v", a, b, named)
	}
}

// TestProblems: the last address stays, since when is told, and an answer ends it.
func TestProblems(t *testing.T) {
	n := New(1)
	n.Set(time.Second, network.Ranges{}, many(1))
	ask := func(now time.Duration, found []netip.Addr, err error) Report {
		if due := n.Due(now, everybody); len(due) != 1 {
			t.Fatalf("asked for %v", due)
		}
		n.Answer(now, "h1.example.net", found, err)
		r, _ := n.Report(Of{ID: 1})
		return r
	}
	moved := at("198.51.100.7:51820")
	ask(time.Hour, addresses("198.51.100.7"), nil)
	ask(2*time.Hour, nil, errors.New("one"))
	r := ask(3*time.Hour, nil, errors.New("two"))
	if r.Problem != "two" || r.Since != 2*time.Hour || r.Endpoint != moved || r.Changed != time.Hour {
		t.Errorf("found %+v", r)
	}
	if r = ask(4*time.Hour, addresses("198.51.100.7"), nil); r.Problem != "" || r.Endpoint != moved || r.Changed != time.Hour {
		t.Errorf("when it resolves again: found %+v", r)
	}
}

// TestAnotherDocument: what it says of a host counts if it is new, and questions that are
// on their way stay counted.
func TestAnotherDocument(t *testing.T) {
	n := New(1)
	peers := many(6)
	n.Set(time.Second, network.Ranges{}, peers)
	asked := n.Due(time.Hour, everybody)
	if len(asked) != MaxAsking {
		t.Fatalf("asked for %v", asked)
	}
	n.Answer(time.Hour, asked[0], addresses("198.51.100.7"), nil)
	id := func(name string) (id uint16) { fmt.Sscanf(name, "h%d.", &id); return id }
	endpoint := func() netip.AddrPort { r, _ := n.Report(Of{ID: id(asked[0])}); return r.Endpoint }
	n.Set(time.Hour, network.Ranges{}, peers)
	if got := endpoint(); got != at("198.51.100.7:51820") {
		t.Errorf("after the same again: found %v", got)
	}
	if more := n.Due(time.Hour+5*time.Second, everybody); len(more) != 1 {
		t.Errorf("asked for %v besides three that are open, wanted one", more)
	}
	peers[id(asked[0])-1].Endpoint = at("192.0.2.99:51820")
	n.Set(time.Hour, network.Ranges{}, peers)
	if got := endpoint(); got != at("192.0.2.99:51820") {
		t.Errorf("after another endpoint: found %v", got)
	}
	n.Set(time.Hour, network.Ranges{}, nil)
	for _, name := range asked[1:] {
		if changes := n.Answer(time.Hour, name, addresses("198.51.100.8"), nil); changes != nil {
			t.Errorf("%s is gone, found %v", name, changes)
		}
	}
	if n.asking != 1 || len(n.Due(2*time.Hour, everybody)) != 0 {
		t.Errorf("%d are open, wanted the last one", n.asking)
	}
}
