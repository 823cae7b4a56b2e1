//go:build lab

package scenarios

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mobula/lab"
)

// TestFaults interrupts changes of a host before every step that the helper
// lists, in every way, each time from a snapshot. Four hosts try at once.
//
//	MOBULA_FAULTS=first-apply/20-40/kill,power   only these: operation, steps, faults; each part may be left out
//	MOBULA_FAULTS='change ///2-5'                the fourth part are rounds, in each of the five every step comes once;
//	                                             a cell is tried if one of the patterns names it
//	MOBULA_FAULTS_MANAGER=ifupdown               the hosts' network manager; networkd has more steps
//	MOBULA_FAULTS_MODE=shared                    their uplink_mode; moved has more steps
func TestFaults(t *testing.T) {
	w := startBeds(t)
	beds := w.beds(t)
	all := cells(beds[0].operations)
	for _, b := range beds[1:] {
		if n := len(cells(b.operations)); n != len(all) {
			t.Fatalf("%s has %d steps and faults, %s has %d: wanted hosts that are alike", b.host.Name, n, beds[0].host.Name, len(all))
		}
	}
	some := selected(t, all)
	choosePlaybook(some)
	t.Logf("%d steps and faults, of which %d are tried, on %d hosts", len(all), len(some), len(beds))
	m := newMatrix(some)
	t.Run("cells", func(t *testing.T) {
		for _, b := range beds {
			t.Run(b.host.Name, func(t *testing.T) {
				t.Parallel()
				m.work(t, b)
			})
		}
	})
	t.Logf("\n%s", m)
}

// faultsSample is what fits into the scenarios: some cells on one host of the
// network that stands, which is then as it was.
func faultsSample(t *testing.T, w *world) {
	b := &bed{world: w, host: w.Host("carol")}
	if err := b.host.Save("before-faults"); err != nil {
		t.Fatal(err)
	}
	b.learnChange(t, []byte(read(t, w, ".build/network.json")))
	m := newMatrix(sample(cells(b.operations), 3)) // killed, hanging and without power, once each
	m.work(t, b)
	t.Logf("\n%s", m)
	if err := b.host.Restore(w.ctx, "before-faults"); err != nil {
		t.Fatal(err)
	}
	// WireGuard has to agree on new keys: the counters of the old ones went back.
	eventually(t, time.Minute, "the others reach carol again", func() error {
		_, err := w.Host("alice").Run(w.ctx, "ping -q -c 3 -i 0.2 -W 1 "+b.host.IntrawireAddress())
		return err
	})
}

// playbook keeps two deploys of one operator's folder apart.
var playbook sync.Mutex

// startBeds brings up hosts that are all alike, so that their steps are the same.
func startBeds(t *testing.T) *world {
	t.Helper()
	manager := chosenOr("MOBULA_FAULTS_MANAGER", "networkd")
	var specs []lab.HostSpec
	for _, spec := range lab.DefaultHosts() {
		if spec.Image == "full" && spec.Debian == 0 && !spec.Bridged {
			spec.Manager = manager
			specs = append(specs, spec)
		}
	}
	w := startWith(t, specs)
	for name := range w.modes {
		w.modes[name] = chosenOr("MOBULA_FAULTS_MODE", "moved")
	}
	return w
}

// chosenOr is a variable of the environment, or what holds without it.
func chosenOr(variable, otherwise string) string {
	if chosen := os.Getenv(variable); chosen != "" {
		return chosen
	}
	return otherwise
}

// beds prepares all hosts of one kind: what they are, bare and deployed.
func (w *world) beds(t *testing.T) []*bed {
	w.hosts = nil
	for _, h := range w.Hosts {
		w.hosts = append(w.hosts, h.Name)
	}
	w.inventory(t)
	helper := filepath.Join(w.dir, ".build", "mobula-bed")
	if out, err := w.Deployer(w.ctx, w.dir, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", helper, "./helper/cmd/mobula"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var beds []*bed
	for _, h := range w.Hosts {
		b := &bed{world: w, host: h}
		b.bare(t, helper)
		if h.Manager == w.Hosts[0].Manager {
			beds = append(beds, b)
		}
	}
	w.deploy(t)
	document := []byte(read(t, w, ".build/network.json"))
	t.Run("learn", func(t *testing.T) {
		for _, b := range beds {
			t.Run(b.host.Name, func(t *testing.T) {
				t.Parallel()
				if chosen("first-apply") {
					b.learnFirst(t, document)
				}
				b.learnChange(t, document)
			})
		}
	})
	var ready []*bed
	for _, b := range beds {
		if b.operation("change") != nil {
			ready = append(ready, b)
		}
	}
	if len(ready) == 0 {
		t.FailNow()
	}
	return ready
}
