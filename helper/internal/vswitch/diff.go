package vswitch

import (
	"context"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// Diff implements reconcile.Subject. While the daemons do not run yet there is
// nothing, and everything is to be added.
func (s *Switch) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	bridges, err := s.observe(ctx)
	if err != nil {
		return nil, err
	}
	sw := wanted(want)
	var ops []reconcile.Operation
	if sw != nil {
		ops = s.diffPorts(*sw, bridges[sw.Bridge])
		op, err := s.diffFlows(ctx, *sw, bridges, wanted(previous))
		if err != nil {
			return nil, err
		}
		ops = append(append(ops, op...), s.surplusPorts(*sw, bridges[sw.Bridge])...)
	}
	for _, name := range sortedKeys(bridges) {
		if sw == nil || name != sw.Bridge {
			ops = append(ops, s.operation(reconcile.Remove, "bridge "+name, "", s.deleteBridge(name)))
		}
	}
	return ops, nil
}

func (s *Switch) operation(verb reconcile.Verb, object, detail string, do func(context.Context) error) reconcile.Operation {
	return reconcile.Operation{Step: reconcile.StepSwitch, Verb: verb, Object: "switch " + object, Detail: detail, Do: do}
}

// diffPorts compares the bridge and its ports. A bridge without a name is none.
func (s *Switch) diffPorts(sw spec.Switch, have bridge) []reconcile.Operation {
	var ops []reconcile.Operation
	b := s.wantedBridge(sw)
	switch detail := b.difference(have); {
	case have.name == "":
		ops = append(ops, s.operation(reconcile.Add, b.object(), b.describe(), s.applyBridge(b)))
	case detail != "":
		op := s.operation(reconcile.Change, b.object(), detail, s.applyBridge(b))
		if have.settings["datapath_type"] != b.settings["datapath_type"] {
			op.Interrupts = len(sw.Remotes)
		}
		ops = append(ops, op)
	}
	for _, p := range wantedPorts(sw) {
		found, exists := have.ports[p.name]
		switch detail := p.difference(found); {
		case !exists:
			ops = append(ops, s.operation(reconcile.Add, p.object(), p.describe(), s.applyPort(p)))
		case detail != "":
			op := s.operation(reconcile.Change, p.object(), detail, s.applyPort(p))
			if p.number == tunnelPort {
				op.Interrupts = len(sw.Remotes)
			}
			ops = append(ops, op)
		}
	}
	return ops
}

func (s *Switch) surplusPorts(sw spec.Switch, have bridge) []reconcile.Operation {
	wanted := map[string]bool{sw.Bridge: true}
	for _, p := range wantedPorts(sw) {
		wanted[p.name] = true
	}
	var ops []reconcile.Operation
	for _, name := range sortedKeys(have.ports) {
		if !wanted[name] {
			ops = append(ops, s.operation(reconcile.Remove, "port "+name, "", s.deletePort(sw.Bridge, name)))
		}
	}
	return ops
}

// diffFlows returns at most one operation, for flows and the meters that they need.
func (s *Switch) diffFlows(ctx context.Context, sw spec.Switch, bridges map[string]bridge, before *spec.Switch) ([]reconcile.Operation, error) {
	var have installed
	var err error
	b, exists := bridges[sw.Bridge]
	limits := bounded{possible: true} // as long as the switch has not said
	if exists && answers(s.socket(sw.Bridge+".mgmt")) {
		if have, err = s.installedFlows(ctx, sw.Bridge); err != nil {
			return nil, err
		}
		if limits, err = s.meters(ctx, sw.Bridge); err != nil {
			return nil, err
		}
	}
	delta := flowDelta{}
	digest, room := have.digest(), s.neighborRoom()
	intact := digest == b.external[flowsKey]
	if planned := s.planned(sw, limits.possible, room, digest); !intact || planned == "" || planned != b.external[plannedKey] {
		want, err := s.pipeline(sw, limits.possible, room)
		if err != nil {
			return nil, err
		}
		delta = compareFlows(have, want, intact)
	}
	metersDiffer := limits.want(len(sw.Remotes)).difference(limits.have)
	verb, detail := reconcile.Change, metersDiffer
	switch {
	case delta.empty() && metersDiffer == "" && !b.waits:
		return nil, nil
	case len(have) == 0:
		verb, detail = reconcile.Add, hosts(len(sw.Remotes)+1)
	case !delta.empty() && metersDiffer != "":
		detail = describeFlows(have, delta, sw, before) + ", " + metersDiffer
	case b.external[flowsKey] == "" && len(delta.missing)+len(delta.surplus) == 0:
		detail = "not noted by this version; put there once more"
	case !delta.empty():
		detail = describeFlows(have, delta, sw, before)
	case metersDiffer == "":
		detail = "there, but the kernel is not told of them"
	}
	install := func(ctx context.Context) error {
		if err := s.waitForDaemons(ctx); err != nil {
			return err
		}
		return s.install(ctx, sw)
	}
	op := s.operation(verb, "flows", detail, install)
	op.Limit = s.installLimit(len(sw.Remotes))
	return []reconcile.Operation{op}, nil
}

// flowsPerRemote is how many flows a host has for each other one, at most.
const flowsPerRemote = 20

// installLimit is how long it may take to put flows there: to wait for the daemons and the
// bridge, and for the tools, of which the last that is not answered is the only one that
// waits so long.
func (s *Switch) installLimit(remotes int) time.Duration {
	return 2*s.options.StartTimeout + 2*s.options.CommandTimeout + time.Duration(remotes*flowsPerRemote)*flowTime
}

// describeFlows tells which hosts come and go, or what is wrong if none does.
func describeFlows(have installed, d flowDelta, sw spec.Switch, before *spec.Switch) string {
	had := have.remotes()
	changes := memberChanges(had, sw, before)
	switch {
	case len(d.missing) == 0 && len(d.surplus) == 0:
		return "changed by somebody else; put back"
	case len(changes) == 0 || before != nil && sameRemotes(*before, sw):
		return fmt.Sprintf("%d missing, %d too many; put right", len(d.missing), len(d.surplus))
	}
	const shown = 4
	if more := len(changes) - shown; more > 0 {
		changes = append(changes[:shown], fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("%s → %s (%s)", hosts(len(had)+1), hosts(len(sw.Remotes)+1), strings.Join(changes, ", "))
}

// memberChanges compares the addresses that flows accept with the wanted ones.
func memberChanges(had map[string]bool, sw spec.Switch, before *spec.Switch) []string {
	names := map[string]string{} // address → name
	if before != nil {
		for _, r := range before.Remotes {
			names[r.Address.String()] = r.Name
		}
	}
	var changes []string
	now := map[string]bool{}
	for _, r := range sw.Remotes {
		address := r.Address.String()
		now[address] = true
		if !had[address] {
			changes = append(changes, "+ "+nameOr(r.Name, address))
		}
	}
	for _, address := range sortedKeys(had) {
		if !now[address] {
			changes = append(changes, "- "+nameOr(names[address], address))
		}
	}
	return changes
}

func sameRemotes(a, b spec.Switch) bool {
	addresses := map[netip.Addr]bool{}
	for _, r := range a.Remotes {
		addresses[r.Address] = true
	}
	for _, r := range b.Remotes {
		if !addresses[r.Address] {
			return false
		}
	}
	return len(a.Remotes) == len(b.Remotes)
}

func nameOr(name, address string) string {
	if name == "" {
		return address
	}
	return name
}

func hosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return strconv.Itoa(n) + " hosts"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
