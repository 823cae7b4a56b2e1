package transaction

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mobula/helper/internal/spec"
)

// publishes returns the TCP ports of SSH that the gateway forwards.
func (w *world) publishes() string {
	var ports []string
	for _, line := range strings.Split(w.nft.String(), "\n") {
		if before, after, found := strings.Cut(line, "tcp dport "); found && strings.HasPrefix(strings.TrimSpace(before), "ip daddr") && strings.Contains(after, "dnat") {
			ports = append(ports, strings.Fields(after)[0])
		}
	}
	return strings.Join(ports, " ")
}

func (w *world) published(when, want string) {
	w.Helper()
	if got := w.publishes(); got != want {
		w.Fatalf("%s: SSH is published at %q, wanted %q", when, got, want)
	}
}

var errNoPrivilegeSeparation = errors.New("sshd -T: exit status 255: Missing privilege separation directory: /run/sshd")

// TestSSHPortsNobodyKnows: sshd(8) -T fails until /run/sshd is there, as it does at
// every boot. That is not port 22.
func TestSSHPortsNobodyKnows(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	w.facts.SSHPorts, w.sshPorts = []uint16{2222}, []uint16{2222}
	first := w.document(1, nil, 2)
	w.apply(first)
	w.confirm(first)
	w.published("deployed", "2222")

	w.sshPorts, w.sshError = nil, errNoPrivilegeSeparation
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.published("booted", "2222")
	if done, err := w.host.Repair(ctx); err != nil || len(done) > 0 {
		t.Fatalf("repaired %v, %v", done, err)
	}
	second := w.document(2, nil, 2, 3)
	w.apply(second)
	w.published("changed", "2222")
	w.ring()
	w.published("rolled back", "2222")

	w.sshPorts = []uint16{2022} // sshd listens there, and does not say what else it will
	w.apply(second)
	w.published("one more is known", "2222 2022")
	w.confirm(second)
	w.published("confirmed", "2222 2022")
}

// TestSSHPortsAreAddedOnly: outside of a change that is confirmed no port goes that
// somebody may be coming in by.
func TestSSHPortsAreAddedOnly(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	first := w.document(1, nil, 2)
	w.apply(first)
	w.confirm(first)
	repair := func(when, want string) {
		t.Helper()
		if _, err := w.host.Repair(ctx); err != nil {
			t.Fatal(err)
		}
		w.published(when, want)
	}
	w.sshPorts = []uint16{2222}
	if done, err := w.host.Repair(ctx, "switch"); err != nil || len(done) > 0 {
		t.Fatalf("the switch alone: %v, %v", done, err)
	}
	repair("sshd moved", "22 2222")
	w.sshPorts = []uint16{2022}
	repair("sshd moved again", "22 2222 2022")
	w.sshPorts, w.sshError = nil, errNoPrivilegeSeparation
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.published("booted", "22 2222 2022")
	w.sshPorts, w.sshError = []uint16{2022}, nil
	repair("sshd is up", "22 2222 2022")

	second := w.document(2, nil, 2, 3)
	w.apply(second)
	w.published("changed, not confirmed", "2022")
	w.ring()
	w.published("rolled back", "22 2222 2022")
	w.apply(second)
	w.confirm(second)
	repair("confirmed", "2022")
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.published("booted after that", "2022")
}

// TestSSHPortsOfTheVersionBefore: it kept them with what the host was.
func TestSSHPortsOfTheVersionBefore(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	w.facts.SSHPorts, w.sshPorts = []uint16{2222}, []uint16{2222}
	first := w.document(1, nil, 2)
	w.apply(first)
	w.confirm(first)
	old := *first
	if old.SSHPorts != nil {
		t.Fatal(fmt.Errorf("ports %v", old.SSHPorts))
	}
	if err := w.host.Store.SetConfirmed(&old); err != nil {
		t.Fatal(err)
	}
	w.sshError = errNoPrivilegeSeparation
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.published("booted", "2222")
}
