package vswitch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/digitalocean/go-openvswitch/ovs"

	"mobula/helper/internal/plan"
)

// flowsKey is the key of the bridge's external_ids that holds the digest of the
// flows as they were read back right after they had been installed. Cookies say
// which flows are there; the digest says that nobody has changed one since. It
// is made from the switch's own words, so no version has to be understood.
const flowsKey = "mobula-flows"

// restoreWait is the key of the daemon's other_config that its unit sets before it
// starts, also after a crash: until the key goes, the kernel forwards by the flows
// that it still has, and those that are new to it wait (ovs-vswitchd.conf.db(5)).
const restoreWait = "flow-restore-wait"

// flowLine is one line of ovs-ofctl dump-flows.
type flowLine struct {
	table   int
	cookie  uint64
	packets uint64
	match   string
	actions string
}

// parseFlows reads the lines of ovs-ofctl dump-flows.
func parseFlows(out []byte) ([]flowLine, error) {
	var all []flowLine
	for _, line := range strings.Split(string(out), "\n") {
		head, actions, ok := strings.Cut(line, "actions=")
		if !ok {
			continue // the heading
		}
		f := flowLine{actions: actions}
		var match []string
		for _, field := range strings.FieldsFunc(head, func(r rune) bool { return r == ',' || r == ' ' }) {
			key, value, _ := strings.Cut(field, "=")
			var err error
			switch key {
			case "table":
				f.table, err = strconv.Atoi(value)
			case "cookie":
				f.cookie, err = strconv.ParseUint(value, 0, 64)
			case "n_packets":
				f.packets, err = strconv.ParseUint(value, 10, 64)
			case "duration", "n_bytes", "idle_age", "hard_age":
			default:
				match = append(match, field)
			}
			if err != nil {
				return nil, fmt.Errorf("flow %q: %s: %w", line, key, err)
			}
		}
		f.match = strings.Join(match, ",")
		all = append(all, f)
	}
	return all, nil
}

// installed are the flows that somebody put into a bridge.
type installed []flowLine

// installedFlows reads the flows of a bridge without those it learned.
func (s *Switch) installedFlows(ctx context.Context, name string) (installed, error) {
	out, err := s.tools.dumpFlows(ctx, name, "--no-stats")
	if err != nil {
		return nil, fmt.Errorf("reading the flows: %w", err)
	}
	lines, err := parseFlows(out)
	if err != nil {
		return nil, err
	}
	var all installed
	for _, f := range lines {
		if f.table != tableLearned && f.table != tableAddressed || !isLearned(f.cookie) {
			all = append(all, f)
		}
	}
	return all, nil
}

// digest identifies the flows whatever their order.
func (have installed) digest() string {
	lines := make([]string, len(have))
	for i, f := range have {
		lines[i] = fmt.Sprintf("%d %#x %s %s", f.table, f.cookie, f.match, f.actions)
	}
	sort.Strings(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:16])
}

var tunnelSource = regexp.MustCompile(`\btun_src=([0-9.]+)`)

// remotes returns the addresses that the flows accept on the tunnel.
func (have installed) remotes() map[string]bool {
	all := map[string]bool{}
	for _, f := range have {
		if m := tunnelSource.FindStringSubmatch(f.match); m != nil && f.table == tableAdmission {
			all[m[1]] = true
		}
	}
	return all
}

// flowKey identifies a flow for deletion. The table is in it so that a foreign
// flow which bears the cookie of learned ones can go without these.
type flowKey struct {
	table  int
	cookie uint64
}

// flowDelta is what makes the installed flows the wanted ones.
type flowDelta struct {
	missing []*ovs.Flow
	surplus []flowKey
	// replaceAll: the flows are not as they were installed, so that cookies
	// prove nothing.
	replaceAll bool
}

func (d flowDelta) empty() bool {
	return len(d.missing) == 0 && len(d.surplus) == 0 && !d.replaceAll
}

// compareFlows returns the difference. recorded is the digest that was stored
// when flows were installed last.
func compareFlows(have installed, want []*ovs.Flow, recorded string) flowDelta {
	d := flowDelta{replaceAll: have.digest() != recorded}
	there, wanted := map[flowKey]bool{}, map[flowKey]bool{}
	for _, f := range have {
		there[flowKey{f.table, f.cookie}] = true
	}
	for _, f := range want {
		key := flowKey{f.Table, f.Cookie}
		wanted[key] = true
		if !there[key] {
			d.missing = append(d.missing, f)
		}
	}
	for key := range there {
		if !wanted[key] {
			d.surplus = append(d.surplus, key)
		}
	}
	sort.Slice(d.surplus, func(i, j int) bool {
		a, b := d.surplus[i], d.surplus[j]
		return a.table < b.table || a.table == b.table && a.cookie < b.cookie
	})
	return d
}

// install brings the flows of a bridge to what they should be in one atomic bundle, and
// leaves alone what the switch has learned: it never holds a mixture of old and new
// flows, and who is in both loses nothing, counters included. Meters are there before
// flows that need them. A daemon that waits for its flows goes on then.
func (s *Switch) install(ctx context.Context, sw plan.Switch) error {
	name := sw.Bridge
	if err := waitFor(ctx, s.options.StartTimeout, "bridge "+name, func() bool { return answers(s.socket(name + ".mgmt")) }); err != nil {
		return err
	}
	bridges, err := s.observe(ctx)
	if err != nil {
		return err
	}
	have, err := s.installedFlows(ctx, name)
	if err != nil {
		return err
	}
	limits, err := s.meters(ctx, name)
	if err != nil {
		return err
	}
	want, err := Pipeline(sw, limits.possible, s.neighborRoom())
	if err != nil {
		return err
	}
	wantMeters := limits.want(len(sw.Remotes))
	delta := compareFlows(have, want, bridges[name].external[flowsKey])
	if delta.empty() && wantMeters.difference(limits.have) == "" && !bridges[name].waits {
		return nil
	}
	if err := s.setMeters(ctx, name, limits.have, wantMeters); err != nil {
		return err
	}
	if !delta.empty() {
		if err := s.tools.client(ctx).OpenFlow.AddFlowBundle(name, delta.bundle(want)); err != nil {
			return fmt.Errorf("replacing the flows: %w", err)
		}
	}
	if err := s.removeMeters(ctx, name, limits.have, wantMeters); err != nil {
		return err
	}
	return s.record(ctx, name, want)
}

// record notes the flows as the switch has them, and lets it go on.
func (s *Switch) record(ctx context.Context, name string, want []*ovs.Flow) error {
	have, err := s.installedFlows(ctx, name)
	if err != nil {
		return err
	}
	digest := have.digest()
	if left := compareFlows(have, want, digest); !left.empty() {
		return fmt.Errorf("replacing the flows: %d missing and %d too many afterwards", len(left.missing), len(left.surplus))
	}
	_, err = s.tools.vsctl(ctx, "--no-wait", "set", "Bridge", name, "external_ids:"+flowsKey+"="+digest,
		"--", "remove", "Open_vSwitch", ".", "other_config", restoreWait)
	return err
}

// bundle deletes, then adds: a flow whose actions alone changed is in both.
func (d flowDelta) bundle(want []*ovs.Flow) func(*ovs.FlowTransaction) error {
	return func(tx *ovs.FlowTransaction) error {
		for _, key := range d.surplus {
			tx.Delete(&ovs.MatchFlow{Table: key.table, Cookie: key.cookie, CookieMask: exactCookie})
		}
		if !d.replaceAll {
			tx.Add(d.missing...)
			return tx.Commit()
		}
		for _, class := range []uint64{classStatic, classDropped} {
			tx.Delete(&ovs.MatchFlow{Table: ovs.AnyTable, Cookie: cookieTag | class, CookieMask: classMask})
		}
		tx.Add(want...)
		return tx.Commit()
	}
}
