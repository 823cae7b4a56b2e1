//go:build kernel

package hosttest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
)

// TestOthersDhcpcd: dhcpcd has all interfaces, runs when Mobula comes and is started again.
// It never asks guests for anything, and the NIC keeps what it has.
func TestOthersDhcpcd(t *testing.T) {
	t.Parallel()
	var stop func()
	var before, uplink string
	start := func() { stop = netnstest.Daemon(t, "", "dhcpcd -B", "pgrep -x dhcpcd && sleep 2") }
	b := newBeside(t, "1: classic", func(b *beside) {
		b.with(spec.Dhcpcd, "dhcpcd")
		run(t, `mount -t tmpfs none /var/lib/dhcpcd; mkdir /run/dhcpcd
printf 'nodev\nnoipv6\ninterface `+b.made.uplink+`\nstatic ip_address=192.0.2.10/24\nstatic routers=192.0.2.1\n' >/etc/dhcpcd.conf; touch -d 2026-01-01 /etc/dhcpcd.conf`)
		start()
		before, uplink = run(t, "cat /etc/dhcpcd.conf; stat -c %Y /etc/dhcpcd.conf"), run(t, ofNIC(b))
	})
	if b == nil {
		return
	}
	quiet := func(when string) {
		t.Helper()
		time.Sleep(9 * time.Second) // it asks within 2 s, and takes an address of its own 5 s later
		if got := run(t, "ip -o -4 addr show dev mo-dir-hs; ip -o -4 addr show dev veth_fac0; ip route"); strings.Contains(got, "169.254.") {
			t.Errorf("%s it has Mobula's links:\n%s", when, got)
		}
		if got := run(t, ofNIC(b)); got != uplink {
			t.Errorf("%s the NIC has\n%s\nand had\n%s", when, got, uplink)
		}
		b.holds(when)
		b.outside(when)
	}
	quiet("Mobula comes")
	stop()
	start()
	quiet("it is started again")
	b.uninstall()
	if after := run(t, "cat /etc/dhcpcd.conf; stat -c %Y /etc/dhcpcd.conf"); after != before {
		t.Errorf("its file was\n%s\nand is\n%s", before, after)
	}
}

// ofNIC tells what the NIC has, without how dhcpcd makes the route to its network.
func ofNIC(b *beside) string {
	return "ip -4 addr show dev " + b.made.uplink + " | sed 's/noprefixroute //'; ip route show default"
}

// with gives the host a network manager, whose files and reading are real. There is no
// systemd here.
func (b *beside) with(manager spec.Manager, unit string) {
	found := b.Survey
	b.Survey = func(ctx context.Context, ranges network.Ranges, self network.Host, known *spec.Facts) (*spec.Facts, error) {
		facts, err := found(ctx, ranges, self, known)
		if facts != nil {
			facts.Managers = []spec.Manager{manager}
		}
		return facts, err
	}
	others := b.Reconciler
	m := system.Machine{WriteFile: store.WriteFile, Run: func(_ context.Context, name string, args ...string) (string, error) {
		switch {
		case name == "systemctl" && args[0] == "is-active" && args[len(args)-1] == unit+".service":
			return "", nil
		case name == "systemctl" && args[0] == "kill" && slices.Contains(args, "--signal=HUP"):
			out, err := exec.Command("pkill", "-HUP", "-x", "--ns", strconv.Itoa(os.Getpid()), "--nslist", "net", unit).CombinedOutput()
			return string(out), err
		}
		return "", errors.New("there is none")
	}}
	b.Reconciler = func(facts *spec.Facts, booting bool) *reconcile.Reconciler {
		r := others(facts, booting)
		r.Subjects = append(r.Subjects, only{system.On(m, "", true), unit})
		return r
	}
}

// only are the operations of a subject that are about a name.
type only struct {
	reconcile.Subject
	name string
}

func (o only) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	ops, err := o.Subject.Diff(ctx, want, previous)
	return slices.DeleteFunc(ops, func(op reconcile.Operation) bool { return !strings.Contains(op.Object, o.name) }), err
}
