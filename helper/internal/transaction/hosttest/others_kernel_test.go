//go:build kernel

package hosttest

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mobula/helper/internal/agent"
	"mobula/helper/internal/firewall"
	"mobula/helper/internal/links"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// back is how long what others take away may be away.
const back = time.Second

// beside is a host that keeps its NIC, with Mobula confirmed on it, its agent running, and
// other people's programs, which write in nobody else's files. Of the agent's unit for
// repairs there is only what it does.
type beside struct {
	*bench
	sync.Mutex // of who changes the host, as the helper's lock is
	repairs    []string
	// began and ended are of the last repair that did something.
	began, ended time.Time
	said         *log   // of the agent
	stop         func() // ends it
}

// log is what somebody says.
type log struct {
	sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.Lock()
	defer l.Unlock()
	return l.text.String()
}

// newBeside makes a host of this line and lets prepare change it before Mobula comes; nil
// in the process that only starts another one.
func newBeside(t *testing.T, line string, prepare ...func(*beside)) *beside {
	t.Helper()
	if !netnstest.Alone(t) {
		return nil
	}
	netnstest.Private(t, "/etc")
	h, err := parse(line)
	if err == nil {
		err = h.prepare(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := &beside{bench: newBench(t, h), said: &log{}}
	b.Ways = links.Ways
	for _, do := range prepare {
		do(b)
	}
	b.before = settled(t)
	b.change = b.staying()
	b.apply()
	b.confirm()
	b.stop = b.agent()
	return b
}

// agent runs until it is stopped or the test ends.
func (b *beside) agent() (stop func()) {
	b.Helper()
	said := slog.New(slog.NewTextHandler(b.said, nil))
	relaying := firewall.NewRelaying(spec.RunDir, links.Onward)
	a := &agent.Agent{Host: b.Host, Log: said, PrivateKey: b.Store.Keys().PrivateKey, Facts: b.Known, Repair: b.mend,
		Relaying: relaying, RelaysPath: firewall.RelaysPath(spec.RunDir), Ways: links.Ways, Superseded: func() bool { return false },
		Resolvers: func(network.Ranges) []netip.Addr { return nil }, AppliedPath: filepath.Join(spec.RunDir, "applied.json"), SwitchDir: spec.OVSDir, StatePath: "/run/state.sock"}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	b.Cleanup(stop)
	time.Sleep(time.Second) // it looks for what runs each quarter of one
	return stop
}

func (b *beside) mend(context.Context) error {
	began := time.Now()
	b.Lock()
	defer b.Unlock()
	did, err := b.Repair(b.ctx())
	if len(did) > 0 {
		b.repairs = append(b.repairs, did...)
		b.began, b.ended = began, time.Now()
	}
	return err
}

// uninstall keeps repairs away meanwhile, as the helper does.
func (b *beside) uninstall() {
	b.Helper()
	b.Lock()
	defer b.Unlock()
	b.bench.uninstall()
}

// left is what differs from the plan.
func (b *beside) left() (differences []string) {
	b.Helper()
	b.Lock()
	defer b.Unlock()
	ops, err := b.Differences(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	for _, op := range ops {
		differences = append(differences, op.String())
	}
	return differences
}

// isBack holds that a script takes something of Mobula's away, and that in time a repair
// begins after which it is there again. How long a repair takes is up to the machine.
func (b *beside) isBack(what, script string) {
	b.Helper()
	b.Lock()
	b.repairs = nil
	b.Unlock()
	run(b.T, script)
	done := time.Now()
	for {
		time.Sleep(50 * time.Millisecond)
		b.Lock()
		did, began, ended := b.repairs, b.began.Sub(done), b.ended.Sub(done)
		b.Unlock()
		if len(did) > 0 && len(b.left()) == 0 {
			b.Logf("%s: a repair began after %v and ended after %v; did %q", what, began, ended, did)
			if began > back {
				b.Errorf("%s: a repair began after %v, wanted %v at most", what, began, back)
			}
			return
		}
		if time.Since(done) > 20*back {
			b.Fatalf("%s: after %v differs %q, did %q", what, time.Since(done), b.left(), did)
		}
	}
}

// outside holds that the gateway gets outside through the host.
func (b *beside) outside(when string) {
	b.Helper()
	out, err := exec.Command("ip", "netns", "exec", spec.Namespace, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", b.made.gateway.String()).CombinedOutput()
	if err != nil {
		b.Errorf("%s the gateway does not get outside: %s\n%s", when, out, b.ways())
	}
}

// holds that nothing of Mobula's is taken away, and nothing repaired but relays, which
// follow the host's own routes.
func (b *beside) holds(when string) {
	b.Helper()
	time.Sleep(back)
	b.Lock()
	did := slices.DeleteFunc(b.repairs, func(op string) bool { return strings.Contains(op, " relays") })
	b.repairs = nil
	b.Unlock()
	if left := b.left(); len(left) > 0 || len(did) > 0 {
		b.Errorf("when %s: differs %q, repaired %q", when, left, did)
	}
}

func run(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("bash", "-euc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}
