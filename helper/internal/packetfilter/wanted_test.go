package packetfilter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// userRules is what ufw 0.36.2 wrote for the commands in the comments.
const userRules = `*filter
:ufw-user-input - [0:0]
### RULES ###

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=4d6f62756c61206973206e6f74206d656e74
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### allow udp 51820 0.0.0.0/0 any 0.0.0.0/0 in%s
-A ufw-user-input -p udp --dport 51820 -j ACCEPT

### tuple ### route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_mo-dir-hs%[1]s
-A ufw-user-forward -i mo-dir-hs -j ACCEPT

### END RULES ###
COMMIT
`

const ourComment = " comment=4d6f62756c61" // "Mobula"

// TestActions: only what is missing is added, and only what is Mobula's own is taken away.
func TestActions(t *testing.T) {
	want := &spec.Opening{Port: 51820, Outside: []string{"eth0"}}
	other := &spec.Opening{Port: 51821, Outside: []string{"eth0"}}
	operators, ours := fmt.Sprintf(userRules, ""), fmt.Sprintf(userRules, ourComment)
	docker := func(comment string) (rules []string) {
		for _, r := range dockerRules {
			rules = append(rules, "-A DOCKER-USER "+strings.Replace(r, " -j ", comment+" -j ", 1))
		}
		return append(rules, "-A DOCKER-USER -j RETURN")
	}
	both := []string{"public 51820/udp"}
	fw := func(change func(*firewalldSeen)) firewalldSeen {
		f := firewalldSeen{running: true, keeps: true, zones: []string{"public"}}
		if change != nil {
			change(&f)
		}
		return f
	}
	complete := func(f *firewalldSeen) {
		f.runtime, f.permanent, f.policy, f.loaded = both, both, policyXML(network.Ranges{}), true
	}
	const addPort = "+ firewalld zone public: port 51820/udp: firewalld.zone addPort public 51820 udp 0, firewalld.config.zone public addPort 51820 udp"
	for _, c := range []struct {
		name string
		want *spec.Opening
		seen seen
		does string
	}{
		{"nothing there", want, seen{}, ""},
		{"ufw", want, seen{ufwEnabled: true}, "+ ufw: route allow in on mo-dir-hs: ufw route allow in on mo-dir-hs comment Mobula\n+ ufw: allow 51820/udp: ufw allow 51820/udp comment Mobula"},
		{"ufw that is not enabled", want, seen{}, ""},
		{"ufw has ours", want, seen{ufwEnabled: true, ufw: parseUFW(ours)}, ""},
		{"ufw has the operator's", want, seen{ufwEnabled: true, ufw: parseUFW(operators)}, ""},
		{"ufw refuses on purpose", want, seen{ufwEnabled: true, ufw: parseUFW(strings.Replace(ours, "allow udp", "deny udp", 1))}, ""},
		{"another port", other, seen{ufwEnabled: true, ufw: parseUFW(ours)}, "+ ufw: allow 51821/udp: ufw allow 51821/udp comment Mobula\n- ufw: delete allow 51820/udp: ufw delete allow 51820/udp"},
		{"ours leave ufw", nil, seen{ufwEnabled: true, ufw: parseUFW(ours)}, "- ufw: delete allow 51820/udp: ufw delete allow 51820/udp\n- ufw: route delete allow in on mo-dir-hs: ufw route delete allow in on mo-dir-hs"},
		{"ours leave ufw that was disabled", nil, seen{ufw: parseUFW(ours)}, "- ufw: delete allow 51820/udp: ufw delete allow 51820/udp\n- ufw: route delete allow in on mo-dir-hs: ufw route delete allow in on mo-dir-hs"},
		{"the operator's stay in ufw", nil, seen{ufwEnabled: true, ufw: parseUFW(operators)}, ""},

		{"Docker", want, seen{dockerChain: true, docker: []string{"-A DOCKER-USER -j RETURN"}},
			"+ iptables chain DOCKER-USER: -i mo-dir-hs -j ACCEPT: iptables --wait --insert DOCKER-USER -i mo-dir-hs -m comment --comment Mobula -j ACCEPT\n" +
				"+ iptables chain DOCKER-USER: -o mo-dir-hs -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT: iptables --wait --insert DOCKER-USER -o mo-dir-hs -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment Mobula -j ACCEPT"},
		{"Docker has ours", want, seen{dockerChain: true, docker: docker(" " + dockerComment)}, ""},
		{"Docker has the operator's", want, seen{dockerChain: true, docker: docker("")}, ""},
		{"the operator's stay in Docker", nil, seen{dockerChain: true, docker: docker("")}, ""},
		{"ours leave Docker", nil, seen{dockerChain: true, docker: docker(" " + dockerComment)[:1]},
			"- iptables chain DOCKER-USER: -i mo-dir-hs -j ACCEPT: iptables --wait --delete DOCKER-USER -i mo-dir-hs -m comment --comment Mobula -j ACCEPT"},

		{"firewalld", want, seen{firewalld: fw(nil)}, addPort + "\n+ firewalld policy mobula\n~ firewalld: reload: firewalld reload"},
		{"firewalld of which a reload would take something", want, seen{firewalld: fw(func(f *firewalldSeen) { f.keeps = false })}, addPort + "\n+ firewalld policy mobula"},
		{"firewalld is complete", want, seen{firewalld: fw(complete), noted: both}, ""},
		{"firewalld is not running", want, seen{firewalld: firewalldSeen{policy: policyXML(network.Ranges{})}, noted: both}, ""},
		{"only now", want, seen{firewalld: fw(func(f *firewalldSeen) { complete(f); f.permanent = nil })}, "+ firewalld zone public: port 51820/udp: firewalld.config.zone public addPort 51820 udp"},
		{"not now", want, seen{firewalld: fw(func(f *firewalldSeen) { complete(f); f.runtime = nil })}, "+ firewalld zone public: port 51820/udp: firewalld.zone addPort public 51820 udp 0"},
		{"the NIC has another zone", want, seen{firewalld: fw(func(f *firewalldSeen) { complete(f); f.zones = []string{"work"} }), noted: both},
			"+ firewalld zone work: port 51820/udp: firewalld.zone addPort work 51820 udp 0, firewalld.config.zone work addPort 51820 udp\n" +
				"- firewalld zone public: port 51820/udp: firewalld.zone removePort public 51820 udp, firewalld.config.zone public removePort 51820 udp"},
		{"a policy of the operator's of that name", want, seen{firewalld: fw(func(f *firewalldSeen) { complete(f); f.policy, f.loaded = "<policy/>", false })}, ""},
		{"it stays", nil, seen{firewalld: fw(func(f *firewalldSeen) { complete(f); f.policy = "<policy/>" })}, ""},
		{"ours leave firewalld", nil, seen{firewalld: fw(complete), noted: both},
			"- firewalld zone public: port 51820/udp: firewalld.zone removePort public 51820 udp, firewalld.config.zone public removePort 51820 udp\n" +
				"- firewalld policy mobula: firewalld reload"},
		{"ours leave firewalld without a reload", nil, seen{firewalld: fw(func(f *firewalldSeen) { complete(f); f.keeps = false })},
			"- firewalld policy mobula: firewalld.policy disarm " + PolicyRule(network.Ranges{})},
		{"ours leave firewalld that does not run", nil, seen{firewalld: firewalldSeen{policy: policyXML(network.Ranges{})}, noted: both},
			"- firewalld zone public: port 51820/udp: firewall-offline-cmd --zone=public --remove-port=51820/udp\n- firewalld policy mobula"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []string
			for _, a := range actions(c.want, c.seen) {
				line := reconcile.Operation{Verb: a.verb, Object: a.object, Detail: a.detail}.String()
				var commands []string
				for _, words := range a.commands {
					commands = append(commands, strings.Join(words, " "))
				}
				for _, c := range a.calls {
					commands = append(commands, c.String())
				}
				if a.disarm != "" {
					commands = append(commands, "firewalld.policy disarm "+a.disarm)
				}
				if commands != nil {
					line += ": " + strings.Join(commands, ", ")
				}
				lines = append(lines, line)
				if added := a.port != "" && a.verb == reconcile.Add; added != strings.Contains(line, ".config.zone ") && a.verb == reconcile.Add {
					t.Errorf("%s: notes %q", line, a.port)
				}
			}
			if got := strings.Join(lines, "\n"); got != c.does {
				t.Errorf("does\n%s\nwanted\n%s", got, c.does)
			}
		})
	}
}

// TestOpenerLooksOnlyWhereSomethingMayBe: a host that opens nothing, and never did, costs
// no process.
func TestOpenerLooksOnlyWhereSomethingMayBe(t *testing.T) {
	asked := 0
	run := func(context.Context, string, ...string) (string, error) { asked++; return "", exec.ErrNotFound }
	o := &Opener{Run: run, Change: run, Root: t.TempDir(), Record: filepath.Join(t.TempDir(), "openings.json")}
	if ops, err := o.Diff(context.Background(), &spec.Host{}, nil); len(ops) > 0 || err != nil || asked > 0 {
		t.Errorf("found %v, %v, asked %d times", ops, err, asked)
	}
	if err := o.note(func(ports []string) []string { return append(ports, "", "b", "a", "b") }); err != nil {
		t.Fatal(err)
	}
	if r, err := o.noted(); fmt.Sprint(r.FirewalldPorts) != "[a b]" || err != nil {
		t.Errorf("noted %v, %v", r, err)
	}
	if err := o.note(func([]string) []string { return nil }); err != nil {
		t.Fatal(err)
	}
	ops, err := o.Diff(context.Background(), &spec.Host{}, nil)
	if err != nil || len(ops) != 1 || ops[0].Verb != reconcile.Remove {
		t.Fatalf("found %v, %v, wanted the record to go", ops, err)
	}
	if err := ops[0].Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.Record); !errors.Is(err, os.ErrNotExist) {
		t.Error("the record stays")
	}
	if err := os.WriteFile(o.Record, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Diff(context.Background(), &spec.Host{}, nil); err == nil {
		t.Error("a record that cannot be read is none")
	}
}
