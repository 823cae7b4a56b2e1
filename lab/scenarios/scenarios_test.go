//go:build lab

package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scenarios is everything that must hold, in the order in which it runs.
var scenarios = []step{
	{"bad input stops before anything is touched", badInput},
	{"fresh deploy", freshDeploy},
	{"everybody reaches everybody", reachability},
	{"DNS", dns},
	{"full-size frames in a VLAN", vlan},
	{"an impostor on the access network", impostor},
	{"a member forges another's address", forgedMember},
	{"nothing but SSH is open from outside", outside},
	{"secrets stay on their hosts", secrets},
	{"least privilege", privileges},
	{"the agent is killed", agentKilled},
	{"no conntrack entries for Geneve", conntrack},
	{"extrawire", extrawire},
	{"check changes nothing", checkMode},
	{"change a host", changeHost},
	{"unchanged redeploy", unchangedRedeploy},
	{"add a bare host", addHost},
	// While there are four hosts there is a choice of relays.
	{"an address changes", addressChanges},
	{"the switch is killed", switchKilled},
	{"a way around", wayAround},
	{"a relay dies", relayDies},
	{"broken by hand", brokenByHand},
	{"the cable is pulled", cablePulled},
	{"a guest behind veth_fac0", guest},
	{"limit", limit},
	{"remove a host", removeHost},
	{"a wrong document is refused", wrongDocuments},
	{"no confirmation", noConfirmation},
	{"two at once", twoAtOnce},
	{"a change is interrupted", faultsSample},
	{"a host is down", hostDown},
	{"new keys", newKeys},
	{"rotate keys", rotateKeys},
	{"a rotation is interrupted", interruptedRotation},
	{"reinstall", reinstall},
	{"power cycle of all", powerCycle},
	{"uninstall leaves no trace", uninstall},
}

func TestScenarios(t *testing.T) {
	w := start(t, "alice", "bob", "carol", "dave")
	w.hosts = []string{"alice", "bob", "carol"} // dave joins later
	w.short = true
	for _, h := range w.members() {
		before[h.Name] = w.on(t, h.Name, fingerprint)
	}
	w.inventory(t)
	w.all(t, scenarios)
}

// all runs the steps one after the other, and keeps the logs of those that fail.
func (w *world) all(t *testing.T, steps []step) {
	broken := false
	for _, s := range steps {
		s := s
		ok := t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			if broken {
				t.Fatal("not run: the fresh deploy failed")
			}
			s.run(t, w)
		})
		if !ok && !broken {
			collect(t, w, s.name)
		}
		broken = broken || !ok && s.name == "fresh deploy"
	}
	t.Logf("how long it took:\n%s", strings.Join(w.took, "\n"))
}

// collect keeps what explains a failure.
func collect(t *testing.T, w *world, name string) {
	dir := os.Getenv("MOBULA_LAB_LOGS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "mobula-lab-logs")
	}
	dir = filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	t.Logf("logs go to %s", dir)
	if err := w.Logs(w.ctx, dir, os.Stderr); err != nil {
		t.Log(err)
	}
}
