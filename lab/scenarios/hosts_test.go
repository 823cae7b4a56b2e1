//go:build lab

package scenarios

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"mobula/lab"
)

// TestRandomHosts has Mobula come to random hosts and go, in namespaces of two machines:
// their kernels, of two releases, have all kinds of links, real WireGuard among them.
// Emulated, each host takes up to a minute: MOBULA_HOSTS_SEEDS=1-60 for more of them.
func TestRandomHosts(t *testing.T) {
	w := startWith(t, smallFleet()[:2])
	seeds := os.Getenv("MOBULA_HOSTS_SEEDS")
	if seeds == "" {
		seeds = "1-8"
	}
	w.randomHosts(t, "all", seeds, "alice", "bob")
}

// kindsOfLinks: hosts with each kind of links, which the kernel of whoever tests need
// not have, on the kernels of two releases.
func kindsOfLinks(t *testing.T, w *world) { w.randomHosts(t, "kinds", "1-0", "heidi", "grace") }

// randomHosts has hosts of the seeds FROM-TO, after those of each kind and, with "all",
// those that failed once, in namespaces of machines.
func (w *world) randomHosts(t *testing.T, which, seeds string, machines ...string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "hosts")
	build := exec.CommandContext(w.ctx, "go", "test", "-c", "-o", binary, "./helper/internal/transaction/hosttest")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // for another C library than this machine's
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var hosts []*lab.Host
	for _, name := range machines {
		hosts = append(hosts, w.Host(name))
	}
	err := w.each(hosts, func(h *lab.Host) error {
		const program = "/var/tmp/lab-hosts"
		if err := h.CopyTo(w.ctx, binary, program, 0o755); err != nil {
			return err
		}
		out, err := h.Run(w.ctx, "modprobe nf_conntrack; MOBULA_HOSTS_WHOLE="+which+" MOBULA_HOSTS_SEEDS="+seeds+" "+program+" -test.run TestHosts -test.v -test.parallel 1 2>&1")
		t.Logf("%s: %s", h.Name, regexp.MustCompile(`(?m)^.*(of \d+ hosts|cannot be: ).*$`).FindAllString(out, -1))
		if err != nil {
			t.Errorf("%s:\n%s", h.Name, out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
