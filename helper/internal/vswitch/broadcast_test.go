//go:build ovs

package vswitch

import (
	"context"
	"encoding/json"
	"flag"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

var broadcastRemotes = flag.String("broadcast.remotes", "10,100", "numbers of other hosts for TestBroadcast")

// ownTunnels is how many other hosts Open vSwitch's own datapath can tunnel to at once:
// it looks for more than 64 KiB of actions at each copy, the kernel's does not.
const ownTunnels = 700

// TestBroadcast measures what a frame to everybody costs, and a question for a
// member, and that every copy leaves: once with the actions that the kernel's datapath
// is given, and, where that is possible, once through real tunnels.
func TestBroadcast(t *testing.T) {
	for _, text := range strings.Split(*broadcastRemotes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) { measureBroadcast(t, n, false) })
		if n <= ownTunnels {
			t.Run(text+" through tunnels", func(t *testing.T) { measureBroadcast(t, n, true) })
		}
	}
}

func measureBroadcast(t *testing.T, remotes int, tunnels bool) {
	in := startInstance(t)
	in.tools.timeout = 5 * time.Minute // on a busy machine
	sw := example(1, idsUpTo(remotes+1, 1)...)
	in.apply(sw, nil)
	copies := in.copiesAsOfTheKernel
	if tunnels {
		in.underlay(sw.Remotes)
		copies = in.copiesInTunnels
	} else {
		in.actAsTheKernel()
	}
	guest := in.guest()
	for _, m := range []struct {
		what   string
		frame  []byte
		copies int
	}{{"a frame to everybody", toEverybody(), remotes}, {"a question for a member", aQuestion(2), 1}} {
		in.cost(t, guest, copies, m.frame, 1, m.copies) // the first is translated
		frames := min(1000, max(50, 20000/m.copies))
		t.Logf("%d remotes, %s: %d copies, %v of processor time each", remotes, m.what, m.copies, in.cost(t, guest, copies, m.frame, frames, m.copies))
	}
}

// TestEveryCopyLeaves: of a frame to everybody each host gets its copy, also where
// there are so many that the actions outgrow 64 KiB, and where all chunks are there, so
// that resubmits nest as deep as they can.
func TestEveryCopyLeaves(t *testing.T) {
	const remotes = 1200
	in := startInstance(t)
	sw := example(1, idsUpTo(remotes+1, 27)...)
	in.applyOnce(sw)
	in.actAsTheKernel()
	guest := in.guest()
	in.cost(t, guest, in.copiesAsOfTheKernel, toEverybody(), 3, remotes)
	in.cost(t, guest, in.copiesAsOfTheKernel, aQuestion(28), 3, 1)
	// A frame that goes through as many tables as there are.
	deep := frame{from: "guest", src: access, dst: "33:33:ff:00:00:01",
		more: "icmp6,ipv6_src=fe80::6d:6fff:fe02:1,icmpv6_type=135,icmpv6_code=0,nd_target=2001:db8::1,nd_sll=" + access}
	trace := in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "ofproto/trace", sw.Bridge, deep.flow(), "-generate")
	_, actions, _ := strings.Cut(trace, "Datapath actions: ")
	to := map[string]bool{}
	for _, m := range regexp.MustCompile(`set\(tunnel\(tun_id=0x7,dst=([0-9.]+),`).FindAllStringSubmatch(actions, -1) {
		to[m[1]] = true
	}
	for _, r := range sw.Remotes {
		if !to[r.Address.String()] {
			t.Errorf("no copy for %s", r.Address)
		}
	}
	if chunks := len(regexp.MustCompile(`(?m)^ *21\. `).FindAllString(trace, -1)); chunks != 32+1 || len(to) != remotes { // and the meter
		t.Errorf("found %d flows of table 21 and copies for %d hosts", chunks, len(to))
	}
}

func toEverybody() []byte { return ethernet(all, guestA, typed(0x88b5, make([]byte, 46))) }

func aQuestion(host uint16) []byte {
	return ethernet(all, guestA, arpPacket{operation: 1, sha: guestA, spa: guestIP, tpa: network.Ranges{}.GatewayAddress(host).String()}.bytes())
}

// guest connects a guest that says nothing of its own accord.
func (in *instance) guest() *sender {
	in.t.Helper()
	in.in("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	for _, link := range []string{"mo-fac-ovs", "veth_fac0"} {
		in.in("ip", "link", "set", link, "up")
	}
	return newSender(in.t, in.namespace, "veth_fac0")
}

// applyOnce repeats no operation, to save time.
func (in *instance) applyOnce(sw *spec.Switch) {
	in.t.Helper()
	ops, _ := in.diff(sw, nil)
	for _, op := range ops {
		if err := op.Do(context.Background()); err != nil {
			in.t.Fatal(err)
		}
	}
}

// actAsTheKernel gives Open vSwitch's own datapath the actions that the kernel's is
// given for tunnels. It carries them out up to the last one: it has no such port.
func (in *instance) actAsTheKernel() {
	in.t.Helper()
	in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "dpif/set-dp-features", "ovsbr-mobula", "tnl_push_pop", "false")
}

// copiesAsOfTheKernel counts what came as far as that.
func (in *instance) copiesAsOfTheKernel() uint64 {
	in.t.Helper()
	text := in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "coverage/read-counter", "datapath_drop_invalid_port")
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		in.t.Fatal(err)
	}
	return n
}

// underlay leads the tunnel to a veth.
func (in *instance) underlay(remotes []spec.Remote) {
	in.t.Helper()
	in.in("ip", "link", "add", "under1", "type", "veth", "peer", "name", "under2")
	in.in("ip", "link", "set", "under1", "up")
	in.in("ip", "link", "set", "under2", "up")
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "add-br", "under0", "--", "set", "Bridge", "under0", "datapath_type=netdev", "fail_mode=secure", "--", "add-port", "under0", "under1")
	in.in("ip", "addr", "add", "10.30.255.254/16", "dev", "under0")
	in.in("ip", "link", "set", "under0", "up")
	in.neighbors(remotes)
	in.ofctl("del-flows", "under0")
	in.ofctl("add-flow", "under0", "in_port=LOCAL,actions=output:1")
}

// copiesInTunnels counts where the tunnel's packets enter the bridge below it: what the
// veth after it can take is not the switch's concern.
func (in *instance) copiesInTunnels() uint64 {
	in.t.Helper()
	in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "revalidator/purge") // brings the counters up to date
	flows, err := parseFlows([]byte(in.ofctl("dump-flows", "under0", "in_port=LOCAL")))
	if err != nil || len(flows) != 1 {
		in.t.Fatal(flows, err)
	}
	return flows[0].packets
}

// cost sends frames, waits for all their copies and returns the processor time that
// ovs-vswitchd needs for one.
func (in *instance) cost(t *testing.T, guest *sender, count func() uint64, frame []byte, frames, copies int) time.Duration {
	t.Helper()
	before, used := count(), in.processorTime(t)
	for i := 0; i < frames; i++ {
		guest.send(frame)
		time.Sleep(2*time.Millisecond + time.Duration(copies)*20*time.Microsecond)
	}
	processor, want := in.processorTime(t)-used, uint64(frames*copies)
	if err := waitFor(context.Background(), time.Minute, "copies", func() bool { return count()-before >= want }); err != nil {
		t.Errorf("%d copies of %d frames left, wanted %d", count()-before, frames, want)
	}
	if n := count() - before; n > want {
		t.Errorf("%d copies of %d frames left, wanted %d", n, frames, want)
	}
	return processor / time.Duration(frames)
}

func (in *instance) processorTime(t *testing.T) time.Duration {
	t.Helper()
	pid := strings.TrimSpace(in.must("cat", in.dir+"/ovs-vswitchd.pid"))
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// neighbors tells the switch the Ethernet addresses of the tunnel's other ends.
func (in *instance) neighbors(remotes []spec.Remote) {
	in.t.Helper()
	conn, err := net.Dial("unix", in.dir+"/ovs-vswitchd.ctl")
	if err != nil {
		in.t.Fatal(err)
	}
	defer conn.Close()
	encode, decode := json.NewEncoder(conn), json.NewDecoder(conn)
	for i, r := range remotes {
		call := map[string]any{"id": i, "method": "tnl/neigh/set", "params": []string{"under0", r.Address.String(), "52:54:00:30:00:01"}}
		var reply struct{ Error any }
		if err := encode.Encode(call); err != nil {
			in.t.Fatal(err)
		}
		if err := decode.Decode(&reply); err != nil || reply.Error != nil {
			in.t.Fatal(err, reply.Error)
		}
	}
}
