//go:build lab

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// moves counts how often a host's agent has left the direct path to a peer or come
// back to it, since it was started. Whom it has relay meanwhile is another matter.
func (w *world) moves(t *testing.T, host, peer string) int {
	t.Helper()
	out := w.on(t, host, `journalctl _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value mobula-agent) -o cat --no-pager | awk '/msg=path peer=`+w.Host(peer).FQDN()+` / {
		relayed = /relayed/ ? 1 : /direct path is|sends directly/ ? 0 : relayed
		moves += relayed != before
		before = relayed
	} END { print moves + 0 }'`)
	n, err := strconv.Atoi(out)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func noFlapping(t *testing.T, w *world) {
	allDirect(t, w)
	moves := func() int { return w.moves(t, "alice", "bob") + w.moves(t, "bob", "alice") }
	before := moves()
	m := w.packets(t, "alice", "bob")
	undo := w.broken(t, "alice", "bob", lab.Fault{LossPercent: 20})
	const during = 90 * time.Second
	time.Sleep(during)
	undo()
	moved := moves() - before
	t.Logf("20 %% loss for %v: %d moves\n%s", during, moved, lab.Table(w.struck(t, m, "alice", "bob", 2*time.Second)))
	if moved > 4 {
		t.Errorf("%d moves on a path with 20 %% loss", moved)
	}
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
	before = moves()
	m = w.packets(t, "alice", "bob")
	time.Sleep(2 * time.Second) // what is lost before the first packet arrives is not counted
	const times = 20
	for i := 0; i < times; i++ {
		undo := w.broken(t, "alice", "bob", lab.Fault{Drop: true})
		time.Sleep(time.Second)
		undo()
		time.Sleep(time.Second)
	}
	moved = moves() - before
	t.Logf("a path that comes and goes each second, %d times: %d moves\n%s", times, moved, lab.Table(w.struck(t, m, "alice", "bob", 3*time.Second)))
	if moved > 4 {
		t.Errorf("%d moves on a path that comes and goes", moved)
	}
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
}

// struck ends a meter. The fault must have lost packets between two hosts, but not
// all for so long, and none of the others'.
func (w *world) struck(t *testing.T, m *lab.Meter, a, b string, most time.Duration) []lab.FlowResult {
	t.Helper()
	results := w.stop(t, m)
	var lost, longest uint64
	for _, r := range results {
		if between(r.From, r.To, a, b) {
			lost, longest = lost+r.Lost, max(longest, r.LongestLoss)
		}
	}
	if lost == 0 {
		t.Errorf("nothing was lost between %s and %s: no fault struck", a, b)
	}
	if silent := time.Duration(longest) * packetEvery; silent >= most {
		t.Errorf("%s–%s: packets were lost for %v, wanted less than %v", a, b, silent, most)
	}
	if err := lab.Lossless(others(results, a, b)); err != nil {
		t.Errorf("the path of %s and %s was disturbed, and others lost packets: %v", a, b, err)
	}
	return results
}

func smallerMTU(t *testing.T, w *world) {
	const most = 20 * time.Second
	fullSize := func(count string) error {
		_, err := w.Host("alice").Run(w.ctx, "ping -M do -s 1412 -i 0.2 -W 1 -c "+count+" "+w.Host("bob").IntrawireAddress())
		return err
	}
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
	m := w.packets(t, "alice", "bob")
	undo := w.broken(t, "alice", "bob", lab.Fault{MTU: 1300})
	began := time.Now()
	if fullSize("1") == nil {
		t.Error("a packet of full size passed: no fault struck")
	}
	eventually(t, most, "a way for packets of full size", func() error { return fullSize("2") })
	path := w.pathTo(t, "alice", "bob")
	t.Logf("full-size packets pass again after %v, over %s", time.Since(began).Round(100*time.Millisecond), path)
	undo()
	results := w.stop(t, m)
	t.Logf("\n%s", lab.Table(results))
	if !strings.Contains(path, ".") { // a relay's name
		t.Errorf("the path is %s, wanted a relay", path)
	}
	if err := lab.Lossless(others(results, "alice", "bob")); err != nil {
		t.Errorf("others lost packets: %v", err)
	}
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
}

// longDelay makes a path slow. That is no reason to call a peer dead; whether a
// relay is faster is the engine's choice.
func longDelay(t *testing.T, w *world) {
	const delay, most = 500 * time.Millisecond, 3 * time.Second
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
	m := w.packets(t, "alice", "bob")
	before := w.moves(t, "alice", "bob")
	undo := w.broken(t, "alice", "bob", lab.Fault{Delay: delay})
	if took := w.pings(t, "alice", "bob", "-c 1 -W 4"); took < delay {
		t.Errorf("the first packet after the fault took %v: no fault struck", took)
	}
	time.Sleep(30 * time.Second)
	path := w.pathTo(t, "alice", "bob")
	took := w.pings(t, "alice", "bob", "-c 3 -i 0.3 -W 4")
	moved := w.moves(t, "alice", "bob") - before
	undo()
	results := w.stop(t, m)
	outage := longest(results, "alice", "bob", time.Time{}, forever)
	t.Logf("500 ms more on each packet: over %s, round trip %v, %d moves\n%s", path, took, moved, lab.Table(results))
	if path == "down" || path == "unknown" {
		t.Errorf("the path is %s, wanted one that works", path)
	}
	if lost := time.Duration(outage.Lost) * packetEvery; lost >= most || moved > 20 {
		t.Errorf("packets lost for %v and %d moves, wanted less than %v and at most 20", lost, moved, most)
	}
	w.waitDirect(t, 3*time.Minute, "alice", "bob")
}

// strangers sends to a relay port from an address that is no member's.
func strangers(t *testing.T, w *world) {
	port := 32768 + w.Host("bob").ID
	w.on(t, "bob", "ip netns exec mobula nft add table inet stranger; ip netns exec mobula nft 'add chain inet stranger in { type filter hook prerouting priority -400; }'; "+
		"ip netns exec mobula nft 'add rule inet stranger in @th,64,64 0x737472616e676572 counter'") // "stranger"
	defer w.on(t, "bob", "ip netns exec mobula nft delete table inet stranger")
	out, err := lab.Command(w.ctx, w.Namespace(), "python3", "-c", fmt.Sprintf(`
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
answers = 0
for _ in range(20):
    s.sendto(b"stranger" * 20, (%q, %d))
    try:
        s.recv(100); answers += 1
    except (TimeoutError, ConnectionRefusedError):
        pass
    s.settimeout(0.1)
print(answers)`, w.Host("alice").Address, port)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Errorf("a stranger at relay port %d got answers: %s %v", port, out, err)
	}
	if counted := w.on(t, "bob", "ip netns exec mobula nft list table inet stranger"); !strings.Contains(counted, "packets 0 ") {
		t.Errorf("a stranger's packets were relayed:\n%s", counted)
	}
}

// accessPackets starts packets between two hosts on the access network.
func (w *world) accessPackets(t *testing.T, a, b string) *lab.Meter {
	t.Helper()
	m, err := w.StartMeter(w.ctx, lab.Pairs([]*lab.Host{w.Host(a), w.Host(b)}, lab.HostSpec.AccessAddress), lab.MeterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	return m
}

// switchKilled: what is known to the kernel goes on while a daemon is started
// again. Hosts ask by ARP again 5 s after they have begun to talk.
func switchKilled(t *testing.T, w *world) {
	const most = 3 * time.Second
	for _, daemon := range []string{"ovs-vswitchd", "ovsdb-server"} {
		m := w.accessPackets(t, "alice", "bob")
		time.Sleep(6 * time.Second)
		since := w.clock(t, "alice")
		w.on(t, "bob", "kill -9 $(cat /run/mobula/ovs/"+daemon+".pid)")
		time.Sleep(12 * time.Second)
		w.whole(t, "bob", 30*time.Second)
		w.on(t, "alice", "ping -q -c 3 -i 0.2 -W 1 "+w.Host("bob").AccessAddress())
		results := w.stop(t, m)
		outage := longest(results, "alice", "bob", since, forever)
		t.Logf("%s killed: silent for %v\n%s", daemon, outage, lab.Table(results))
		if lost := time.Duration(outage.Lost) * m.Every; lost >= most {
			t.Errorf("%s killed: packets lost for %v, wanted less than %v", daemon, lost, most)
		}
	}
}

// whole waits until nothing differs from the plan.
func (w *world) whole(t *testing.T, host string, most time.Duration) {
	t.Helper()
	eventually(t, most, host+" as planned", func() error {
		out, err := w.Host(host).Run(w.ctx, "mobula plan")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// brokenByHand breaks one thing after another on bob. Each must be mended by itself, on
// real processors within seconds, and logged.
func brokenByHand(t *testing.T, w *world) {
	const inside = "ip netns exec mobula "
	for _, c := range []struct{ what, breaks, works string }{
		{"WireGuard device deleted", inside + "ip link del mo-wg-gw", "intrawire"},
		{"both veths deleted", "ip link del mo-dir-hs; ip link del veth_fac0", "intrawire"},
		{"bridge port set down", inside + "ip link set mo-dir-gw down", "intrawire"},
		{"address, route and rule deleted", inside + "ip route del 10.30.0.0/16; " + inside + "ip addr del 10.30.0.0/32 dev mo-dir-gw; ip rule del priority 1030", "intrawire"},
		{"nft rules flushed", inside + "nft flush chain inet mobula forward", "intrawire"},
		{"nft table and flows deleted", inside + "nft delete table inet mobula; " + inside + "env OVS_RUNDIR=/run/mobula/ovs ovs-ofctl -O OpenFlow14 del-flows ovsbr-mobula", "access"},
	} {
		address := w.Host("bob").IntrawireAddress()
		if c.works == "access" {
			address = w.Host("bob").AccessAddress()
		}
		if _, err := w.Host("bob").Console(w.ctx, c.breaks); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		began := time.Now()
		eventually(t, 90*time.Second, c.what+": mended", func() error {
			_, err := w.Host("alice").Run(w.ctx, "ping -q -c 3 -i 0.2 -W 1 "+address)
			return err
		})
		t.Logf("%-31s works again after %4.1f s", c.what, time.Since(began).Seconds())
		w.whole(t, "bob", time.Minute)
	}
	t.Logf("what bob logged:\n%s", w.on(t, "bob", "journalctl -u mobula-repair -o cat --no-pager | grep repaired | tail -20"))
}

func cablePulled(t *testing.T, w *world) {
	bob := w.Host("bob")
	if err := bob.SetLink(false); err != nil {
		t.Fatal(err)
	}
	const out = 10 * time.Second
	time.Sleep(out)
	if err := bob.SetLink(true); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, 30*time.Second, "bob after its cable was out", func() error {
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		_, err := w.Host("alice").Run(ctx, "ping -q -c 3 -i 0.2 -W 1 "+bob.IntrawireAddress())
		return err
	})
	t.Logf("cable out for %v: reachable %.1f s after it was back", out, time.Since(began).Seconds())
}

// addressChanges: to the others bob has another underlay address from one moment to
// the next, as behind a router that was given one, and then its old one again.
func addressChanges(t *testing.T, w *world) {
	allDirect(t, w)
	const was, is = "192.0.2.2", "192.0.2.77"
	in := "ip netns exec mobula "
	for _, name := range w.hosts {
		if name != "bob" { // there is no ARP for the new address
			w.on(t, name, in+"ip neigh replace "+is+" lladdr "+w.Host("bob").MAC()+" dev mo-ext-gw nud permanent")
			defer w.on(t, name, in+"ip neigh del "+is+" dev mo-ext-gw")
		}
	}
	m := w.packets(t, "alice", "bob")
	for _, c := range []struct{ what, endpoint, change string }{
		{"another address", is, `nft -f - <<'N'
table inet lab_moved {
	chain out { type filter hook postrouting priority 300; oifname mo-ext-gw udp sport 51820 ip saddr ` + was + ` ip saddr set ` + is + `; }
	chain in {
		type filter hook prerouting priority -450
		iifname mo-ext-gw udp dport 51820 ip daddr ` + was + ` drop
		iifname mo-ext-gw udp dport 51820 ip daddr ` + is + ` ip daddr set ` + was + `
	}
}
N
`},
		{"the old address", was, "nft delete table inet lab_moved"},
	} {
		w.waitDirect(t, 3*time.Minute, "alice", "bob")
		since := w.clock(t, "alice")
		w.on(t, "bob", in+c.change)
		time.Sleep(8 * time.Second)
		until := w.clock(t, "alice")
		for _, name := range w.hosts {
			if name == "bob" {
				continue
			}
			for _, p := range w.quick(t, name).Peers {
				if p.Name == w.Host("bob").FQDN() && (p.Relay != "" || p.Path == nil || p.Path.State != "up" || p.Endpoint != c.endpoint+":51820") {
					t.Errorf("bob has %s, and to %s: %+v, wanted a direct path to %s", c.what, name, p, c.endpoint)
				}
			}
		}
		results, err := m.Report(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		outage := longest(results, "alice", "bob", since, until)
		t.Logf("bob has %s: silent for %v", c.what, outage)
		if lost := time.Duration(outage.Lost) * m.Every; lost >= time.Second {
			t.Errorf("bob has %s: packets lost for %v, wanted less than 1 s", c.what, lost)
		}
	}
	t.Logf("\n%s", lab.Table(w.stop(t, m)))
}

// agentCost measures the agent while nothing but probes is on the network.
func agentCost(t *testing.T, w *world) {
	const seconds = 30
	out := w.on(t, "carol", fmt.Sprintf(`pid=$(systemctl show -p MainPID --value mobula-agent)
a=$(awk '{print $14+$15}' /proc/$pid/stat); sleep %d; b=$(awk '{print $14+$15}' /proc/$pid/stat)
echo $(awk '/VmRSS/{print $2}' /proc/$pid/status) $((b-a))`, seconds))
	var kilobytes, ticks int
	if _, err := fmt.Sscan(out, &kilobytes, &ticks); err != nil {
		t.Fatal(errors.Join(err, errors.New(out)))
	}
	t.Logf("agent with %d peers: %.1f MB resident, %.1f %% of an emulated core", len(w.hosts)-1, float64(kilobytes)/1024, float64(ticks)/float64(seconds))
	if kilobytes > 64<<10 {
		t.Errorf("the agent has %d kB, wanted at most 64 MB", kilobytes)
	}
	t.Logf("exposure: %s", w.on(t, "carol", "systemd-analyze security --no-pager mobula-agent.service | tail -1"))
}
