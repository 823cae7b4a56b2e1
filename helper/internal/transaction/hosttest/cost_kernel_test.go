//go:build kernel

package hosttest

import (
	"context"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/transaction"
	ovs "mobula/helper/internal/vswitch"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/wireguard/wireguardtest"
)

// costProfiles is a folder for a profile of each thing that TestCost measures.
const costProfiles = "MOBULA_COST_PROFILES"

// costFigures is a file for what was measured.
const costFigures = "MOBULA_COST_FIGURES"

// costPeers is how many other hosts the network of TestCost has.
const costPeers = "MOBULA_COST_PEERS"

// TestCost measures what looks and changes cost a host with many peers, in processor time
// of this process and of those that it starts, beside that of the tools that print the same.
func TestCost(t *testing.T) {
	if os.Getenv(costFigures) == "" { // for the process that has the namespaces
		t.Setenv(costFigures, filepath.Join(t.TempDir(), "figures"))
	}
	if !netnstest.Alone(t) {
		figures, err := os.ReadFile(os.Getenv(costFigures))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("\n%s", figures)
		return
	}
	debug.SetGCPercent(400) // as the program does
	peers := 1000
	if text := os.Getenv(costPeers); text != "" {
		if _, err := fmt.Sscan(text, &peers); err != nil {
			t.Fatal(err)
		}
	}
	h, err := parse("1: classic")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.prepare(t); err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{true, false} {
		c := newCost(t, peers, shared)
		c.measure("apply of a new host", func() error { _, err := c.Apply(c.ctx(), c.change, c.options()); return err })
		c.measure("confirm", func() error { _, err := c.Confirm(c.ctx(), ""); return err })
		c.tooled = c.least("tools", c.tools)
		c.bounded("plan", func() error {
			_, err := c.plan()
			return err
		})
		c.bounded("unchanged apply", func() error {
			p, err := c.plan()
			if err == nil {
				err = c.Keep(c.ctx(), p)
			}
			return err
		})
		c.bounded("repair", func() error {
			did, err := c.Repair(c.ctx())
			if len(did) > 0 {
				err = fmt.Errorf("did %v", did)
			}
			return err
		})
		d := *c.change.Document
		d.Hosts = append(append([]network.Host{}, d.Hosts...), crowdHost(uint16(peers+2)))
		d.Serial++
		next := *c.change
		next.Document = &d
		c.measure("apply of one peer more", func() error { _, err := c.Apply(c.ctx(), &next, c.options()); return err })
		c.measure("rollback", func() error { return c.Rollback(c.ctx()) })
		c.change = &store.Change{HostID: 1, Down: true}
		c.measure("uninstall", func() error { _, err := c.Apply(c.ctx(), c.change, c.options()); return err })
		c.measure("confirm uninstall", func() error { _, err := c.Confirm(c.ctx(), ""); return err })
		c.daemons.stop()
	}
}

type cost struct {
	*bench
	daemons *daemons
	tooled  time.Duration
	shared  bool
}

func crowdHost(id uint16) network.Host {
	h := plantest.Host(id)
	var seed [32]byte
	seed[0] = 7
	binary.BigEndian.PutUint16(seed[1:], id)
	key, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		panic(err)
	}
	h.PublicKey = network.Key(key.PublicKey().Bytes())
	h.Name = h.Hostname
	return h
}

func newCost(t *testing.T, peers int, shared bool) *cost {
	t.Helper()
	kept := store.New(filepath.Join("/run", fmt.Sprint("kept", shared)))
	key, err := kept.Keys().Create()
	if err != nil {
		t.Fatal(err)
	}
	self := crowdHost(1)
	self.PublicKey, self.SharedUplink = key, shared
	hosts := []network.Host{self}
	for i := 0; i < peers; i++ {
		hosts = append(hosts, crowdHost(uint16(i+2)))
	}
	wg := &wireguardtest.Kernel{Link: func() (index any) {
		_ = netns.Do(spec.Namespace, func() error {
			found, err := net.InterfaceByName(spec.WireLink)
			if err == nil {
				index = found.Index
			}
			return err
		})
		return index
	}, Made: func() bool { return shared }}
	c := &cost{bench: &bench{T: t}, daemons: &daemons{t: t}, shared: shared}
	t.Cleanup(c.daemons.stop)
	c.change = &store.Change{HostID: 1, Document: plantest.Document(hosts...)}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	c.Host = &transaction.Host{
		Store: kept, Alarm: &c.clock, Run: store.New(spec.RunDir), Log: log, Survey: survey, Ways: links.Ways,
		SSHPorts: func(context.Context, network.Ranges) ([]uint16, error) { return []uint16{22}, nil },
		Reconciler: func(*spec.Facts, bool) *reconcile.Reconciler {
			all := []reconcile.Subject{c.daemons, firewall.New(spec.Namespace, spec.RunDir), firewall.NewDoorway(spec.RunDir), firewall.NewRelaying(spec.RunDir, links.Onward),
				ovs.New(ovs.Options{RunDir: spec.OVSDir, DatapathType: "netdev", Program: "test"}), links.New(withUserspaceSwitch{}), wireguard.On(wg, spec.WireLink, kept.Keys())}
			for i := range all {
				all[i] = timed{all[i], t}
			}
			return &reconcile.Reconciler{Log: log, Subjects: all}
		},
	}
	return c
}

// note adds a line to the figures.
func note(t *testing.T, format string, args ...any) {
	t.Helper()
	file, err := os.OpenFile(os.Getenv(costFigures), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(file, format+"\n", args...)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// timed says what a look of a subject costs, and what its dearest operations do.
type timed struct {
	reconcile.Subject
	t *testing.T
}

func (s timed) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	began := usedTime(s.t)
	ops, err := s.Subject.Diff(ctx, want, previous)
	note(s.t, "    look at %-10s %v", s.Name(), (usedTime(s.t) - began).Round(100*time.Microsecond))
	for i := range ops {
		op := ops[i]
		ops[i].Do = func(ctx context.Context) error {
			began := usedTime(s.t)
			err := op.Do(ctx)
			if used := usedTime(s.t) - began; used > 20*time.Millisecond {
				note(s.t, "    %v: %v", op, used.Round(100*time.Microsecond))
			}
			return err
		}
	}
	return ops, err
}

// mostLook is how many times as much as the tools a look may cost. It takes some 1.0 times
// as much where the NIC has moved, and 1.5 where it stays, with the ways to all others. What
// looks at each thing once more for each other one takes tens of times as much; less than
// that may be what else the processors do during a test.
const mostLook = 5

// bounded is least for what does no more than look.
func (c *cost) bounded(what string, do func() error) {
	c.Helper()
	if used := c.least(what, do); used > mostLook*c.tooled {
		c.Errorf("%s: found %v, wanted at most %d times the %v of the tools", what, used, mostLook, c.tooled)
	}
}

// least is the least of three measurements.
func (c *cost) least(what string, do func() error) time.Duration {
	c.Helper()
	return min(c.measure(what, do), c.measure(what, do), c.measure(what, do))
}

func (c *cost) measure(what string, do func() error) time.Duration {
	c.Helper()
	if dir := os.Getenv(costProfiles); dir != "" {
		file, err := os.Create(filepath.Join(dir, fmt.Sprintf("%v %s.prof", c.shared, what)))
		if err != nil {
			c.Fatal(err)
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			c.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	began, clock := usedTime(c.T), time.Now()
	if err := do(); err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	used := usedTime(c.T) - began
	ratio := ""
	if c.tooled > 0 {
		ratio = fmt.Sprintf("%.1f times the tools", used.Seconds()/c.tooled.Seconds())
	}
	note(c.T, "%-24s %8v, by the clock %v, %s", what, used.Round(time.Millisecond), time.Since(clock).Round(time.Millisecond), ratio)
	return used
}

func (c *cost) plan() (*transaction.Plan, error) {
	p, err := c.Plan(c.ctx(), c.change, c.options())
	if err == nil && len(p.Operations) > 0 {
		err = fmt.Errorf("found %v", p.Operations)
	}
	return p, err
}

// tools are those that print what a look compares, but for wg(8): it has no kernel here.
func (c *cost) tools() error {
	ofctl := exec.Command("ovs-ofctl", "--protocols=OpenFlow14", "dump-flows", spec.SwitchBridge)
	ofctl.Env = append(os.Environ(), "OVS_RUNDIR="+spec.OVSDir)
	err := ofctl.Run()
	for _, ns := range []string{"", spec.Namespace} {
		err = errors.Join(err, netns.Do(ns, func() error { return exec.Command("nft", "list", "ruleset").Run() }))
	}
	return err
}

func usedTime(t *testing.T) (used time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		used += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return used
}

// withUserspaceSwitch also takes the tap of Open vSwitch's own datapath for the kernel's.
type withUserspaceSwitch struct{ withoutWireGuard }

func (k withUserspaceSwitch) Observe(namespaces []string, table int, settings []spec.Setting) (*links.State, error) {
	s, err := k.withoutWireGuard.Observe(namespaces, table, settings)
	if err == nil {
		key := links.LinkKey{NS: spec.Namespace, Name: spec.SwitchBridge}
		if l, ok := s.Links[key]; ok {
			l.Kind = spec.Internal
			s.Links[key] = l
		}
		for _, name := range []string{"ovs-netdev", "ovs-tap"} {
			delete(s.Links, links.LinkKey{NS: spec.Namespace, Name: name})
		}
	}
	return s, err
}

// daemons are those of Open vSwitch, as the units start them.
type daemons struct {
	t   *testing.T
	all []*exec.Cmd
}

func (*daemons) Name() string { return "system" }

func (d *daemons) Diff(_ context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
	if want.Switch == nil || d.all != nil {
		return nil, nil
	}
	return []reconcile.Operation{{Step: reconcile.StepSwitch, Verb: reconcile.Add, Object: "service", Do: d.start}}, nil
}

func (d *daemons) start(context.Context) error {
	if err := os.MkdirAll(spec.OVSDir, 0o700); err != nil {
		return err
	}
	if out, err := exec.Command("ovsdb-tool", "create", spec.OVSDir+"/conf.db", "/usr/share/openvswitch/vswitch.ovsschema").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := d.run("ovsdb-server", spec.OVSDir+"/conf.db", "--remote=punix:"+spec.OVSDir+"/db.sock"); err != nil {
		return err
	}
	for !exists(spec.OVSDir + "/db.sock") {
		time.Sleep(10 * time.Millisecond)
	}
	if out, err := exec.Command("ovs-vsctl", "--db=unix:"+spec.OVSDir+"/db.sock", "--no-wait", "init").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return d.run("ovs-vswitchd", "unix:"+spec.OVSDir+"/db.sock")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (d *daemons) run(name string, args ...string) error {
	cmd := exec.Command(name, append(args, "--unixctl="+spec.OVSDir+"/"+name+".ctl", "--pidfile="+spec.OVSDir+"/"+name+".pid", "--no-chdir", "-vconsole:off", "-vsyslog:off", "-vfile:off")...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+spec.OVSDir)
	d.all = append(d.all, cmd)
	return netns.Do(spec.Namespace, cmd.Start)
}

func (d *daemons) stop() {
	for _, cmd := range d.all {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	d.all = nil
	if err := os.RemoveAll(spec.OVSDir); err != nil {
		d.t.Fatal(err)
	}
}
