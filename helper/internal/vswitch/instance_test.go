//go:build ovs

package vswitch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// instance is an Open vSwitch of its own in a network namespace of its own,
// with the daemons as the systemd units start them.
type instance struct {
	*Switch
	t         *testing.T
	dir       string
	namespace string
	daemons   map[string]*exec.Cmd
	ranges    network.Ranges // of the frames that it plays
}

var instances atomic.Int32

// startInstance fails, and does not skip, where it cannot: whoever sets the
// build tag wants these tests.
func startInstance(t *testing.T) *instance {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the build tag ovs is for root")
	}
	in := prepareInstance(t)
	in.startDatabase()
	in.startDaemon()
	return in
}

func prepareInstance(t *testing.T) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovs") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	in := &instance{
		Switch: New(Options{RunDir: dir, DatapathType: "netdev", Program: "test"}), t: t, dir: dir, daemons: map[string]*exec.Cmd{},
		namespace: fmt.Sprintf("mobula-test-%d-%d", os.Getpid(), instances.Add(1)),
	}
	in.must("ip", "netns", "add", in.namespace)
	t.Cleanup(func() {
		for name := range in.daemons {
			in.kill(name)
		}
		in.must("ip", "netns", "delete", in.namespace)
		os.RemoveAll(dir)
	})
	in.in("ip", "link", "add", "veth_fac0", "type", "veth", "peer", "name", "mo-fac-ovs")
	in.must("ovsdb-tool", "create", in.dir+"/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
	return in
}

func (in *instance) startDatabase() {
	in.start("ovsdb-server", in.dir+"/conf.db", "--remote=punix:"+in.dir+"/db.sock")
}

func (in *instance) startDaemon() {
	in.t.Helper()
	waitUntil(in.t, "ovsdb-server", in.databaseRuns)
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "--no-wait", "set", "Open_vSwitch", ".", "other_config:"+restoreWait+"=true")
	in.start("ovs-vswitchd", "unix:"+in.dir+"/db.sock")
}

func (in *instance) start(name string, args ...string) {
	in.t.Helper()
	args = append([]string{"netns", "exec", in.namespace, name}, args...)
	cmd := exec.Command("ip", append(args, "--unixctl="+in.dir+"/"+name+".ctl", "--pidfile="+in.dir+"/"+name+".pid",
		"--no-chdir", "-vconsole:warn", "-vsyslog:off", "-vfile:off")...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+in.dir)
	log, err := os.OpenFile(in.dir+"/"+name+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		in.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.daemons[name] = cmd
}

// kill ends a daemon as a crash would.
func (in *instance) kill(name string) {
	_ = in.daemons[name].Process.Kill()
	_ = in.daemons[name].Wait()
	delete(in.daemons, name)
}

func (in *instance) must(name string, args ...string) string {
	in.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+in.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		in.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (in *instance) in(args ...string) {
	in.t.Helper()
	in.must("ip", append([]string{"netns", "exec", in.namespace}, args...)...)
}

func (in *instance) ofctl(args ...string) string {
	in.t.Helper()
	return in.must("ovs-ofctl", append([]string{"--protocols=OpenFlow15,OpenFlow14"}, args...)...)
}

// diff returns the operations and their text.
func (in *instance) diff(want, previous *spec.Switch) ([]reconcile.Operation, string) {
	in.t.Helper()
	ops, err := in.Diff(context.Background(), &spec.Host{Switch: want}, &spec.Host{Switch: previous})
	if err != nil {
		in.t.Fatal(err)
	}
	var lines []string
	for _, op := range ops {
		lines = append(lines, op.String())
	}
	return ops, strings.Join(lines, "\n")
}

// apply carries out all operations, removals last and from the end.
func (in *instance) apply(want, previous *spec.Switch) string {
	in.t.Helper()
	ops, text := in.diff(want, previous)
	var removals []reconcile.Operation
	for _, op := range ops {
		if op.Verb == reconcile.Remove {
			removals = append([]reconcile.Operation{op}, removals...)
			continue
		}
		in.do(op)
	}
	for _, op := range removals {
		in.do(op)
	}
	return text
}

func (in *instance) do(op reconcile.Operation) {
	in.t.Helper()
	for i := 0; i < 2; i++ { // a repetition succeeds
		if err := op.Do(context.Background()); err != nil {
			in.t.Fatalf("%s: %v\n%s", op, err, in.logs())
		}
	}
}

func (in *instance) logs() string {
	var all bytes.Buffer
	logs, _ := filepath.Glob(in.dir + "/*.log")
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		fmt.Fprintf(&all, "%s:\n%s", path, text)
	}
	return all.String()
}

// expect compares the operations of a Diff, without carrying them out.
func (in *instance) expect(want, previous *spec.Switch, lines ...string) {
	in.t.Helper()
	if _, text := in.diff(want, previous); text != strings.Join(lines, "\n") {
		in.t.Errorf("found:\n%s\nwanted:\n%s", text, strings.Join(lines, "\n"))
	}
}

var (
	traceOutput  = regexp.MustCompile(`^\s*(?:output:(\w+)|-> output port is (\w+)|(LOCAL))$`)
	traceTunnel  = regexp.MustCompile(`^\s*(?:set_field:([0-9.]+)->tun_dst|-> NXM_NX_TUN_IPV4_DST\[\] is now ([0-9.]+))$`)
	traceDropped = regexp.MustCompile(`^30\. .*cookie (0x[0-9a-f]+)$`)
)

// send asks the switch what it does with a frame, lets it learn from it, and
// returns where copies go: ports, hosts behind the tunnel, or the broken pin.
func (in *instance) send(flow string) string {
	in.t.Helper()
	out := in.must("ovs-appctl", "-t", in.dir+"/ovs-vswitchd.ctl", "ofproto/trace", "ovsbr-mobula", flow, "-generate")
	var all []string
	tunnel := ""
	for _, line := range strings.Split(out, "\n") {
		if m := traceTunnel.FindStringSubmatch(line); m != nil {
			tunnel = m[1] + m[2]
		} else if m := traceOutput.FindStringSubmatch(line); m != nil {
			where := m[1] + m[2] + m[3]
			switch where {
			case "1":
				where = tunnel
			case "65534":
				where = "LOCAL"
			}
			all = append(all, where)
		} else if strings.Contains(line, "skipping output to input port") {
			all = all[:len(all)-1]
		} else if m := traceDropped.FindStringSubmatch(line); m != nil {
			var cookie uint64
			fmt.Sscanf(m[1], "0x%x", &cookie)
			pin, origin, _ := droppedBy(cookie)
			all = append(all, fmt.Sprintf("%s from %s", pin, origin))
		}
	}
	if len(all) == 0 {
		return "nowhere"
	}
	return strings.Join(all, " ")
}

// inject lets a frame run through the flows so that it is counted. Only OpenFlow
// 1.5 can say which tunnel a frame came from.
func (in *instance) inject(from, frame string) {
	in.t.Helper()
	in.must("ovs-vsctl", "--db=unix:"+in.dir+"/db.sock", "set", "Bridge", "ovsbr-mobula", "protocols=OpenFlow14,OpenFlow15")
	in.ofctl("packet-out", "ovsbr-mobula", from+" packet="+frame+" actions=resubmit(,0)")
}

// waitUntil polls for what happens elsewhere soon.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	if err := waitFor(context.Background(), 20*time.Second, what, done); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
