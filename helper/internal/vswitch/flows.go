package vswitch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"mobula/helper/internal/spec"
)

// flowsKey is the key of the bridge's external_ids that holds the digest of the
// flows as they were read back right after they had been installed. Cookies say
// which flows are there; the digest says that nobody has changed one since. It
// is made from the switch's own words, so no version has to be understood.
const flowsKey = "mobula-flows-sent"

// plannedKey is the key beside it that holds the digest of these flows together with what
// they were computed from, and by which program: as long as nothing of that is another,
// computing them once more gives nothing new. A version that knows nothing of it leaves
// it there, but not the same flows.
const plannedKey = "mobula-planned"

// planned identifies flows with this digest and what they are computed from; "": they
// have to be computed.
func (s *Switch) planned(sw spec.Switch, metered bool, neighbors int, digest string) string {
	data, err := json.Marshal(sw)
	if err != nil || s.options.Program == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s %s %v %d %s", digest, s.options.Program, metered, neighbors, data)))
	return hex.EncodeToString(sum[:16])
}

// pipeline is Pipeline, which whoever finds a difference and removes it asks twice.
func (s *Switch) pipeline(sw spec.Switch, metered bool, neighbors int) ([]*flow, error) {
	from := s.planned(sw, metered, neighbors, "")
	if from != "" && from == s.computed.from {
		return s.computed.flows, nil
	}
	flows, err := Pipeline(sw, metered, neighbors)
	s.computed.from, s.computed.flows = from, flows
	return flows, err
}

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
	text := string(out)
	all := make([]flowLine, 0, strings.Count(text, "\n"))
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		head, actions, ok := strings.Cut(line, "actions=")
		if !ok {
			continue // the heading
		}
		f := flowLine{actions: actions}
		if err := f.parseHead(head); err != nil {
			return nil, fmt.Errorf("flow %q: %w", line, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// parseHead reads what stands before the actions. There are tens of thousands of them, so
// the fields of the match, which mostly stand together, are not copied.
func (f *flowLine) parseHead(head string) error {
	begin, end := 0, 0 // of the match until now, in head; begin is -1 if it is a copy
	for at := 0; at < len(head); {
		if head[at] == ',' || head[at] == ' ' {
			at++
			continue
		}
		next := at
		for next < len(head) && head[next] != ',' && head[next] != ' ' {
			next++
		}
		field := head[at:next]
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
			switch {
			case f.match == "":
				f.match, begin = field, at
			case begin >= 0 && end+1 == at && head[end] == ',':
				f.match = head[begin:next]
			default:
				f.match, begin = f.match+","+field, -1
			}
			end = next
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		at = next
	}
	return nil
}

// flowKey identifies a flow for deletion. The table is in it so that a foreign
// flow which bears the cookie of learned ones can go without these.
type flowKey struct {
	table  int
	cookie uint64
}

// flowDelta is what makes the installed flows the wanted ones.
type flowDelta struct {
	missing []*flow
	surplus []flowKey
	// replaceAll: the flows are not as they were installed, so that cookies
	// prove nothing.
	replaceAll bool
}

func (d flowDelta) empty() bool {
	return len(d.missing) == 0 && len(d.surplus) == 0 && !d.replaceAll
}

// compareFlows returns the difference. intact tells that the flows have the digest that
// was stored when flows were installed last.
func compareFlows(have installed, want []*flow, intact bool) flowDelta {
	d := flowDelta{replaceAll: !intact}
	there, wanted := map[flowKey]bool{}, map[flowKey]bool{}
	for _, f := range have {
		there[flowKey{f.table, f.cookie}] = true
	}
	for _, f := range want {
		key := flowKey{f.table, f.cookie}
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
func (s *Switch) install(ctx context.Context, sw spec.Switch) error {
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
	want, err := s.pipeline(sw, limits.possible, s.neighborRoom())
	if err != nil {
		return err
	}
	wantMeters := limits.want(len(sw.Remotes))
	delta := compareFlows(have, want, have.digest() == bridges[name].external[flowsKey])
	if delta.empty() && wantMeters.difference(limits.have) == "" && !bridges[name].waits {
		return nil
	}
	if err := s.setMeters(ctx, name, limits.have, wantMeters); err != nil {
		return err
	}
	if !delta.empty() {
		if err := s.tools.bundle(ctx, name, delta.bundle(want)); err != nil {
			return fmt.Errorf("replacing the flows: %w", err)
		}
	}
	if err := s.removeMeters(ctx, name, limits.have, wantMeters); err != nil {
		return err
	}
	return s.record(ctx, sw, want, limits.possible)
}

// record notes the flows as the switch has them, and lets it go on.
func (s *Switch) record(ctx context.Context, sw spec.Switch, want []*flow, metered bool) error {
	name := sw.Bridge
	have, err := s.installedFlows(ctx, name)
	if err != nil {
		return err
	}
	digest := have.digest()
	if left := compareFlows(have, want, true); !left.empty() {
		return fmt.Errorf("replacing the flows: %d missing and %d too many afterwards", len(left.missing), len(left.surplus))
	}
	_, err = s.tools.vsctl(ctx, "--no-wait", "set", "Bridge", name, "external_ids:"+flowsKey+"="+digest, "external_ids:"+plannedKey+"="+quoted(s.planned(sw, metered, s.neighborRoom(), digest)),
		"--", "remove", "Open_vSwitch", ".", "other_config", restoreWait)
	return err
}

// bundle deletes, then adds, a line each: a flow whose actions alone changed is in both.
func (d flowDelta) bundle(want []*flow) (lines []string) {
	for _, key := range d.surplus {
		lines = append(lines, "delete "+deletion(key.table, key.cookie, exactCookie))
	}
	add := d.missing
	if d.replaceAll {
		add = want
		for _, class := range []uint64{classStatic, classDropped} {
			lines = append(lines, "delete "+deletion(anyTable, cookieTag|class, classMask))
		}
	}
	for _, f := range add {
		lines = append(lines, "add "+f.text())
	}
	return lines
}
