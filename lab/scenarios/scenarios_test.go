//go:build lab

package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// scenarios is everything that must hold, in the order in which it runs.
var scenarios = []step{
	{"bad input stops before anything is touched", badInput},
	{"fresh deploy", freshDeploy},
	{"everybody reaches everybody", reachability},
	{"DNS", dns},
	{"full-size frames in a VLAN", vlan},
	{"nothing but SSH is open from outside", outside},
	{"a container answers outside", container},
	{"secrets stay on their hosts", secrets},
	{"least privilege", privileges},
	{"the agent is killed", agentKilled},
	{"no conntrack entries for Geneve", conntrack},
	{"extrawire", extrawire},
	{"check changes nothing", checkMode},
	{"change a host", changeHost},
	{"downgrade and upgrade", upgrade},
	{"add a bare host", addHost},
	{"an impostor on the access network", impostor},
	{"a member forges another's address", forgedMember},
	{"a way around", wayAround},
	{"strangers at a relay port", strangers},
	{"broken by hand", brokenByHand},
	{"the cable is pulled", cablePulled},
	{"a guest behind veth_fac0", guest},
	{"limit", limit},
	{"the NIC comes back", nicComesBack},
	{"a wrong document is refused", wrongDocuments},
	{"no confirmation", noConfirmation},
	{"the NIC moves again", nicMovesAgain},
	{"side by side", sideBySide},
	{"a host is down", hostDown},
	{"rotate keys", rotateKeys},
	{"a rotation is interrupted", interruptedRotation},
	{"remove a host", removeHost},
	{"reinstall", reinstall},
	{"uninstall leaves no trace", uninstall},
}

// apart are steps that run side by side: each changes one host of its own.
var apart = []step{
	{"two at once", twoAtOnce},
	{"a change is interrupted", faultsSample},
}

func sideBySide(t *testing.T, w *world) {
	for _, s := range apart {
		t.Run(s.dashed(), func(t *testing.T) {
			t.Parallel()
			s.run(t, w)
		})
	}
}

// longestStep is more than a step takes where processors are slow.
const longestStep = 8 * time.Minute

func TestScenarios(t *testing.T) {
	w := startWith(t, smallFleet())
	before = w.fingerprints(t)
	w.inventory(t)
	w.all(t, scenarios)
}

// smallFleet are two hosts, with Debian 12 and 13, and later one more that is bare; the
// fewer machines are emulated, the faster each is.
func smallFleet() (some []lab.HostSpec) {
	for _, spec := range lab.DefaultHosts() {
		switch spec.Name {
		case "alice":
			some = append(some, spec)
		case "bob":
			spec.Debian, spec.Manager, spec.Resolved = 13, "netplan", true
			some = append(some, spec)
		case "carol":
			spec.Image, spec.Manager, spec.NoIPv6 = "bare", "networkd", true
			some = append(some, spec)
		}
	}
	return some
}

// all runs the steps one after the other, and keeps the logs of those that fail.
// A step for which the time that the test has (-timeout) is too short fails: nobody
// may take it for one that passed.
func (w *world) all(t *testing.T, steps []step) {
	broken := false
	for _, s := range steps {
		ok := t.Run(s.dashed(), func(t *testing.T) {
			if broken {
				t.Fatal("not run: the fresh deploy failed")
			}
			if end, limited := t.Deadline(); limited && time.Until(end) < longestStep {
				t.Fatalf("not run: less than %v before the end", longestStep)
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
