//go:build lab

package scenarios

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// wrongDocuments: what would break a running network is refused, in words.
func wrongDocuments(t *testing.T, w *world) {
	state := w.on(t, "bob", fingerprint)
	const doc = "/tmp/doc.json"
	prepare := func(change string) string {
		return fmt.Sprintf(`python3 - <<'P'
import json
d = json.load(open('/var/lib/mobula/confirmed.json'))['document']
%s
json.dump(d, open('%s', 'w'))
P
`, change, doc)
	}
	for _, c := range []struct{ name, prepare, flags, want string }{
		{"cut short", "head -c 100 /var/lib/mobula/confirmed.json > " + doc + "\n", "--host-id 2", "cut short"},
		{"wrong format", prepare("d['format'] = 9"), "--host-id 2", "format: found 9, wanted 1"},
		{"unknown field", prepare("d['surprise'] = 1"), "--host-id 2", "surprise"},
		{"not a member", prepare(""), "--host-id 77", "host_id 77: not in the network document"},
		{"somebody else", prepare(""), "--host-id 1", "this host has no private key for it"},
		{"alone", prepare("d['hosts'] = [h for h in d['hosts'] if h['id'] == 2]"), "--host-id 2", "--allow-alone"},
		{"older", prepare("d['serial'] -= 5; d['names'] = []"), "--host-id 2", "--allow-older"},
		{"another uplink", prepare("[h.update(uplink='eth9') for h in d['hosts'] if h['id'] == 2]"), "--host-id 2", "in use, wanted eth9"},
		{"ID twice", prepare("d['hosts'][0]['id'] = 2"), "--host-id 2", "an ID of its own"},
	} {
		out := w.on(t, "bob", c.prepare+"mobula apply --document "+doc+" "+c.flags+" 2>&1 && echo accepted || true")
		if !strings.Contains(out, c.want) || strings.Contains(out, "accepted") {
			t.Errorf("%s: found %q, wanted a refusal with %q", c.name, out, c.want)
		}
	}
	if now := w.on(t, "bob", fingerprint); now != state {
		t.Errorf("a refused document changed something: %s", difference(state, now))
	}
	// Without Ansible: copy the document, run the helper.
	w.on(t, "bob", prepare("d['serial'] += 100000; d['names'] = [{'address': '10.31.0.99', 'names': ['by-hand.example.com']}]")+"mobula plan --document "+doc+" || true; mobula apply --document "+doc)
	eventually(t, 20*time.Second, "the document given by hand", func() error {
		if got := w.on(t, "bob", "dig +short +time=2 @10.31.0.2 by-hand.example.com"); got != "10.31.0.99" {
			return fmt.Errorf("found %q", got)
		}
		return nil
	})
	w.on(t, "bob", "mobula confirm 2>/dev/null || true; mobula plan")
	// The deployer's own document is the older one now.
	if out, err := w.play(t, "deploy.yml"); err == nil || !strings.Contains(out, "--allow-older") {
		t.Errorf("an older document: error %v\n%s", err, out)
	}
	w.deploy(t, "-e", "allow_older=1")
	w.resolves(t, "alice", "10.31.0.1", "files.example.com", "10.31.0.254") // which --limit left out
}

// cutOff lets a host hear nothing any more as soon as a change waits for its
// confirmation. It acts on the host itself: who watches from afar comes too late
// when the deployer is quick.
const cutOff = `systemd-run --quiet --collect --unit lab-cut sh -c '
until [ -e /var/lib/mobula/pending.json ]; do sleep 0.02; done
exec ip netns exec mobula nft "table inet lab_cut { chain in { type filter hook prerouting priority -500; drop; }; }"'`

// noConfirmation: the operator is cut off by the change; the host rolls it back.
func noConfirmation(t *testing.T, w *world) {
	state := w.on(t, "carol", fingerprint)
	generation := w.status(t, "carol").Generation
	w.extra["carol"] = "      publish: [9090]\n      confirm_timeout: 30\n"
	w.inventory(t)
	w.on(t, "carol", cutOff)
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := w.Deployer(w.ctx, w.dir, nil, "ansible-playbook", "-i", "hosts.yml", "deploy.yml", "--limit", "192.0.2.3")
		done <- err
	}()
	carol := w.Host("carol")
	eventually(t, 3*time.Minute, "the host rolls the change back", func() error {
		out, err := carol.Console(w.ctx, "ip netns exec mobula nft list tables; ls /var/lib/mobula")
		if err != nil || !strings.Contains(out, "lab_cut") || strings.Contains(out, "pending.json") {
			return fmt.Errorf("not yet: %s %v", out, err)
		}
		return nil
	})
	t.Logf("rolled back %.0f s after the deploy began", time.Since(began).Seconds())
	if out, err := carol.Console(w.ctx, "ip netns exec mobula nft delete table inet lab_cut"); err != nil {
		t.Fatal(err, out)
	}
	if err := <-done; err == nil {
		t.Error("the deploy reports success")
	}
	carol.Disconnect()
	eventually(t, 10*time.Second, "the host as it was", func() error { // the unit that took it back is about to end
		if now := w.on(t, "carol", fingerprint); now != state {
			return errors.New(difference(state, now))
		}
		return nil
	})
	if s := w.status(t, "carol"); s.Generation != generation || s.Waiting != "" || len(s.Differences) > 0 {
		t.Errorf("after the rollback: %+v, wanted generation %s", s, generation)
	}
	delete(w.extra, "carol")
	w.inventory(t)
}

// hostDown: one host is down and one is refused; the other is deployed, the operator
// is told who is missing, and the missing ones catch up. Before that all lose their power, and come back by
// themselves, also where the NIC appears long after the boot. The deploy with which
// they catch up turns preshared keys on, while all of them talk.
func hostDown(t *testing.T, w *world) {
	if err := w.Host("carol").PowerOff(); err != nil {
		t.Fatal(err)
	}
	w.extra["alice"] = "      publish: [8443]\n"
	w.extra["bob"] = "      uplink: other0\n"
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n  10.31.0.253: 'printer.example.com'\n")
	w.inventory(t)
	old := w.status(t, "bob").Generation
	w.on(t, "alice", "printf 'Port 22\nPort 2222\n' >/etc/ssh/sshd_config.d/lab.conf; systemctl restart ssh")
	out, err := w.play(t, "deploy.yml")
	if err == nil {
		t.Error("the deploy reports success though a host is missing")
	}
	for _, want := range []string{"192.0.2.3: not reached", "192.0.2.2: refused: uplink: found " + lab.NIC + " in use, wanted other0"} {
		if !strings.Contains(out, want) {
			t.Errorf("the deploy does not say who is missing, %q:\n%s", want, out)
		}
	}
	r := recaps(t, out)
	if r["192.0.2.1"].failed > 0 || r["192.0.2.1"].changed == 0 || r["192.0.2.2"].failed != 1 || r["192.0.2.3"].unreachable != 1 {
		t.Errorf("recap %+v", r)
	}
	if alice, bob := w.status(t, "alice").Generation, w.status(t, "bob").Generation; alice == old || bob != old {
		t.Errorf("alice has %s and bob %s after %s, wanted a new generation on alice alone", alice, bob, old)
	}
	w.saysHowTheNetworkIs(t, "bob", "carol")
	delete(w.extra, "bob")
	w.inventory(t)
	w.on(t, "bob", unplugNIC)
	w.on(t, "alice", renameNIC)
	if err := w.each(w.members(), func(h *lab.Host) error {
		if h.Name == "carol" {
			return h.Start()
		}
		return h.PowerCut(w.ctx)
	}); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.members() {
		comeBack(t, w, h.Name)
	}
	if w.on(t, "bob", keepNIC) == "0" {
		t.Error("bob's NIC was there in time")
	}
	if w.on(t, "alice", keepName) == "0" {
		t.Error("alice's NIC was not renamed")
	}
	// As soon as the host is there, not when something has looked at sshd.
	if log := w.on(t, "alice", "ip netns exec mobula nft list chain inet mobula published | grep -c 'dport 2222 ' || true; journalctl -q -b -u mobula-repair -o cat | grep -c repaired || true"); log != "1\n0" {
		t.Errorf("alice publishes SSH's second port, and was repaired since its boot: %q, wanted 1 and 0", log)
	}
	w.on(t, "alice", "rm /etc/ssh/sshd_config.d/lab.conf; systemctl restart ssh")
	reachability(t, w) // different generations keep talking
	if w.status(t, "alice").Generation == w.status(t, "carol").Generation {
		t.Error("carol has the new generation without a deploy")
	}
	w.presharedKeysOn(t)
	m := w.streams(t, w.members())
	w.deploy(t)
	lossless(t, w, m)
	if w.status(t, "alice").Generation != w.status(t, "carol").Generation {
		t.Error("carol did not catch up")
	}
	presharedKeys(t, w, true)
}

// unplugNIC has the host boot without its NIC, which is plugged in after 50 s.
const unplugNIC = `cat >/etc/systemd/system/lab-late-nic.service <<'.'
[Unit]
DefaultDependencies=no
Before=mobula-network.service network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'until [ -e /sys/class/net/` + lab.NIC + ` ]; do sleep 0.1; done; \
	cd /sys/bus/virtio/drivers/virtio_net; nic=$$(echo virtio*); echo $$nic >unbind; \
	systemd-run --on-active=50 sh -c "echo $$nic >/sys/bus/virtio/drivers/virtio_net/bind"'
.
mkdir -p /etc/systemd/system/sysinit.target.wants
ln -s ../lab-late-nic.service /etc/systemd/system/sysinit.target.wants/
sync`

// keepNIC undoes unplugNIC, and says how often the boot looked for the NIC in vain;
// nothing, if Mobula was not on the host.
const keepNIC = `rm -f /etc/systemd/system/lab-late-nic.service /etc/systemd/system/sysinit.target.wants/lab-late-nic.service
systemctl daemon-reload
log=$(journalctl -q -b -u mobula-network -o cat)
[ -z "$log" ] || grep -c 'did not appear' <<<"$log" || true`

// renameNIC has the host boot with another name for its NIC, as after an upgrade.
const renameNIC = `printf '[Match]\nDriver=virtio_net\n[Link]\nName=lan0\n' >/etc/systemd/network/10-lab-name.link; sync`

// keepName undoes renameNIC, and says whether the boot found the NIC by its card.
const keepName = `rm /etc/systemd/network/10-lab-name.link
journalctl -q -b -u mobula-network -o cat | grep -c 'is not what it was' || true`

// each calls f for some hosts at once.
func (w *world) each(hosts []*lab.Host, f func(*lab.Host) error) error {
	errs := make(chan error, len(hosts))
	for _, h := range hosts {
		go func() { errs <- f(h) }()
	}
	var all []error
	for range hosts {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func comeBack(t *testing.T, w *world, host string) {
	t.Helper()
	if err := w.Host(host).WaitSSH(w.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, host+" boots to the end", func() error {
		if out, _ := w.Host(host).Run(w.ctx, "systemctl is-system-running || true"); strings.TrimSpace(out) != "running" {
			failed, _ := w.Host(host).Run(w.ctx, "systemctl --failed --no-legend --plain; systemctl list-jobs --no-legend")
			return fmt.Errorf("%s%s", out, failed)
		}
		return nil
	})
	if cycles := w.on(t, host, "journalctl -q -b -o cat _PID=1 | grep 'ordering cycle' || true"); cycles != "" {
		t.Errorf("%s: systemd left out a unit at boot: %s", host, cycles)
	}
	if slow := w.on(t, host, "systemd-analyze blame --no-pager | grep -E 'wait-online|networking.service' | grep -E '[0-9]min' || true"); slow != "" {
		t.Errorf("%s: the boot waited for the network manager: %s", host, slow)
	}
	if s := w.status(t, host); len(s.Differences) > 0 || s.Generation == "none" {
		t.Errorf("%s after the boot: %+v", host, s)
	}
}

// reinstall builds everything again, with new keys and a reboot.
func reinstall(t *testing.T, w *world) {
	boots := map[string]string{}
	for _, h := range w.members() {
		boots[h.Name], _ = h.BootID(w.ctx)
	}
	w.deploy(t, "-e", "reinstall=1")
	for _, h := range w.members() {
		if boot, err := h.BootID(w.ctx); err != nil || boot == boots[h.Name] {
			t.Errorf("%s was not rebooted (%v)", h.Name, err)
		}
	}
	reachability(t, w)
}

// uninstall: every host as it was before the first deploy.
func uninstall(t *testing.T, w *world) {
	w.hosts = []string{"alice", "bob", "carol"}
	w.inventory(t)
	if out, err := w.play(t, "playbooks/uninstall.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	now := w.fingerprints(t)
	for _, h := range w.members() {
		if now[h.Name] != before[h.Name] && h.Name != "carol" { // carol got packages
			t.Errorf("%s is not as it was: %s", h.Name, difference(before[h.Name], now[h.Name]))
		}
		w.on(t, h.Name, "ping -q -c 1 -W 5 198.51.100.1")
	}
	// The network manager has the NIC again, also after a reboot.
	some := []*lab.Host{w.Host("alice"), w.Host("bob")}
	if err := w.each(some, func(h *lab.Host) error { return h.Reboot(w.ctx) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		if now := w.on(t, name, fingerprint); now != before[name] {
			t.Errorf("%s is not as it was after a reboot: %s", name, difference(before[name], now))
		}
	}
	eventually(t, 60*time.Second, "bob's networkd has the NIC", func() error {
		if state := w.on(t, "bob", "networkctl status ens3 | grep State"); !strings.Contains(state, "(configured)") {
			return fmt.Errorf("found %s", state)
		}
		return nil
	})
}
