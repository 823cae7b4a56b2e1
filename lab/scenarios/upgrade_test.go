//go:build lab

package scenarios

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// lastVersion is the last one that had its program in /usr/local/sbin itself, lastLanded the last
// one that others have.
const (
	lastVersion = "4978688"
	lastLanded  = "b80536b"
)

// upgrade takes the hosts of the fleet back to the version before, and to this one
// again, one after the other, while all pairs exchange packets: old with new, old with
// old. On the way one host has its upgrade rolled back. A deploy then changes nothing.
func upgrade(t *testing.T, w *world) {
	old := w.oldCheckout(t)
	program := w.on(t, "alice", "readlink -f /usr/local/sbin/mobula")
	m := w.streams(t, w.members())
	w.deployFrom(t, old, w.members()...)
	for _, h := range w.members() {
		if got := w.on(t, h.Name, "mobula version; stat -c %F /usr/local/sbin/mobula"); got != "mobula devel, network document format 1\nregular file" {
			t.Errorf("%s after the downgrade: %s", h.Name, got)
		}
		w.runs(t, h, "/usr/local/sbin/mobula")
	}
	w.rolledBack(t, "alice", program)
	for _, h := range w.members() {
		w.deployFrom(t, w.dir, h)
		if got := w.on(t, h.Name, "readlink -f /usr/local/sbin/mobula"); got != program {
			t.Errorf("%s after the upgrade: runs %s, wanted %s", h.Name, got, program)
		}
		w.runs(t, h, program)
		if now := w.status(t, h.Name); len(now.Differences) > 0 {
			t.Errorf("%s after the upgrade: %v", h.Name, now.Differences)
		}
	}
	for host, r := range w.deploy(t) {
		if r.changed != 0 {
			t.Errorf("%s: changed=%d after the upgrade, wanted 0", host, r.changed)
		}
	}
	lossless(t, w, m)
}

// upgradeWhereTheNICStays takes a host that keeps its NIC back to the last version that others have,
// and to this one again, while others send to it on both networks. A deploy then changes nothing.
func upgradeWhereTheNICStays(t *testing.T, w *world) {
	const host = "heidi"
	h := w.Host(host)
	running := func() string { return w.on(t, host, "readlink -f /usr/local/sbin/mobula") }
	program := running()
	old := w.checkout(t, lastLanded, "hosts.yml", "extra_hosts.yml", "wireguard_pubkeys.yml", "mobula_state.yml")
	pings := map[string]func() (int, []int, error){
		"grace": pingingBy(t, w.Host("grace").SSH(w.ctx, "-S", "none", "ping -D -i 0.2 "+h.IntrawireAddress())),
		"erin":  pingingBy(t, w.Host("erin").SSH(w.ctx, "-S", "none", "ping -D -i 0.2 "+h.AccessAddress())),
	}
	w.deployFrom(t, old, h)
	if now := running(); now == program {
		t.Errorf("after the downgrade %s still runs %s", host, now)
	} else {
		w.runs(t, h, now)
	}
	w.deployFrom(t, w.dir, h)
	w.runs(t, h, program)
	if now := w.status(t, host); running() != program || len(now.Differences) > 0 {
		t.Errorf("after the upgrade %s runs %s, wanted %s, with the differences %v", host, running(), program, now.Differences)
	}
	for host, r := range w.deploy(t) {
		if r.changed != 0 {
			t.Errorf("%s: changed=%d after the upgrade, wanted 0", host, r.changed)
		}
	}
	for from, ended := range pings {
		sent, missing, err := ended()
		if t.Logf("%s sent %d packets to %s", from, sent, host); err != nil || len(missing) > 0 {
			t.Errorf("%s: %v, %d packets were not answered: %v", from, err, len(missing), missing)
		}
	}
}

// checkout is an operator's folder with another version and these of the files that are here.
func (w *world) checkout(t *testing.T, version string, files ...string) (dir string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "mobula")
	const script = `mkdir "$1" && git -c safe.directory='*' -C "$0" archive "$2" | tar -x -C "$1"`
	if out, err := exec.CommandContext(w.ctx, "bash", "-c", "set -o pipefail; "+script, root, dir, version).CombinedOutput(); err != nil {
		t.Fatalf("commit %s, from which the upgrade begins, is not in this clone: found %v: %s; wanted a full one (git fetch --unshallow)", version, err, out)
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, w, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// oldCheckout is the operator's folder with the version before, which kept all that it knew in one file.
func (w *world) oldCheckout(t *testing.T) string {
	t.Helper()
	dir := w.checkout(t, lastVersion, "hosts.yml", "extra_hosts.yml", "extra_wires.yml")
	keys := "wireguard_pubkeys:\n"
	for _, h := range w.members() {
		keys += fmt.Sprintf("  %s: {host_id: %d, public_key: '%s', underlay_mtu: 1500}\n", h.Address, h.ID, w.status(t, h.Name).PublicKey)
	}
	if err := os.WriteFile(filepath.Join(dir, "wireguard_pubkeys.yml"), []byte(keys), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// deployFrom deploys some hosts from a checkout.
func (w *world) deployFrom(t *testing.T, dir string, hosts ...*lab.Host) {
	t.Helper()
	var only []string
	for _, h := range hosts {
		only = append(only, h.Address)
	}
	mine := w.dir
	w.dir = dir
	defer func() { w.dir = mine }()
	w.deploy(t, "--limit", strings.Join(only, ","), "-e", "allow_older=1")
}

// runs holds that everything on a host is this program.
func (w *world) runs(t *testing.T, h *lab.Host, program string) {
	t.Helper()
	if got := w.on(t, h.Name, `grep -ho '^Exec.*/mobula [a-z]*' /etc/systemd/system/mobula-*.service | sed 's/^[^/]*//; s/ .*//' | sort -u`); got != program {
		t.Errorf("%s: the units start %s, wanted %s", h.Name, got, program)
	}
	eventually(t, time.Minute, h.Name+": the agent is "+program, func() error {
		if got := w.on(t, h.Name, "readlink /proc/$(systemctl show -P MainPID mobula-agent)/exe || true"); got != program {
			return fmt.Errorf("found %s", got)
		}
		return nil
	})
}

// rolledBack has a host of the version before take this one and nobody confirm it.
func (w *world) rolledBack(t *testing.T, name, program string) {
	t.Helper()
	before := w.on(t, name, fingerprint)
	id := w.on(t, name, "sha256sum /usr/local/sbin/mobula | cut -c -16")
	old := "/usr/local/lib/mobula/" + id + "/mobula"
	w.on(t, name, program+" apply --confirm-timeout 300s")
	w.runs(t, w.Host(name), program)
	// What the rollback timer does when it fires.
	w.on(t, name, `timer=$(systemctl list-units --no-legend --plain 'mobula-rollback-*.timer' | awk '{print $1}') && systemctl start "${timer%.timer}.service"`)
	eventually(t, 2*time.Minute, "the upgrade is rolled back", func() error {
		if now := w.on(t, name, "ls /var/lib/mobula; systemctl list-units --no-legend 'mobula-rollback*' 'mobula-apply*'"); strings.Contains(now, "pending") || strings.Contains(now, "mobula-") {
			return fmt.Errorf("found %s", now)
		}
		return nil
	})
	if got := w.on(t, name, "mobula version; readlink /usr/local/sbin/mobula"); got != "mobula devel, network document format 1\n"+old {
		t.Errorf("%s after the rollback: %s", name, got)
	}
	w.on(t, name, "grep -q '^ExecStart=/usr/local/sbin/mobula agent' /etc/systemd/system/mobula-agent.service")
	eventually(t, time.Minute, "the old agent is back", func() error {
		if got := w.on(t, name, "readlink /proc/$(systemctl show -P MainPID mobula-agent)/exe || true"); got != old {
			return fmt.Errorf("found %s", got)
		}
		return nil
	})
	after := strings.NewReplacer(old+"\n", "", "/usr/local/lib/mobula/"+id+"\n", "").Replace(w.on(t, name, fingerprint))
	if after != before {
		t.Errorf("the rollback left %s", difference(before, after))
	}
}
