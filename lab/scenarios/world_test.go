//go:build lab

// Package scenarios proves what the README promises, on real machines: real
// kernels, real WireGuard, real Open vSwitch, real SSH, real systemd. The steps
// of TestScenarios share one lab and run in the order of the list, each on what
// the one before left.
package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mobula/lab"
)

// world is the lab and the operator's copy of the project.
type world struct {
	*lab.Lab
	ctx context.Context
	dir string // the operator's folder
	// hosts are those in hosts.yml, by name.
	hosts []string
	// extra is appended to a host's entry in hosts.yml, by name.
	extra map[string]string
	// modes are the uplink_mode of hosts in hosts.yml, by name; none: it says nothing.
	modes map[string]string
	// client is an administrator's, from the fresh deploy on.
	client *lab.Client
	// took notes how long things took, for the summary.
	took []string
	// said is everything that playbooks have printed.
	said strings.Builder
}

// step is one scenario.
type step struct {
	name string
	run  func(t *testing.T, w *world)
}

// dashed is the name as `go test -run` takes it.
func (s step) dashed() string { return strings.ReplaceAll(s.name, " ", "-") }

// start brings the lab up, or uses the one that runs if MOBULA_LAB_REUSE is set.
func start(t *testing.T, hosts ...string) *world {
	t.Helper()
	var specs []lab.HostSpec
	for _, spec := range lab.DefaultHosts() {
		for _, name := range hosts {
			if spec.Name == name {
				specs = append(specs, spec)
			}
		}
	}
	return startWith(t, specs)
}

// startWith is start with hosts that are described.
func startWith(t *testing.T, specs []lab.HostSpec) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{ctx: ctx, extra: map[string]string{}, modes: map[string]string{}}
	for _, spec := range specs {
		w.hosts = append(w.hosts, spec.Name)
		w.modes[spec.Name] = "moved"
	}
	var err error
	if os.Getenv("MOBULA_LAB_REUSE") != "" {
		if w.Lab, err = lab.Open(""); err != nil {
			t.Fatal(err)
		}
		w.dir = filepath.Join(os.TempDir(), "mobula-operator")
	} else {
		if w.Lab, err = lab.Up(ctx, lab.Options{Hosts: specs, Replace: true, Log: os.Stderr}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Down(); err != nil {
				t.Error(err)
			}
		})
		w.dir = filepath.Join(t.TempDir(), "mobula")
	}
	w.cloneProject(t)
	return w
}

// cloneProject gives the operator a copy of what a clone would hold.
func (w *world) cloneProject(t *testing.T) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.CopyProject(w.ctx, root, w.dir); err != nil {
		t.Fatal(err)
	}
}

// write puts a file into the operator's folder.
func (w *world) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inventory writes hosts.yml with the hosts that are members now.
func (w *world) inventory(t *testing.T) {
	t.Helper()
	var members []*lab.Host
	for _, name := range w.hosts {
		members = append(members, w.Host(name))
	}
	text := w.Inventory(members...)
	// Emulated processors under load need their time.
	text = strings.Replace(text, "  vars:\n", "  vars:\n    confirm_timeout: 300\n", 1)
	for _, h := range members {
		extra := w.extra[h.Name]
		if mode := w.modes[h.Name]; mode != "" {
			extra += "      uplink_mode: " + mode + "\n"
		}
		entry := fmt.Sprintf("hostname: '%s'\n", h.FQDN())
		text = strings.Replace(text, entry, entry+extra, 1)
	}
	w.write(t, "hosts.yml", text)
}

// recap is Ansible's last word on one host.
type recap struct{ ok, changed, unreachable, failed int }

var recapLine = regexp.MustCompile(`(?m)^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)`)

// play runs a playbook as the operator would and returns its output.
func (w *world) play(t *testing.T, playbook string, args ...string) (string, error) {
	t.Helper()
	began := time.Now()
	out, err := w.Deployer(w.ctx, w.dir, nil, "ansible-playbook", append([]string{"-i", "hosts.yml", playbook}, args...)...)
	for _, h := range w.Hosts {
		h.Disconnect() // whoever comes next has to get in anew
	}
	w.said.WriteString(out)
	took := fmt.Sprintf("%-40s %5.1f s", strings.Join(append([]string{playbook}, args...), " "), time.Since(began).Seconds())
	w.took = append(w.took, t.Name()+": "+took)
	t.Log(took)
	return out, err
}

// deploy runs deploy.yml, which must succeed, and returns each host's recap.
func (w *world) deploy(t *testing.T, args ...string) map[string]recap {
	t.Helper()
	out, err := w.play(t, "deploy.yml", args...)
	if err != nil {
		t.Fatalf("the deploy failed: %v", err)
	}
	return recaps(t, out)
}

func recaps(t *testing.T, out string) map[string]recap {
	t.Helper()
	all := map[string]recap{}
	for _, m := range recapLine.FindAllStringSubmatch(out, -1) {
		var r recap
		for i, field := range []*int{&r.ok, &r.changed, &r.unreachable, &r.failed} {
			if _, err := fmt.Sscan(m[i+2], field); err != nil {
				t.Fatal(err)
			}
		}
		all[m[1]] = r
	}
	if len(all) == 0 {
		t.Fatalf("no recap in\n%s", out)
	}
	return all
}

// on runs a script on a host; it must succeed.
func (w *world) on(t *testing.T, host, script string) string {
	t.Helper()
	out, err := w.Host(host).Run(w.ctx, script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// onAll runs a script on each of some hosts, on all at once, and returns what they said.
func (w *world) onAll(t *testing.T, scripts map[string]string) map[string]string {
	t.Helper()
	var hosts []*lab.Host
	for name := range scripts {
		hosts = append(hosts, w.Host(name))
	}
	var mu sync.Mutex
	all := map[string]string{}
	if err := w.each(hosts, func(h *lab.Host) error {
		out, err := h.Run(w.ctx, scripts[h.Name])
		mu.Lock()
		defer mu.Unlock()
		all[h.Name] = strings.TrimSpace(out)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// fingerprints is what a deploy and an uninstall may not change of the members.
func (w *world) fingerprints(t *testing.T) map[string]string {
	t.Helper()
	scripts := map[string]string{}
	for _, h := range w.members() {
		scripts[h.Name] = fingerprint
	}
	return w.onAll(t, scripts)
}

// eventually tries until it succeeds or the time is over.
func eventually(t *testing.T, most time.Duration, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(time.Second) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, most, err)
}

// status is what `mobula status --json` says.
type status struct {
	HostID      int      `json:"host_id"`
	Generation  string   `json:"generation"`
	Waiting     string   `json:"waiting_for_confirmation"`
	PublicKey   string   `json:"public_key"`
	Differences []string `json:"differences"`
	Peers       []struct {
		Name, Endpoint, Relay string
		LastHandshake         *time.Time              `json:"last_handshake"`
		Path                  *struct{ State string } // nil: the agent has not said anything
	}
}

func (w *world) status(t *testing.T, host string) (s status) {
	t.Helper()
	// A version before it had the flag compares without.
	mustJSON(t, w.on(t, host, "mobula status --compare --json 2>/dev/null || mobula status --json"), &s)
	return s
}

// quick is status without what differs from the plan.
func (w *world) quick(t *testing.T, host string) (s status) {
	t.Helper()
	mustJSON(t, w.on(t, host, "mobula status --quick --json"), &s)
	return s
}

// members returns the hosts that are in hosts.yml now.
func (w *world) members() []*lab.Host {
	var all []*lab.Host
	for _, name := range w.hosts {
		all = append(all, w.Host(name))
	}
	return all
}

// streams starts packets between all pairs of members, on intrawire and on the
// access network, every 400 ms, and a TCP stream along each.
func (w *world) streams(t *testing.T, hosts []*lab.Host) *lab.Meter {
	t.Helper()
	flows := append(lab.Pairs(hosts, lab.HostSpec.IntrawireAddress), lab.Pairs(hosts, lab.HostSpec.AccessAddress)...)
	m, err := w.StartMeter(w.ctx, flows, lab.MeterOptions{Every: 400 * time.Millisecond, TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() { // so that nothing runs on that slows down what comes next
			_, _ = m.Stop(w.ctx)
		}
	})
	time.Sleep(2 * time.Second)
	return m
}

// lossless ends the streams; nothing may have been lost.
func lossless(t *testing.T, w *world, m *lab.Meter) {
	t.Helper()
	results, err := m.Stop(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var sent uint64
	for _, r := range results {
		sent += r.Sent
	}
	t.Logf("%d packets sent over %d flows", sent, len(results))
	if err := lab.Lossless(results); err != nil {
		t.Errorf("%v\n%s", err, lab.Table(results))
	}
}

// mustJSON reads what a command printed with --json.
func mustJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
