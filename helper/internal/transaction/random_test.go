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
	// fresh makes such a host as it was at first, but for its keys.
	fresh func() *world
	// keys are the private halves of the two between which the host's rotates.
	keys map[network.Key]network.Key
	// modes and rotations count what was confirmed so.
	modes, rotations int
	was              *network.Host // as confirmed before
}

// TestRandomTransitions applies, confirms, takes back, boots, repairs, removes and damages
// in random order, with random faults, where the NIC stays, moves and changes over, and while
// the host's key rotates. Whenever the host has come to rest it is exactly what its store
// says, and reachable.
func TestRandomTransitions(t *testing.T) {
	if *seed == 0 {
		*seed = time.Now().UnixNano()
	}
	t.Logf("-seed=%d", *seed)
	r := rand.New(rand.NewSource(*seed))
	facts := []*spec.Facts{plantest.Facts(managers...), plantest.FactsWithAll(managers...)}[r.Intn(2)]
	withResolved := r.Intn(2) == 0
	fresh := func() *world { return newEitherOf(t, facts, withResolved) }
	j := &journey{world: fresh(), rand: r, ends: map[string]string{}, fresh: fresh}
	private, err := j.host.Store.Keys().PrivateKey(j.own)
	if err != nil {
		t.Fatal(err)
	}
	j.keys = map[network.Key]network.Key{j.own: private, j.world.fresh: j.freshPrivate}
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
	t.Logf("%d transitions, %d faults struck, %d different states, %d times another mode, %d times another key", most, struck, len(j.ends), j.modes, j.rotations)
	if most >= 1000 && (j.modes == 0 || j.rotations == 0) {
		t.Error("wanted changes of both")
	}
}

func (j *journey) anyChange(confirmed *store.Change) *store.Change {
	j.serial++
	var others []uint16
	for id := uint16(2); id < 6; id++ {
		if j.rand.Intn(2) == 0 {
			others = append(others, id)
		}
	}
	shared := j.anyMode(confirmed)
	c := j.document(j.serial, func(h *network.Host) {
		h.ManualAccess, h.SharedUplink, h.OpenFirewall = j.rand.Intn(3) == 0, shared, shared
		h.PublicKey, h.AlsoKey = j.anyKeys(confirmed)
	}, append(others, 9)...)
	if j.rand.Intn(3) == 0 {
		h := &c.Document.Hosts[len(c.Document.Hosts)-1]
		h.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(j.rand.Intn(3))}), 51820)
	}
	return c
}

// self is what a change has of this host; nil: nothing.
func self(c *store.Change) *network.Host {
	if c == nil || c.Document == nil {
		return nil
	}
	h, _ := c.Document.Host(c.HostID)
	return &h
}

// anyMode is mostly the one that the host has, which no program changes that another made.
func (j *journey) anyMode(confirmed *store.Change) (shared bool) {
	h := self(confirmed)
	switch {
	case h == nil:
		return j.rand.Intn(2) == 0
	case confirmed.Helper == j.program && j.rand.Intn(4) == 0:
		return !h.SharedUplink
	}
	return h.SharedUplink
}

// anyKeys are mostly those that the host has; else a rotation begins, goes on or ends.
func (j *journey) anyKeys(confirmed *store.Change) (key, also network.Key) {
	h := self(confirmed)
	if h == nil {
		return j.own, network.Key{}
	}
	switch n := j.rand.Intn(6); {
	case n == 0 && h.AlsoKey.IsZero():
		for public, private := range j.keys {
			if public != h.PublicKey {
				j.putKey(private, public)
				return h.PublicKey, public
			}
		}
	case n < 2 && !h.AlsoKey.IsZero():
		return h.AlsoKey, h.PublicKey
	case n == 2:
		return h.PublicKey, network.Key{}
	}
	return h.PublicKey, h.AlsoKey
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
	name, do := j.anyAct(pending, confirmed)
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

func (j *journey) anyAct(pending, confirmed *store.Change) (string, func() error) {
	change := j.anyChange(confirmed)
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
	if j.system.Running(spec.UnitAgent) { // which knows of routes that came last, as those of a NIC that returned
		j.follow()
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
	named := []network.Key{j.own}
	if h := self(confirmed); h != nil {
		if j.was != nil && j.was.SharedUplink != h.SharedUplink {
			j.modes++
		}
		if j.was != nil && j.was.PublicKey != h.PublicKey {
			j.rotations++
		}
		j.own, j.was, named = h.PublicKey, h, h.Keys()
	}
	for _, key := range named {
		if _, err := j.host.Store.Keys().PrivateKey(key); err != nil {
			j.fail("%v", err)
		}
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
	of := c
	if c.Down {
		of = confirmed
	}
	program, h := of.Helper, self(of)
	key := fmt.Sprint(c.Generation(), c.Down, program, h.SharedUplink)
	if text, known := j.ends[key]; known {
		return text
	}
	w := j.fresh()
	for public, private := range j.keys {
		w.putKey(private, public)
	}
	w.own, w.staying = h.PublicKey, h.SharedUplink
	w.become(program)
	if c.Down {
		w.apply(w.document(1, nil, 9))
		w.confirm(w.document(1, nil, 9))
	}
	w.apply(c)
	j.ends[key] = w.String()
	return j.ends[key]
}
