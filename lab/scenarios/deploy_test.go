//go:build lab

package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// fingerprint is everything of a host that Mobula may touch, as text. The agent
// starts a repair now and then: systemd knows its unit while it runs only.
const fingerprint = `ip -br link | grep -vE '^(lo|docker0|veth[0-9a-f]{7}@)' | awk '{print $1, $3}'
ip -4 -br addr; ip -4 route; ip rule; ip -6 -br addr show scope global; ip -6 route | grep -v ^fe80 || true; ls /run/netns 2>/dev/null || true
find /etc/systemd /etc/network /etc/NetworkManager /usr/local /var/lib/mobula -xdev 2>/dev/null | sort
ls -l /etc/resolv.conf | awk '{print $1, $NF}'; cat /etc/resolv.conf
nft list tables 2>/dev/null || true
ls -d /run/mobula 2>/dev/null || true
systemctl list-units --all --no-legend --plain 'mobula*' | awk '!/^mobula-repair.service +loaded +(activating|inactive)/ {$1 = $1; print}'; grep -s . /run/network/ifstate* || true`

// before is what each host was before anything of Mobula touched it.
var before map[string]string

// freshDeploy: machines become a network, with a name and a client besides. The
// deployer reaches bob only through alice, which is changed as well. Carol joins later.
func freshDeploy(t *testing.T, w *world) {
	w.hosts = []string{"alice", "bob"}
	w.client = newClient(t, w, 0)
	w.write(t, "extra_wires.yml", fmt.Sprintf("extra_wires:\n  10.30.128.1/32: '%s'\n", w.client.PublicKey))
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n")
	w.extra["alice"], w.extra["bob"] = published, w.Host("alice").Through()
	w.inventory(t)
	delete(w.extra, "bob")
	w.modes = map[string]string{"carol": w.modes["carol"]} // hosts keep theirs until told otherwise
	defer w.inventory(t)
	for _, h := range w.members() {
		w.on(t, h.Name, sampler+"; systemctl reset-failed") // netplan's cleanup, where Open vSwitch was installed and is off
	}
	w.deploy(t, "-vvv", "--diff") // the loudest, for who looks for secrets later
	if want := "IPv6 addresses [2001:db8::2/64] do not answer"; !strings.Contains(w.said.String(), want) {
		t.Errorf("the deploy does not warn that %s", want)
	}
	for _, h := range w.members() {
		if s := w.status(t, h.Name); s.HostID != h.ID || s.Waiting != "" || len(s.Differences) > 0 {
			t.Errorf("%s: %+v", h.Name, s)
		}
		if failed := w.on(t, h.Name, "systemctl --failed --no-legend --plain"); failed != "" {
			t.Errorf("%s: failed units: %s", h.Name, failed)
		}
		modes := w.on(t, h.Name, "stat -c '%a %U' /var/lib/mobula /var/lib/mobula/keys /var/lib/mobula/keys/*.key")
		if modes != "700 root\n700 root\n600 root" {
			t.Errorf("%s: modes of the state and its keys: %s", h.Name, modes)
		}
	}
}

// checkMode: says what it would do, in the helper's words, and does nothing.
func checkMode(t *testing.T, w *world) {
	state := map[string]string{}
	for _, h := range w.members() {
		state[h.Name] = w.on(t, h.Name, fingerprint)
	}
	keys := read(t, w, "wireguard_pubkeys.yml")
	w.extra["bob"] = "      publish: [8080]\n"
	w.inventory(t)
	names := read(t, w, "extra_hosts.yml")
	w.write(t, "extra_hosts.yml", names+"  10.31.0.252: 'scanner.example.com'\n")
	out, err := w.play(t, "deploy.yml", "--check", "--diff")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"published: + ip daddr { 192.0.2.2 } tcp dport 8080 dnat ip to 10.30.0.2", "+ name scanner.example.com: 10.31.0.252"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	w.write(t, "extra_hosts.yml", names)
	if r := recaps(t, out); r["192.0.2.2"].changed == 0 || r["192.0.2.1"].changed != 0 {
		t.Errorf("check reports %+v, wanted a change on 192.0.2.2 only", r)
	}
	delete(w.extra, "bob")
	w.inventory(t)
	for _, h := range w.members() {
		if now := w.on(t, h.Name, fingerprint); now != state[h.Name] {
			t.Errorf("%s: --check changed something: %s", h.Name, difference(state[h.Name], now))
		}
	}
	if read(t, w, "wireguard_pubkeys.yml") != keys {
		t.Error("--check changed wireguard_pubkeys.yml")
	}
}

// addHost: a host with nothing but SSH and Python gets all it needs; the others
// get one peer more and lose nothing.
func addHost(t *testing.T, w *world) {
	old := w.members()
	carol := w.Host("carol")
	w.hosts = append(w.hosts, "carol")
	// ops has to become root, and there is no way in but through alice.
	const ops = "      ansible_user: ops\n      access_address: manual\n"
	w.extra["carol"] = ops + w.Host("alice").Through()
	undo, err := w.Fault(w.ctx, lab.DeployerPort, carol, lab.Fault{Drop: true, OneWay: true, TCP: 22})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undo() })
	w.inventory(t)
	w.extra["carol"] = ops
	defer w.inventory(t)
	m := w.streams(t, old)
	out, err := w.play(t, "deploy.yml", "--diff")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "+ peer carol.example.com: endpoint 192.0.2.3:51820, allowed IPs 10.30.1.0/32") {
		t.Errorf("the plan does not name the new peer:\n%s", out)
	}
	lossless(t, w, m)
	if err := undo(); err != nil {
		t.Error(err)
	}
	for _, h := range old {
		w.on(t, h.Name, "ping -c 2 -W 5 "+carol.IntrawireAddress()+"; ping -c 2 -W 5 "+carol.GatewayAddress())
	}
	if enabled := w.on(t, "carol", "systemctl is-active openvswitch-switch ovs-vswitchd || true"); strings.Contains(enabled, "\nactive") || strings.HasPrefix(enabled, "active") {
		t.Errorf("the system's own Open vSwitch runs: %s", enabled)
	}
}

// changeHost: another name, another client and a published port touch one host's
// firewall, everybody's DNS and one peer, and lose nothing.
func changeHost(t *testing.T, w *world) {
	other := newClient(t, w, 1)
	defer other.Close()
	defer w.client.Close()
	w.write(t, "extra_wires.yml", fmt.Sprintf("extra_wires:\n  10.30.128.2/32: '%s'\n", other.PublicKey))
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n  10.31.0.253: 'printer.example.com'\n")
	w.extra["bob"] = "      publish: [8080]\n"
	w.inventory(t)
	m := w.streams(t, w.members())
	w.deploy(t)
	lossless(t, w, m)
	connect(t, w, other, "10.30.128.2", "bob")
	if out, err := other.Run(w.ctx, "ping", "-q", "-c", "2", "-W", "5", "10.30.0.1"); err != nil {
		t.Errorf("the new client does not get in: %s", out)
	}
	if _, err := w.client.Run(w.ctx, "ping", "-q", "-c", "2", "-W", "2", "10.30.0.1"); err == nil {
		t.Error("a client that was removed still gets in")
	}
	w.on(t, "bob", "systemd-run --quiet --collect --unit lab-web python3 -m http.server 8080 --bind 10.30.0.2 --directory /var/empty 2>/dev/null || systemd-run --quiet --collect --unit lab-web python3 -m http.server 8080 --bind 10.30.0.2 --directory /tmp")
	eventually(t, 20*time.Second, "the published port answers", func() error {
		_, err := w.Outside(w.ctx, "curl", "--silent", "--max-time", "3", "http://192.0.2.2:8080/")
		return err
	})
	w.on(t, "bob", "systemctl stop lab-web")
}

// limit: a deploy of one host, which gets its access address from Mobula now, harms no
// other and removes no peer, also from a checkout that does not know the others' keys.
func limit(t *testing.T, w *world) {
	m := w.streams(t, []*lab.Host{w.Host("alice"), w.Host("bob")})
	w.extra["carol"] = "      ansible_user: ops\n"
	w.inventory(t)
	keys := filepath.Join(w.dir, "wireguard_pubkeys.yml")
	if err := os.Rename(keys, keys+".elsewhere"); err != nil {
		t.Fatal(err)
	}
	out, err := w.play(t, "deploy.yml", "--limit", "192.0.2.3")
	if want := "keys: found none in the document for 192.0.2.1, 192.0.2.2"; err == nil || !strings.Contains(out, want) {
		t.Errorf("error %v, wanted one that says %q\n%s", err, want, out)
	}
	if err := os.Rename(keys+".elsewhere", keys); err != nil {
		t.Fatal(err)
	}
	w.write(t, "extra_hosts.yml", "extra_hosts:\n  10.31.0.254: ['nas.example.com', 'files.example.com']\n")
	for host, r := range w.deploy(t, "--limit", "192.0.2.3") {
		if host != "192.0.2.3" {
			t.Errorf("--limit touched %s: %+v", host, r)
		}
	}
	lossless(t, w, m)
	if peers := len(w.status(t, "carol").Peers); peers < len(w.hosts)-1 {
		t.Errorf("carol has %d peers after --limit, wanted at least %d", peers, len(w.hosts)-1)
	}
	w.on(t, "carol", "ping -q -c 2 -W 5 10.31.128.1; ping -q -c 2 -W 5 198.51.100.1; getent ahostsv4 files.example.com | grep -q ^10.31.0.254")
	if found := w.on(t, "alice", "dig +short +time=2 @10.31.0.1 files.example.com"); found != "" {
		t.Errorf("--limit 192.0.2.3 changed alice: files.example.com is %s there", found)
	}
}

// resolves waits until a name has an address; the agent takes a moment.
func (w *world) resolves(t *testing.T, host, server, name, address string) {
	t.Helper()
	eventually(t, 20*time.Second, host+" knows "+name, func() error {
		if found := w.on(t, host, "dig +short +time=2 @"+server+" "+name); found != address {
			return fmt.Errorf("found %q, wanted %s", found, address)
		}
		return nil
	})
}

// removeHost: the others forget it and it no longer gets in.
func removeHost(t *testing.T, w *world) {
	w.hosts = []string{"alice", "bob"}
	w.inventory(t)
	m := w.streams(t, w.members())
	w.deploy(t)
	lossless(t, w, m)
	for _, h := range w.members() {
		if _, err := w.Host("carol").Run(w.ctx, "ping -c 2 -W 2 "+h.IntrawireAddress()); err == nil {
			t.Errorf("the removed host still reaches %s", h.Name)
		}
		for _, p := range w.status(t, h.Name).Peers {
			if p.Name == "carol.example.com" {
				t.Errorf("%s still has the removed peer", h.Name)
			}
		}
	}
	if strings.Contains(read(t, w, "wireguard_pubkeys.yml"), "192.0.2.3") {
		t.Error("wireguard_pubkeys.yml still has the removed host")
	}
}

func read(t *testing.T, w *world, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// difference lists the lines that only one of two texts has.
func difference(a, b string) string {
	var all []string
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		sign := map[bool]string{true: "- ", false: "+ "}[pair[0] == a]
		for _, line := range strings.Split(pair[0], "\n") {
			if !strings.Contains("\n"+pair[1]+"\n", "\n"+line+"\n") {
				all = append(all, sign+line)
			}
		}
	}
	return "\n" + strings.Join(all, "\n")
}
