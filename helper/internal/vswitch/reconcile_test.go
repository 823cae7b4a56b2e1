//go:build ovs

package vswitch

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

func TestFromNothingToNothing(t *testing.T) {
	in := prepareInstance(t)
	three, none := example(1, 1, 2, 256), (*spec.Switch)(nil)
	in.expect(none, nil)
	all := []string{
		"+ switch bridge ovsbr-mobula: MAC 02:6d:6f:01:00:01, MTU 1386",
		"+ switch port mo-fac-ovs",
		"+ switch port mo-geneve: geneve, UDP 6254, VNI 7",
		"+ switch flows: 3 hosts",
	}
	in.expect(three, nil, all...) // no daemon
	ops, _ := in.diff(three, nil)
	in.startDatabase()
	waitUntil(t, "ovsdb-server", in.databaseRuns)
	in.expect(three, nil, all...) // half of them
	in.startDaemon()              // the operations wait for it
	for _, op := range ops {
		in.do(op)
	}
	in.expect(three, nil)
	in.expect(three, three)

	in.apply(none, three)
	in.expect(none, three)
	in.expect(none, nil)
}

func TestSettings(t *testing.T) {
	in := startInstance(t)
	was := example(1, 1, 2)
	in.apply(was, nil)
	for _, step := range []struct {
		change     func(*spec.Switch)
		text       string
		interrupts int
	}{
		{func(s *spec.Switch) { s.MTU = 1286 }, "~ switch bridge ovsbr-mobula: MTU 1386 → 1286", 0},
		{func(s *spec.Switch) { s.VNI = 8 }, "~ switch port mo-geneve: key 7 → 8", 1},
		{func(s *spec.Switch) { s.UDPPort = 6081 }, "~ switch port mo-geneve: dst_port 6254 → 6081", 1},
	} {
		now := *was
		step.change(&now)
		ops, text := in.diff(&now, was)
		if text != step.text || ops[0].Interrupts != step.interrupts || ops[0].Step != reconcile.StepSwitch {
			t.Errorf("found %q, interrupts %d", text, ops[0].Interrupts)
		}
		in.apply(&now, was)
		in.expect(&now, was)
		was = &now
	}
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "set-fail-mode", "ovsbr-mobula", "standalone",
		"--", "set", "Interface", "mo-geneve", "options:csum=true", "options:tos=inherit")
	in.expect(was, was, "~ switch bridge ovsbr-mobula: fail_mode standalone → secure",
		"~ switch port mo-geneve: csum true → false, tos inherit → none",
		// Open vSwitch drops flows and meters when the fail mode changes.
		fmt.Sprintf("~ switch flows: %d missing, 1 too many; put right, ", len(mustPipeline(t, was)))+
			"meter 1 none → rate=5000 burst_size=10000, meter slowpath none → rate=5000 burst_size=10000")
	in.apply(was, was)
	in.expect(was, was)
}

// A port that took the number of a wanted one gives way.
func TestPortsComeAndGo(t *testing.T) {
	in := startInstance(t)
	one := example(1, 1, 2)
	in.apply(one, nil)
	in.in("ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1")
	two := example(1, 1, 2)
	two.LocalPorts = []string{"lab0", "mo-fac-ovs"}
	in.expect(two, one, "+ switch port lab0", "~ switch port mo-fac-ovs: requested port 2 → 3, port 2 → 3",
		"~ switch flows: 28 missing, 6 too many; put right")
	in.apply(two, one)
	in.expect(two, two)
	in.expect(one, two, "~ switch port mo-fac-ovs: requested port 3 → 2, port 3 → 2",
		"~ switch flows: 6 missing, 28 too many; put right", "- switch port lab0")
	in.apply(one, two)
	in.expect(one, one)

	missing := example(1, 1, 2)
	missing.LocalPorts = []string{"mo-fac-ovs", "nosuch0"}
	ops, _ := in.diff(missing, one)
	if err := ops[0].Do(context.Background()); err == nil || !strings.Contains(err.Error(), "No such device") {
		t.Errorf("found %v, wanted what is wrong with the port", err)
	}
	in.expect(one, one, "- switch port nosuch0")
}

func TestFlowsComeBack(t *testing.T) {
	in := startInstance(t)
	three := example(1, 1, 2, 256)
	in.apply(three, nil)
	learn := func() {
		in.send(frame{from: "10.30.0.2", src: guestA, dst: all}.flow())
		if to := in.send(frame{from: "guest", src: guestB, dst: guestA}.flow()); to != "10.30.0.2" {
			t.Fatalf("a learned station is sent to %s", to)
		}
	}
	learn()
	stillLearned := func() {
		t.Helper()
		if to := in.send(frame{from: "gateway", src: gateway, dst: guestA}.flow()); to != "10.30.0.2" {
			t.Errorf("what was learned is gone: %s", to)
		}
	}
	for _, damage := range []struct {
		name string
		args []string
		text string
	}{
		{"deleted", []string{"del-flows", "ovsbr-mobula", "table=20,in_port=1,reg1=0"}, "~ switch flows: 1 missing, 0 too many; put right"},
		{"added", []string{"add-flow", "ovsbr-mobula", "table=0,priority=999,actions=drop"}, "~ switch flows: 0 missing, 1 too many; put right"},
		{"added among the learned", []string{"add-flow", "ovsbr-mobula", "table=10,priority=9,cookie=5,actions=drop"}, "~ switch flows: 0 missing, 1 too many; put right"},
		{"in the cloak of the learned", []string{"add-flow", "ovsbr-mobula", "table=0,priority=999,cookie=0x6d6f030000000000,actions=drop"}, "~ switch flows: 0 missing, 1 too many; put right"},
		{"changed under its cookie", []string{"--strict", "mod-flows", "ovsbr-mobula", "table=20,priority=0,actions=drop"}, "~ switch flows: changed by somebody else; put back"},
	} {
		in.ofctl(damage.args...)
		in.expect(three, three, damage.text)
		in.apply(three, three)
		in.expect(three, three)
		stillLearned()
	}

	in.kill("ovs-vswitchd")
	in.expect(three, three, "+ switch flows: 3 hosts")
	in.startDaemon()
	waitUntil(t, "the bridge", func() bool { return answers(in.dir + "/ovsbr-mobula.mgmt") })
	in.expect(three, three, "+ switch flows: 3 hosts")
	start := time.Now()
	in.apply(three, three)
	t.Logf("flows back in %v", time.Since(start))
	in.expect(three, three)
	learn()

	// Whoever put them back ended before the daemon could go on.
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "--no-wait", "set", "Open_vSwitch", ".", "other_config:"+restoreWait+"=true")
	in.expect(three, three, "~ switch flows: there, but the kernel is not told of them")
	in.apply(three, three)
	in.expect(three, three)
	stillLearned()
}

// TestPlannedFlows holds that flows are computed again unless all is as it was noted: by
// the same program, from the same plan, for these very flows.
func TestPlannedFlows(t *testing.T) {
	in := startInstance(t)
	two, three := example(1, 1, 2), example(1, 1, 2, 3)
	in.apply(two, nil)
	noted := func() string {
		return strings.Trim(in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "get", "Bridge", "ovsbr-mobula", "external_ids:"+plannedKey), "\"\n")
	}
	ofTwo := noted()
	if ofTwo == "" {
		t.Fatal("nothing was noted")
	}
	in.apply(three, two)
	// A version that does not know the note leaves it where it is.
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "set", "Bridge", "ovsbr-mobula", "external_ids:"+plannedKey+"="+ofTwo)
	in.expect(two, three, "~ switch flows: 3 hosts → 2 hosts (- h3.example.com)")
	in.expect(three, three)
	other := *in
	other.Switch = New(Options{RunDir: in.dir, DatapathType: "netdev", Program: "other"})
	other.expect(three, three)
	if a, b := in.planned(*two, true, 1024, "x"), other.planned(*two, true, 1024, "x"); a == b {
		t.Error("another program takes flows for its own")
	}
}

func TestHostsComeAndGo(t *testing.T) {
	in := startInstance(t)
	two, three, other := example(1, 1, 2), example(1, 1, 2, 256), example(1, 1, 3, 4, 5, 6, 7)
	in.apply(two, nil)
	in.send(frame{from: "10.30.0.2", src: guestA, dst: all}.flow())
	const pinned = "ffffffffffff" + "026d6f010002" + "88b50000"
	in.inject("in_port=2", pinned)
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "set", "Bridge", "ovsbr-mobula", "protocols=OpenFlow14")

	in.expect(three, two, "~ switch flows: 2 hosts → 3 hosts (+ h256.example.com)")
	in.apply(three, two)
	in.expect(three, three)
	if to := in.send(frame{from: "gateway", src: gateway, dst: guestA}.flow()); to != "10.30.0.2" {
		t.Errorf("a new host made the switch forget: %s", to)
	}
	if stats, err := in.Stats(context.Background()); err != nil || stats.DroppedPackets() != 1 {
		t.Errorf("a new host reset the counters: %v %v", stats.Dropped, err)
	}
	in.expect(two, three, "~ switch flows: 3 hosts → 2 hosts (- h256.example.com)")
	in.expect(two, nil, "~ switch flows: 3 hosts → 2 hosts (- 10.30.1.0)")
	in.expect(other, three, "~ switch flows: 3 hosts → 6 hosts (+ h3.example.com, + h4.example.com, + h5.example.com, + h6.example.com, 3 more)")
	in.apply(two, three)
	in.expect(two, two)
}

// A walk over wanted states: whatever was, one apply leads to what is wanted,
// and then nothing differs.
func TestRandomWalk(t *testing.T) {
	in := startInstance(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	in.in("ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1")
	var previous *spec.Switch
	for i := 0; i < 40; i++ {
		var want *spec.Switch
		if random.Intn(8) > 0 {
			ids := random.Perm(20)
			var members []uint16
			for _, id := range ids[:random.Intn(len(ids))] {
				members = append(members, uint16(1+id*97))
			}
			want = example(1, append(members, 1)...)
			want.VNI, want.MTU = uint32(7+random.Intn(2)), 1386+random.Intn(2)
			want.LocalPorts = [][]string{{"mo-fac-ovs"}, {"lab0", "mo-fac-ovs"}, {"mo-fac-ovs", "lab0"}, {"lab0"}, nil}[random.Intn(5)]
		}
		switch random.Intn(6) {
		case 0:
			in.kill("ovs-vswitchd")
			in.startDaemon()
		case 1:
			previous = nil
		}
		text := in.apply(want, previous)
		if _, left := in.diff(want, want); left != "" {
			t.Fatalf("step %d: after\n%s\nthere is left\n%s\n%s", i, text, left, in.logs())
		}
		previous = want
	}
}

// A running ping loses nothing while hosts come and go and while flows are put
// back.
func TestChangesLoseNothing(t *testing.T) {
	in := startInstance(t)
	two, three := example(1, 1, 2), example(1, 1, 2, 256)
	in.apply(two, nil)
	host := in.namespace + "h"
	in.must("ip", "netns", "add", host)
	t.Cleanup(func() { in.must("ip", "netns", "delete", host) })
	in.in("ip", "link", "set", "veth_fac0", "netns", host)
	in.in("ip", "link", "set", "mo-fac-ovs", "up")
	in.in("ip", "addr", "add", "10.31.0.1/16", "dev", "ovsbr-mobula")
	in.in("ip", "link", "set", "ovsbr-mobula", "up")
	in.must("ip", "-n", host, "link", "set", "veth_fac0", "address", access, "up")
	in.must("ip", "-n", host, "addr", "add", "10.31.128.1/16", "dev", "veth_fac0")
	ping := exec.Command("ip", "netns", "exec", host, "ping", "-n", "-i", "0.01", "10.31.0.1")
	out, err := ping.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	answered, until := make(chan []int, 1), make(chan struct{})
	go func() { answered <- answersTo(out, until) }()
	time.Sleep(300 * time.Millisecond)
	for i := 0; i < 5; i++ {
		in.apply(three, two)
		in.ofctl("add-flow", "ovsbr-mobula", "table=0,priority=1,cookie=0x77,actions=drop")
		in.apply(two, three)
	}
	close(until)
	patience := time.AfterFunc(10*time.Second, func() { _ = ping.Process.Kill() })
	all := <-answered
	if !patience.Stop() {
		t.Error("nothing was answered in the end")
	}
	_ = ping.Process.Kill()
	_ = ping.Wait()
	t.Logf("%d packets", len(all))
	for i, number := range all {
		if number != i+1 {
			t.Fatalf("packet %d was lost, or overtaken: %v", i+1, all)
		}
	}
}

// answersTo returns the numbers of the packets that ping(8) says were answered, and ends with
// the tenth after until, which was sent later: what is on its way when ping ends is not lost.
func answersTo(out io.Reader, until <-chan struct{}) (all []int) {
	for lines, more := bufio.NewScanner(out), 10; more > 0 && lines.Scan(); {
		_, after, found := strings.Cut(lines.Text(), "icmp_seq=")
		if !found || strings.Contains(after, "DUP") {
			continue
		}
		number, _, _ := strings.Cut(after, " ")
		n, _ := strconv.Atoi(number)
		all = append(all, n)
		select {
		case <-until:
			more--
		default:
		}
	}
	return all
}

// The largest network that the design speaks of.
func TestThreeThousandHosts(t *testing.T) {
	in := startInstance(t)
	large := example(1, idsUpTo(3000, 1)...)
	start := time.Now()
	in.apply(large, nil)
	t.Logf("%d flows: first apply (each operation done twice) %v", len(mustPipeline(t, large)), time.Since(start))
	start = time.Now()
	in.expect(large, large)
	t.Logf("unchanged: %v", time.Since(start))
	larger := example(1, idsUpTo(3001, 1)...)
	start = time.Now()
	in.expect(larger, large, "~ switch flows: 3000 hosts → 3001 hosts (+ h3001.example.com)")
	in.apply(larger, large)
	t.Logf("one more host: %v", time.Since(start))
	start = time.Now()
	to := in.send(frame{from: "guest", src: guestA, dst: all}.flow())
	t.Logf("broadcast to %d places: %v", len(strings.Fields(to)), time.Since(start))
	if n := len(strings.Fields(to)); n != 3001 {
		t.Errorf("a broadcast goes to %d places, wanted the gateway and 3000 hosts", n)
	}
	last := network.Ranges{}.IntrawireAddress(3001).String()
	if to := in.send(frame{from: last, src: guestB, dst: all}.flow()); to != "LOCAL 2" {
		t.Errorf("a broadcast from the last host goes to %s", to)
	}
	if to := in.send(frame{from: "guest", src: guestA, dst: guestB}.flow()); to != last {
		t.Errorf("an answer goes to %s", to)
	}
	start = time.Now()
	in.kill("ovs-vswitchd")
	in.startDaemon()
	in.apply(larger, larger)
	t.Logf("restarted and flows back (done twice): %v", time.Since(start))
}
