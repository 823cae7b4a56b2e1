package packetfilter

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// Comment marks the rules that Mobula added where they can carry one: only those are
// taken away.
const Comment = "Mobula"

// action is one thing to do about the host's packet filters, as commands or as a file.
type action struct {
	verb           reconcile.Verb
	object, detail string
	commands       [][]string
	// rule is the one of ufw's that they are about.
	rule string
	// calls are firewalld's, and disarm the rule that its policy loses until it is loaded again.
	calls  []call
	disarm string
	// unless succeeds if the command is not needed any more.
	unless []string
	// write is the content of policyFile, and unlink takes that away.
	write  string
	unlink bool
	// port is one of firewalld's, which knows no comments: it is noted before it is
	// added, and forgotten when it is gone.
	port string
}

// timeout is how long firewalld has for its part; 0: it has none.
func (a action) timeout() time.Duration {
	switch {
	case slices.ContainsFunc(a.calls, func(c call) bool { return c.method == reload }):
		return reloadTimeout
	case a.calls != nil || a.disarm != "":
		return askTimeout
	}
	return 0
}

// seen is what was found of each packet filter that can be opened. The zero value is a
// host without any.
type seen struct {
	// ufw are the rules that ufw keeps, if it is enabled or some are ours.
	ufw        []ufwRule
	ufwEnabled bool
	// docker are the rules of DOCKER-USER, as iptables -S prints them.
	docker      []string
	dockerChain bool
	firewalld   firewalldSeen
	noted       []string // ports that are ours, as "zone port/udp"
}

// actions returns what leads from what was seen to what is wanted; nil wants nothing.
func actions(want *spec.Opening, s seen) (all []action) {
	all = append(all, ufwActions(want, s)...)
	all = append(all, dockerActions(want, s)...)
	return append(all, firewalldActions(want, s)...)
}

// ufwRule is one that ufw keeps in its file (UFWBackend._write_rules and UFWRule).
type ufwRule struct {
	what string // with a "route:" in front for forwarding, without the verdict
	ours bool
}

// parseUFW reads /etc/ufw/user.rules.
func parseUFW(file string) (rules []ufwRule) {
	for _, line := range strings.Split(file, "\n") {
		tuple, ok := strings.CutPrefix(line, "### tuple ### ")
		if !ok {
			continue
		}
		words, ours := strings.Fields(tuple), false
		if last := len(words) - 1; last > 0 {
			if comment, ok := strings.CutPrefix(words[last], "comment="); ok {
				text, _ := hex.DecodeString(comment)
				words, ours = words[:last], string(text) == Comment
			}
		}
		verdict, route := strings.CutPrefix(words[0], "route:")
		what := strings.Join(words[1:], " ")
		if route {
			what = "route:" + what
		}
		rules = append(rules, ufwRule{what, ours && verdict == "allow"})
	}
	return rules
}

// The two rules of Mobula's, as ufw keeps them, and the words that make and unmake them.
const (
	ufwRoute     = "route:any any 0.0.0.0/0 any 0.0.0.0/0 in_" + spec.DirectHost
	ufwPortStart = "udp "
	ufwPortEnd   = " 0.0.0.0/0 any 0.0.0.0/0 in"
)

// ufwActions keeps to rules that are there, whatever they say: of two alike ufw has the
// later one replace the other.
func ufwActions(want *spec.Opening, s seen) (all []action) {
	wanted := map[string][]string{}
	if want != nil && s.ufwEnabled {
		wanted[fmt.Sprint(ufwPortStart, want.Port, ufwPortEnd)] = []string{"allow", fmt.Sprintf("%d/udp", want.Port)}
		wanted[ufwRoute] = []string{"route", "allow", "in", "on", spec.DirectHost}
	}
	for _, what := range sortedKeys(wanted) {
		if !slices.ContainsFunc(s.ufw, func(r ufwRule) bool { return r.what == what }) {
			words := wanted[what]
			all = append(all, action{verb: reconcile.Add, object: "ufw", detail: strings.Join(words, " "), rule: what,
				commands: [][]string{append(append([]string{"ufw"}, words...), "comment", Comment)}})
		}
	}
	for _, r := range s.ufw {
		if !r.ours || want != nil && (!s.ufwEnabled || wanted[r.what] != nil) {
			continue
		}
		words := []string{"route", "delete", "allow", "in", "on", spec.DirectHost}
		if r.what != ufwRoute {
			port := strings.TrimSuffix(strings.TrimPrefix(r.what, ufwPortStart), ufwPortEnd)
			words = []string{"delete", "allow", port + "/udp"}
		}
		all = append(all, action{verb: reconcile.Remove, object: "ufw", detail: strings.Join(words, " "), rule: r.what, commands: [][]string{append([]string{"ufw"}, words...)}})
	}
	return all
}

func sortedKeys(m map[string][]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// dockerRules are what DOCKER-USER has to let pass; Mobula's own table says what of it.
var dockerRules = []string{"-i " + spec.DirectHost + " -j ACCEPT", "-o " + spec.DirectHost + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"}

const dockerComment = "-m comment --comment " + Comment

func dockerActions(want *spec.Opening, s seen) (all []action) {
	if !s.dockerChain {
		return nil
	}
	for _, rule := range dockerRules {
		matches, _ := strings.CutSuffix(rule, " -j ACCEPT")
		ours := matches + " " + dockerComment + " -j ACCEPT"
		has := func(rule string) bool { return slices.Contains(s.docker, "-A DOCKER-USER "+rule) }
		iptables := func(verb string) []string {
			return append([]string{"iptables", "--wait", verb, "DOCKER-USER"}, strings.Fields(ours)...)
		}
		switch {
		case want != nil && !has(rule) && !has(ours):
			all = append(all, action{verb: reconcile.Add, object: "iptables chain DOCKER-USER", detail: rule, commands: [][]string{iptables("--insert")}, unless: iptables("--check")})
		case want == nil && has(ours):
			all = append(all, action{verb: reconcile.Remove, object: "iptables chain DOCKER-USER", detail: rule, commands: [][]string{iptables("--delete")}})
		}
	}
	return all
}

// policyFile is where firewalld keeps the policy, and policyMark says that it is ours.
const (
	policyFile = "/etc/firewalld/policies/" + Policy + ".xml"
	policyMark = "<description>What Mobula's gateway sends outside.</description>"
)

// policyXML is the policy of FirewalldPolicy (firewalld.policy(5)).
func policyXML(ranges network.Ranges) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<policy target="CONTINUE">
  ` + policyMark + `
  <rule family="ipv4">
    <source address="` + gatewaySource(ranges) + `"/>
    <accept/>
  </rule>
  <ingress-zone name="ANY"/>
  <egress-zone name="ANY"/>
</policy>
`
}

// policyRuleIn is the rule of a policy of ours.
func policyRuleIn(policy string) string {
	_, after, _ := strings.Cut(policy, `<source address="`)
	source, _, _ := strings.Cut(after, `"`)
	return policyRule(source)
}

func firewalldActions(want *spec.Opening, s seen) (all []action) {
	f := s.firewalld
	var wanted []string
	if want != nil {
		for _, zone := range f.zones {
			wanted = append(wanted, firewalldPort(zone, want.Port))
		}
	}
	for _, port := range wanted {
		zone, number, now, later := portCalls(port, addPort)
		var calls []call
		if !slices.Contains(f.runtime, port) {
			calls = append(calls, now)
		}
		note := ""
		if !slices.Contains(f.permanent, port) && !slices.Contains(f.brief, zone) {
			calls, note = append(calls, later), port
		}
		if calls != nil {
			all = append(all, action{verb: reconcile.Add, object: "firewalld zone " + zone, detail: "port " + number, calls: calls, port: note})
		}
	}
	for _, port := range s.noted {
		if slices.Contains(wanted, port) || want != nil && !f.running { // whose zones are not known then
			continue
		}
		zone, number, now, later := portCalls(port, removePort)
		remove := action{verb: reconcile.Remove, object: "firewalld zone " + zone, detail: "port " + number, port: port}
		if f.running {
			remove.calls = []call{now, later}
		} else {
			remove.commands = [][]string{{"firewall-offline-cmd", "--zone=" + zone, "--remove-port=" + number}}
		}
		all = append(all, remove)
	}
	return append(all, policyActions(want, f)...)
}

// portCalls take one of firewalldPort, for now and for later.
func portCalls(port, method string) (zone, number string, now, later call) {
	zone, number, _ = strings.Cut(port, " ")
	digits, protocol, _ := strings.Cut(number, "/")
	now = call{of: ".zone", method: method, args: []any{zone, digits, protocol}}
	if method == addPort {
		now.args = append(now.args, int32(0)) // for good, as far as that goes
	}
	return zone, number, now, call{of: ".config.zone", zone: zone, method: method, args: []any{digits, protocol}}
}

func firewalldPort(zone string, port uint16) string { return fmt.Sprintf("%s %d/udp", zone, port) }

// policyActions makes the policy, or takes it away. Only a reload makes it count, and is
// left to the operator where it would take away what he did not keep.
func policyActions(want *spec.Opening, f firewalldSeen) (all []action) {
	object := "firewalld policy " + Policy
	again := []call{{method: reload}}
	ours := strings.Contains(f.policy, policyMark)
	switch {
	case want != nil && f.running:
		policy := policyXML(want.Ranges)
		write := f.policy == "" || ours && f.policy != policy
		if write {
			all = append(all, action{verb: reconcile.Add, object: object, write: policy})
		}
		if (write || ours) && !f.loaded && f.keeps {
			all = append(all, action{verb: reconcile.Change, object: "firewalld", detail: "reload", calls: again})
		}
	case want == nil && ours:
		remove := action{verb: reconcile.Remove, object: object, unlink: true}
		if f.running && f.keeps {
			remove.calls = again
		} else if f.running && f.loaded { // without its rule it does nothing
			remove.disarm = policyRuleIn(f.policy)
		}
		all = append(all, remove)
	}
	return all
}
