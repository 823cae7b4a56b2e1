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

// rotated holds that no rotation is under way any more: the old keys are gone
// everywhere, but for a host that keeps its own.
func rotated(t *testing.T, w *world, old map[string]string, keeps string) {
	t.Helper()
	file := read(t, w, "wireguard_pubkeys.yml")
	for _, h := range w.members() {
		now := w.status(t, h.Name)
		if kept := now.PublicKey == old[h.Name]; kept != (h.Name == keeps) || now.PublicKey == "" {
			t.Errorf("%s has its old key: %v, wanted %v", h.Name, kept, !kept)
		}
		hosts := 0
		for _, p := range now.Peers {
			if !strings.HasPrefix(p.Name, "client ") {
				hosts++
			}
		}
		if len(now.Differences) > 0 || hosts != len(w.hosts)-1 {
			t.Errorf("%s after the rotation: %+v", h.Name, now)
		}
		if !strings.Contains(file, now.PublicKey) || now.PublicKey != old[h.Name] && strings.Contains(file, old[h.Name]) {
			t.Errorf("wireguard_pubkeys.yml lacks the key that %s has, or still has its old one", h.Name)
		}
	}
	keysKept(t, w, "1", w.hosts...)
}

// rotateKeys: new keys, and with them new preshared ones, for all hosts, while all of
// them talk.
func rotateKeys(t *testing.T, w *world) {
	if out, err := w.play(t, "deploy.yml", "-e", "rotate_keys=1", "--limit", "192.0.2.3"); err == nil || !strings.Contains(out, "No key was changed. rotate_keys needs every host") || !strings.Contains(out, "192.0.2.1, 192.0.2.2") {
		t.Errorf("a rotation without all hosts: error %v\n%s", err, out)
	}
	keysKept(t, w, "1", w.hosts...)

	old := w.publicKeys(t)
	m, err := w.StartMeter(w.ctx, lab.Pairs(w.members(), lab.HostSpec.IntrawireAddress), lab.MeterOptions{Every: 200 * time.Millisecond, TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	w.deploy(t, "-e", "rotate_keys=1")
	neverSilent(t, w, m)
	rotated(t, w, old, "")
	presharedKeys(t, w, true)
}

// presharedKeysOn turns them on for all hosts of the next deploy.
func (w *world) presharedKeysOn(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(w.dir, "group_vars"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.write(t, "group_vars/all.yml", "preshared_keys: true\n")
}

// interruptedRotation: one host knows the new keys of all and then cannot be
// changed. Nobody is cut off, and the next deploy ends the rotation: each host has the
// key that it uses then. It also turns the preshared keys off.
func interruptedRotation(t *testing.T, w *world) {
	old := w.publicKeys(t)
	m := w.streams(t, w.members())
	w.on(t, "carol", `systemd-run --quiet --collect --unit lab-lock sh -c '
		until grep -q also_key /var/lib/mobula/confirmed.json; do sleep 0.05; done
		exec flock /run/mobula/lock sh -c "echo {} >/run/mobula/lock; exec sleep 900"'`) // by nobody who is waited for longer
	out, err := w.play(t, "deploy.yml", "-e", "rotate_keys=1")
	if want := "stops before any old key is forgotten"; err == nil || !strings.Contains(out, want) {
		t.Errorf("error %v, wanted one that says %q\n%s", err, want, out)
	}
	w.on(t, "carol", "systemctl stop lab-lock")
	keysKept(t, w, "2", "alice", "bob")
	if err := os.RemoveAll(filepath.Join(w.dir, "group_vars")); err != nil {
		t.Fatal(err)
	}
	w.deploy(t)
	neverSilent(t, w, m)
	rotated(t, w, old, "carol")
	presharedKeys(t, w, false)
	reachability(t, w)
}

// publicKeys is the key that each host is known by, by its name.
func (w *world) publicKeys(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, h := range w.members() {
		all[h.Name] = w.status(t, h.Name).PublicKey
	}
	return all
}

// keysKept holds that hosts have so many private keys.
func keysKept(t *testing.T, w *world, wanted string, hosts ...string) {
	t.Helper()
	for _, name := range hosts {
		if keys := w.on(t, name, "ls /var/lib/mobula/keys | wc -l"); keys != wanted {
			t.Errorf("%s has %s keys, wanted %s", name, keys, wanted)
		}
	}
}

// longestSilence is after how long WireGuard has tried a lost handshake again (5 s and
// up to a third of a second), with a second for slow processors. Silence counts
// beside what is lost, because WireGuard keeps packets meanwhile.
const (
	longestSilence = 6500 * time.Millisecond
	longestLoss    = 3 * time.Second
)

// neverSilent ends the streams and tells what was lost. No host may have been silent
// to another on all flows, those of TCP among them, for longestSilence: one flow alone
// that loses nothing waits for a processor. No flow may have lost packets for longestLoss, no TCP
// stream may have broken.
func neverSilent(t *testing.T, w *world, m *lab.Meter) {
	t.Helper()
	results, err := m.Stop(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var sent, lost, inARow uint64
	var longest, longestTCP time.Duration
	silent := map[string]time.Duration{} // by sender and receiver
	for _, r := range results {
		sent, lost, inARow = sent+r.Sent, lost+r.Lost, max(inARow, r.LongestLoss)
		longest, longestTCP = max(longest, r.LongestGap), max(longestTCP, r.TCPGap)
		way := r.From + " → " + r.To
		gap := min(r.LongestGap, r.TCPGap) // both streams take the same way
		if least, known := silent[way]; !known || gap < least {
			silent[way] = gap
		}
		if r.Received == 0 || time.Duration(r.LongestLoss)*m.Every >= longestLoss || r.TCPError != "" || r.BlocksReceived != r.BlocksSent {
			t.Errorf("%s → %s (%s → %s): received %d packets, lost %d in a row, TCP %d of %d blocks %s", r.From, r.To, r.Path.From, r.Path.To,
				r.Received, r.LongestLoss, r.BlocksReceived, r.BlocksSent, r.TCPError)
		}
	}
	for way, gap := range silent {
		if gap >= longestSilence {
			t.Errorf("%s: all flows were silent for %v", way, gap)
		}
	}
	t.Logf("lost %d of %d packets over %d flows, %d in a row, longest gap %v, in TCP %v\n%s", lost, sent, len(results), inARow, longest, longestTCP, lab.Table(results))
}

// presharedKeys: every pair has one of its own, the same at both ends; or none.
func presharedKeys(t *testing.T, w *world, wanted bool) {
	t.Helper()
	publicOf := map[string]string{} // host by public key
	for _, h := range w.members() {
		publicOf[w.status(t, h.Name).PublicKey] = h.Name
	}
	pairs, hosts := map[string]string{}, map[string]string{} // key by pair, pair by key
	found := 0
	for _, h := range w.members() {
		// A bare host has none of its own.
		const wg = "/var/tmp/lab-wg"
		if err := h.CopyTo(w.ctx, "/usr/bin/wg", wg, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(w.on(t, h.Name, "ip netns exec mobula "+wg+" show mo-wg-gw preshared-keys; rm "+wg), "\n") {
			public, key, _ := strings.Cut(line, "\t")
			peer := publicOf[public]
			if peer == "" {
				continue // an administrator's client
			}
			pair := fmt.Sprint(min(h.Name, peer), " and ", max(h.Name, peer))
			if set := key != "(none)" && key != ""; set != wanted {
				t.Errorf("%s about %q: a preshared key: %v, wanted %v", h.Name, peer, set, wanted)
				continue
			}
			found++
			if other, known := hosts[key]; wanted && known && other != pair {
				t.Errorf("%s have the preshared key of %s", pair, other)
			}
			if other, known := pairs[pair]; known && other != key {
				t.Errorf("%s have different preshared keys", pair)
			}
			pairs[pair], hosts[key] = key, pair
		}
	}
	if want := len(w.hosts) * (len(w.hosts) - 1); found != want {
		t.Errorf("found %d peers, wanted %d", found, want)
	}
}
