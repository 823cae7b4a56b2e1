package system_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/system"
	"mobula/helper/internal/system/systemtest"
)

// host has all network managers, and the NIC with its address.
func host(t *testing.T) (*systemtest.Machine, *spec.Facts) {
	t.Helper()
	facts := plantest.Facts(spec.Ifupdown, spec.Networkd, spec.NetworkManager)
	facts.Program = spec.ProgramPath("0123456789abcdef")
	nothing := func(string) {}
	m := &systemtest.Machine{Root: t.TempDir(), Managers: facts.Managers, Uplink: facts.Uplink,
		Executable: func(string) bool { return true }, Namespace: func(string) bool { return true },
		Links:     func() []string { return []string{"lo", facts.Uplink} },
		Addresses: func(string) ([]netip.Prefix, error) { return facts.Addresses, nil },
		Release:   nothing, Take: nothing, Stopped: func() {}}
	own := facts.ResolvConf
	for _, err := range []error{m.PowerCycle(), m.Put(own.Path, own.Content, own.Mode), m.Put("/etc/network/interfaces", "iface eth0 inet dhcp\n", 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.StartManagers()
	return m, facts
}

// carryOut does the first of what differs, most of it at most, in order.
func carryOut(t *testing.T, m *systemtest.Machine, booting bool, want *spec.Host, most int) (all int) {
	t.Helper()
	r := &reconcile.Reconciler{Subjects: []reconcile.Subject{system.On(m.System(), "eth0", booting)}}
	ops, err := r.Plan(context.Background(), want, want)
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range ops {
		if i < most {
			if err := op.Do(context.Background()); err != nil {
				t.Fatalf("%s: %v", op, err)
			}
		}
	}
	return len(ops)
}

// TestInterruptedBeforeReading holds that all read what was changed, wherever whoever
// changed it was ended: also NetworkManager and networkd, which nobody can ask what they
// have read, and a host that boots.
func TestInterruptedBeforeReading(t *testing.T) {
	for _, coming := range []bool{true, false} {
		for _, booting := range []bool{true, false} {
			count := 1
			for n := 0; n < count; n++ {
				m, facts := host(t)
				with, err := plan.Build(plantest.Document(plantest.Host(1)), 1, *facts)
				if err != nil {
					t.Fatal(err)
				}
				without := plan.Without(*facts)
				without.Addresses, without.Services = nil, nil
				want := with
				if !coming {
					want = without
					carryOut(t, m, false, with, 1000)
				}
				count = carryOut(t, m, booting, want, n)
				for range []int{1, 2} {
					carryOut(t, m, booting, want, 1000)
				}
				if left := carryOut(t, m, booting, want, 0); left > 0 {
					t.Fatalf("%d operations are left", left)
				}
				fresh := reading(m)
				if err := m.PowerCycle(); err != nil {
					t.Fatal(err)
				}
				m.StartManagers()
				if again := reading(m); fresh != again {
					t.Errorf("coming %v, booting %v, ended after %d operations: have read\n%s\nwhat is there is\n%s", coming, booting, n, fresh, again)
				}
			}
			if count < 10 {
				t.Errorf("%d operations", count)
			}
		}
	}
}

// reading is who has read what, and the notes of who has not.
func reading(m *systemtest.Machine) string {
	text := ""
	for _, line := range strings.Split(m.String(), "\n") {
		if strings.Contains(line, "has not read") || strings.Contains(line, "leaves alone") {
			text += line + "\n"
		}
	}
	notes, _ := os.ReadDir(filepath.Join(m.Root, spec.RunDir, "unread"))
	return text + fmt.Sprint(notes)
}

// TestUnitsStart holds that the machine of tests starts units as systemd does, from
// what it has read, and not all of them.
func TestUnitsStart(t *testing.T) {
	m, facts := host(t)
	run := func(args ...string) error { _, err := m.Run(context.Background(), "systemctl", args...); return err }
	needs := func() string {
		out, err := m.Run(context.Background(), "systemctl", "show", "--property=Id,ActiveState,MainPID,NeedDaemonReload", spec.UnitAgent)
		if err != nil {
			t.Fatal(err)
		}
		return out[strings.Index(out, "NeedDaemonReload="):]
	}
	if err := run("start", spec.UnitAgent); err == nil {
		t.Error("started a unit without a file")
	}
	path := spec.UnitDir + spec.UnitAgent
	if err := m.Put(path, "[Service]\nExecStart="+facts.Program+" agent\n", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run("start", spec.UnitAgent); err != nil || m.Program(spec.UnitAgent) != facts.Program || needs() != "NeedDaemonReload=no\n" {
		t.Errorf("%v, runs %q, %q", err, m.Program(spec.UnitAgent), needs())
	}
	other := spec.ProgramPath("fedcba9876543210")
	if err := m.Put(path, "[Service]\nExecStart="+other+" agent\n", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run("restart", spec.UnitAgent); err != nil || m.Program(spec.UnitAgent) != facts.Program || needs() != "NeedDaemonReload=yes\n" {
		t.Errorf("not read again: %v, runs %q, %q", err, m.Program(spec.UnitAgent), needs())
	}
	if err := run("daemon-reload"); err != nil || m.Program(spec.UnitAgent) != facts.Program || needs() != "NeedDaemonReload=no\n" {
		t.Errorf("read, not started: %v, runs %q, %q", err, m.Program(spec.UnitAgent), needs())
	}
	if err := run("restart", spec.UnitAgent); err != nil || m.Program(spec.UnitAgent) != other {
		t.Errorf("%v, runs %q", err, m.Program(spec.UnitAgent))
	}
	m.Namespace = func(string) bool { return false }
	if err := m.Put(spec.UnitDir+spec.UnitVSwitch, "[Service]\nType=forking\nNetworkNamespacePath=/run/netns/mobula\nExecStart=/usr/sbin/ovs-vswitchd x\n", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run("start", spec.UnitVSwitch); err == nil || m.Running(spec.UnitVSwitch) {
		t.Error("the switch runs without its namespace")
	}
	m.Executable = func(string) bool { return false }
	if err := run("restart", spec.UnitAgent); err != nil || run("is-active", "--quiet", spec.UnitAgent) == nil {
		t.Errorf("without its program: %v, wanted no complaint and nothing that runs", err)
	}
}
