//go:build ovs

package vswitch

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/plan"
)

var broadcastRemotes = flag.String("broadcast.remotes", "10,100", "numbers of other hosts for TestBroadcast")

// TestBroadcast measures what a frame to everybody costs, and a question for a
// member, and that every copy leaves. The tunnel is real; it leads to a veth whose
// other end counts.
func TestBroadcast(t *testing.T) {
	for _, text := range strings.Split(*broadcastRemotes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) { measureBroadcast(t, n) })
	}
}

func measureBroadcast(t *testing.T, remotes int) {
	in := startInstance(t)
	sw := example(1, idsUpTo(remotes+1, 1)...)
	in.apply(sw, nil)
	in.in("ip", "link", "add", "under1", "type", "veth", "peer", "name", "under2")
	in.in("ip", "link", "set", "under1", "up")
	in.in("ip", "link", "set", "under2", "up")
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "add-br", "under0", "--", "set", "Bridge", "under0", "datapath_type=netdev", "fail_mode=secure", "--", "add-port", "under0", "under1")
	in.in("ip", "addr", "add", "10.30.255.254/16", "dev", "under0")
	in.in("ip", "link", "set", "under0", "up")
	in.neighbors(sw.Remotes)
	in.ofctl("del-flows", "under0")
	in.ofctl("add-flow", "under0", "in_port=LOCAL,actions=output:1")
	for _, link := range []string{"mo-fac-ovs", "veth_fac0"} {
		in.in("ip", "link", "set", link, "up")
	}
	guest := newSender(t, in.namespace, "veth_fac0")
	everybody := ethernet(all, guestA, typed(0x88b5, make([]byte, 46)))
	question := ethernet(all, guestA, arpPacket{operation: 1, sha: guestA, spa: guestIP, tpa: "10.31.0.2"}.bytes())
	for _, m := range []struct {
		what   string
		frame  []byte
		copies int
	}{{"a frame to everybody", everybody, remotes}, {"a question for a member", question, 1}} {
		in.cost(t, guest, m.frame, 1, m.copies) // the first is translated
		const frames = 50
		t.Logf("%d remotes, %s: %d copies, %v of processor time each", remotes, m.what, m.copies, in.cost(t, guest, m.frame, frames, m.copies))
	}
}

// cost sends frames, waits for all their copies and returns the processor time that
// ovs-vswitchd needs for one. Copies are counted where the tunnel's packets enter the
// bridge below it: what the veth after it can take is not the switch's concern.
func (in *instance) cost(t *testing.T, guest *sender, frame []byte, frames, copies int) time.Duration {
	t.Helper()
	count := func() uint64 {
		in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "revalidator/purge") // brings the counters up to date
		flows, err := parseFlows([]byte(in.ofctl("dump-flows", "under0", "in_port=LOCAL")))
		if err != nil || len(flows) != 1 {
			t.Fatal(flows, err)
		}
		return flows[0].packets
	}
	before := count()
	used := in.processorTime(t)
	for i := 0; i < frames; i++ {
		guest.send(frame)
		time.Sleep(2*time.Millisecond + time.Duration(copies)*20*time.Microsecond)
	}
	processor := in.processorTime(t) - used
	waitUntil(t, fmt.Sprintf("%d copies of %d frames", copies, frames), func() bool { return count()-before >= uint64(frames*copies) })
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
func (in *instance) neighbors(remotes []plan.Remote) {
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
