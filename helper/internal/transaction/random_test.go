package transaction

import (
	"flag"
	"fmt"
	"math/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

var (
	seed        = flag.Int64("seed", 0, "seed of the random transitions; 0: a new one")
	transitions = flag.Int("transitions", 3000, "number of random transitions; a tenth with -short")
)

// journey is a random walk of one host, with what it has to be at any time.
type journey struct {
	*world
	rand   *rand.Rand
	serial int64
	// ends are what the changes lead to, each found on a host of its own.
	ends  map[string]string
	lines []string // what happened, for the reader of a failure
	own   func(*world)
}

// TestRandomTransitions applies, confirms, takes back, boots, repairs, removes
// and damages in random order, with random faults. Whenever the host has come to
// rest it is exactly what its store says, and reachable.
func TestRandomTransitions(t *testing.T) {
	if *seed == 0 {
		*seed = time.Now().UnixNano()
	}
	t.Logf("-seed=%d", *seed)
	r := rand.New(rand.NewSource(*seed))
	facts := []*spec.Facts{plantest.Facts(managers...), plantest.FactsWithAll(managers...)}[r.Intn(2)]
	j := &journey{world: newWorldOf(t, facts), rand: r, ends: map[string]string{}}
	j.own = j.takeKey()
	j.ends["none"] = j.String()
	struck, most := 0, *transitions
	if testing.Short() {
		most /= 10
	}
	for i := 0; i < most; i++ {
		if j.transition() {
			struck++
		}
	}
	t.Logf("%d transitions, %d faults struck, %d different states", most, struck, len(j.ends))
}

func (j *journey) anyChange() *store.Change {
	j.serial++
	var others []uint16
	for id := uint16(2); id < 6; id++ {
		if j.rand.Intn(2) == 0 {
			others = append(others, id)
		}
	}
	c := j.document(j.serial, func(h *network.Host) { h.ManualAccess = j.rand.Intn(3) == 0 }, append(others, 9)...)
	if j.rand.Intn(3) == 0 {
		h := &c.Document.Hosts[len(c.Document.Hosts)-1]
		h.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(j.rand.Intn(3))}), 51820)
	}
	return c
}

func (j *journey) fail(format string, args ...any) {
	j.Helper()
	last := j.lines
	if len(last) > 12 {
		last = last[len(last)-12:]
	}
	j.Fatalf("-seed=%d\n%s\nsteps: %s\n%s", *seed, strings.Join(last, "\n"), strings.Join(j.steps, "; "), fmt.Sprintf(format, args...))
}

// transition does one thing and lets the host come to rest. It reports whether a
// fault struck.
func (j *journey) transition() bool {
	j.Helper()
	pending, confirmed, err := j.host.changes()
	if err != nil {
		j.fail("%v", err)
	}
	if j.rand.Intn(6) == 0 { // somebody works with another version
		j.become([]string{programNow, programOther}[j.rand.Intn(2)])
	}
	name, do := j.anyAct(pending)
	name += " by " + j.program
	f := fault{}
	if j.rand.Intn(2) == 0 {
		kinds := []faultKind{failure, killed, powerCut, failures}
		f = fault{1 + j.rand.Intn([]int{4, 12, 60}[j.rand.Intn(3)]), j.rand.Intn(2) == 0, kinds[j.rand.Intn(len(kinds))]}
	}
	j.lines = append(j.lines, fmt.Sprintf("pending %s, confirmed %s: %s, %s", pending.Generation(), confirmed.Generation(), name, f))
	j.with(f)
	actErr, dead := j.run(do)
	struck := f.step > 0 && len(j.steps) >= f.step
	if actErr != nil && !struck && !strings.HasPrefix(name, "apply another") {
		j.fail("%s: %v", name, actErr)
	}
	j.fault = fault{}
	switch {
	case dead == powerCut, struck && strings.HasPrefix(name, "boot"):
		err = j.boot()
	case struck && strings.HasPrefix(name, "repair"):
		err = j.repair()
	case struck || j.rand.Intn(4) == 0:
		j.ring()
	}
	if err != nil {
		j.fail("afterwards: %v", err)
	}
	j.rest()
	return struck
}

func (j *journey) anyAct(pending *store.Change) (string, func() error) {
	change := j.anyChange()
	switch n := j.rand.Intn(12); {
	case n < 4 && pending != nil:
		return "apply another", func() error { return doApply(j.world, change) }
	case n < 4:
		return "apply", func() error { return doApply(j.world, change) }
	case n < 7 && pending != nil:
		return "confirm", func() error { return doConfirm(j.world, pending) }
	case n < 8:
		return "rollback", func() error { return j.host.Rollback(ctx) }
	case n < 9:
		return "boot", j.boot
	case n < 10 && pending == nil:
		return "down", func() error { return doApply(j.world, down) }
	case n < 11:
		j.damage()
		return "repair", j.repair
	case pending != nil && (pending.Down || pending.Helper == j.program):
		return "apply again", func() error { return doApply(j.world, pending) }
	case pending != nil:
		return "apply another", func() error { return doApply(j.world, change) }
	}
	return "apply", func() error { return doApply(j.world, change) }
}

// repair is what the unit does, if there is one.
func (j *journey) repair() error {
	if program := j.named(spec.UnitRepair); program != "" {
		return j.do(program, "repair")
	}
	return nil
}

// damage does what a careless hand does to a running host.
func (j *journey) damage() {
	if running, _ := j.host.Running(); running == nil {
		return
	}
	switch j.rand.Intn(4) {
	case 0:
		// Somebody loads rules of their own, or takes all away.
		script := []string{"delete table inet mobula", "table inet mobula {\n\tchain forward {\n\t\taccept\n\t}\n}\n"}[j.rand.Intn(2)]
		_, _ = j.nft.Run(ctx, spec.Namespace, script, "-f", "-")
	case 1:
		_ = j.kernel.DeleteLink(links.LinkKey{Name: []string{spec.AccessLink, spec.DirectHost, "veth_eth0"}[j.rand.Intn(3)]})
	case 2:
		j.system.Stop(spec.UnitVSwitch)
	case 3:
		j.remove(spec.IfupdownDropIn)
	}
}

// rest checks the host against its store.
func (j *journey) rest() {
	j.Helper()
	pending, confirmed, err := j.host.changes()
	if err != nil {
		j.fail("%v", err)
	}
	if problem := j.kernel.Reachable(j.facts); problem != "" {
		j.fail("%s", problem)
	}
	if pending != nil && !j.host.carriedOut(pending) {
		// Only what never began may wait without a clock.
		if j.armed {
			j.fail("a change waits half done with the clock running")
		}
		if err := j.host.Rollback(ctx); err != nil {
			j.fail("%v", err)
		}
		pending, confirmed, _ = j.host.changes()
	}
	is := confirmed
	if pending != nil {
		is = pending
	}
	want := j.end(is, confirmed)
	if is == nil {
		j.takeInertUnit()
	}
	if got := j.String(); got != want {
		j.fail("the host, which has %s, differs by\n%s", is.Generation(), difference(got, want))
	}
	if is != nil && !is.Down {
		j.leads(is.Helper)
	}
	if _, err := j.host.Store.Keys().PrivateKey(j.world.own); err != nil {
		j.fail("%v", err)
	}
}

// takeInertUnit removes the file of the boot unit if nothing starts it: see states.
func (j *journey) takeInertUnit() {
	if !j.system.Enabled(spec.UnitBoot) {
		j.remove(spec.UnitDir + spec.UnitBoot)
		_, _ = j.system.Run(ctx, "systemctl", "daemon-reload")
	}
}

// end returns what the host is with a change, as a fresh host has it.
// A change that takes Mobula off leaves the confirmed one's units for now.
func (j *journey) end(c, confirmed *store.Change) string {
	j.Helper()
	if c == nil {
		return j.ends["none"]
	}
	program := c.Helper
	if c.Down {
		program = confirmed.Helper
	}
	key := fmt.Sprint(c.Generation(), c.Down, program)
	if text, known := j.ends[key]; known {
		return text
	}
	w := newWorldOf(j.T, j.facts)
	j.own(w)
	w.become(program)
	if c.Down {
		w.apply(w.document(1, nil, 9))
		w.confirm(w.document(1, nil, 9))
	}
	w.apply(c)
	j.ends[key] = w.String()
	return j.ends[key]
}
