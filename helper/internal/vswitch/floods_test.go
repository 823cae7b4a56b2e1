//go:build ovs

package vswitch

import (
	"context"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// TestFloodsAreBounded: a guest that sends to everybody as fast as it can gets no more
// copies onto the wire than the meters let pass, whoever makes the copies; what asks
// for members passes meanwhile.
func TestFloodsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		remotes int
		step    int
	}{"by the datapath": {500, 1}, "by ovs-vswitchd": {1200, 27}} {
		t.Run(name, func(t *testing.T) { floodIsBounded(t, example(1, idsUpTo(c.remotes+1, c.step)...)) })
	}
}

func floodIsBounded(t *testing.T, sw *spec.Switch) {
	in := startInstance(t)
	in.applyOnce(sw)
	in.actAsTheKernel()
	guest := in.guest()
	remotes := uint64(len(sw.Remotes))
	rate := uint64(max(minFloods, copiesPerSecond/len(sw.Remotes)))
	asked := sw.Remotes[0].HostID
	guest.send(toEverybody())
	guest.send(aQuestion(asked))
	const frames, rounds = 10000, 100
	began := time.Now()
	for i := 0; i < rounds; i++ {
		for j := 0; j < frames/rounds; j++ {
			guest.send(toEverybody())
		}
		guest.send(aQuestion(asked))
		time.Sleep(20 * time.Millisecond)
	}
	in.quiet()
	seconds := time.Since(began).Seconds()
	questions := in.answered(asked)
	flooded := (in.copiesAsOfTheKernel() - questions) / remotes
	stats, err := in.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	arrived := flooded + stats.Flooded
	t.Logf("in %.1f s %d of %d frames arrived at the switch, %d were flooded, %d dropped, and %d of %d questions passed",
		seconds, arrived, frames+1, flooded, stats.Flooded, questions, rounds+1)
	// Twice the burst: one meter lets pass what the other one does not see.
	if most := 2*burstSeconds*rate + uint64((seconds+1)*float64(rate)); flooded > most || flooded < rate {
		t.Errorf("%d frames were flooded, wanted %d to %d", flooded, rate, most)
	}
	if stats.Flooded < flooded || stats.Unbounded {
		t.Errorf("counted %d dropped frames", stats.Flooded)
	}
	if n, err := CountFlooded(in.dir, spec.SwitchBridge, 5*time.Second); err != nil || n < stats.Flooded || n > stats.Flooded+frames {
		t.Errorf("the agent counts %d dropped frames (%v), wanted the %d that status does", n, err, stats.Flooded)
	}
	// What comes faster than ovs-vswitchd reads is lost before it, of every kind.
	if questions*frames < arrived*rounds/2 {
		t.Errorf("%d questions passed, wanted most of %d", questions, rounds)
	}
}

// quiet waits until the switch has worked off what was sent.
func (in *instance) quiet() {
	in.t.Helper()
	last := in.copiesAsOfTheKernel()
	waitUntil(in.t, "the switch to come to rest", func() bool {
		time.Sleep(300 * time.Millisecond)
		before := last
		last = in.copiesAsOfTheKernel()
		return last == before
	})
}

// answered counts the questions for a member that went to it.
func (in *instance) answered(id uint16) uint64 {
	in.t.Helper()
	in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "revalidator/purge") // brings the counters up to date
	flows, err := parseFlows([]byte(in.ofctl("dump-flows", "ovsbr-mobula", "table=22,arp,arp_tpa="+network.Ranges{}.GatewayAddress(id).String())))
	if err != nil || len(flows) != 1 {
		in.t.Fatal(flows, err)
	}
	return flows[0].packets
}

func TestMetersComeBack(t *testing.T) {
	in := startInstance(t)
	sw := example(1, idsUpTo(21, 1)...)
	in.apply(sw, nil)
	in.expect(sw, sw)
	const slow = "meter slowpath none → rate=5000 burst_size=10000"
	for _, damage := range []struct {
		args []string
		text string
	}{
		{[]string{"del-meters", sw.Bridge}, "~ switch flows: 1 missing, 0 too many; put right, meter 1 none → rate=5000 burst_size=10000, " + slow},
		{[]string{"del-meters", sw.Bridge, "meter=slowpath"}, "~ switch flows: " + slow},
		{[]string{"mod-meter", sw.Bridge, "meter=1 pktps burst stats bands=type=drop rate=9 burst_size=1"},
			"~ switch flows: meter 1 rate=9 burst_size=1 → rate=5000 burst_size=10000"},
		{[]string{"add-meter", sw.Bridge, "meter=2 kbps bands=type=drop rate=9"}, "~ switch flows: meter 2 kbps bands= type=drop rate=9 → none"},
	} {
		in.ofctl(damage.args...)
		in.expect(sw, sw, damage.text)
		// Without its meter a frame still goes to all.
		if to := strings.Fields(in.send(frame{from: "guest", src: guestA, dst: all}.flow())); len(to) != 21 {
			t.Errorf("%v: sent to %d places", damage.args, len(to))
		}
		in.apply(sw, sw)
		in.expect(sw, sw)
	}
	more := example(1, idsUpTo(22, 1)...)
	in.expect(more, sw, "~ switch flows: 21 hosts → 22 hosts (+ h22.example.com), "+
		"meter 1 rate=5000 burst_size=10000 → rate=4761 burst_size=9522, meter slowpath rate=5000 burst_size=10000 → rate=4761 burst_size=9522")
	in.apply(more, sw)
	in.expect(more, more)

	in.kill("ovs-vswitchd")
	in.startDaemon()
	waitUntil(t, "the bridge", func() bool { return answers(in.dir + "/ovsbr-mobula.mgmt") })
	in.expect(more, more, "+ switch flows: 22 hosts")
	in.apply(more, more)
	in.expect(more, more)
	alone := example(1, 1)
	in.apply(alone, more)
	in.expect(alone, alone)
	if out := in.ofctl("dump-meters", sw.Bridge); strings.Contains(out, "meter=") {
		t.Errorf("a single host has meters: %s", out)
	}
}
