package transaction

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/packetfilter"
)

const ufwRules = "/etc/ufw/user.rules"

// operatorsRule is one that stood before Mobula came.
const operatorsRule = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n"

// putUFW gives the host an enabled ufw. It is the one packet filter here.
func (w *world) putUFW() error {
	return errors.Join(w.system.Put("/etc/ufw/ufw.conf", "ENABLED=yes\n", 0o644), w.system.Put(ufwRules, operatorsRule, 0o640))
}

// opener is the host's, as far as ufw goes.
func (w *world) opener() *packetfilter.Opener {
	root, _ := strings.CutSuffix(w.system.At("/etc"), "/etc")
	return &packetfilter.Opener{Run: w.ufw, Change: w.ufw, Root: root, Record: filepath.Join(w.dir, "openings.json")}
}

// ufw does what version 0.36.2 does with the file of its rules: a rule like another one
// takes its place, whatever its comment; none of that kind to delete is no error. Rules of
// forwarding come last here: they are in chains of their own, so their place among the
// others means nothing.
func (w *world) ufw(_ context.Context, name string, args ...string) (string, error) {
	if name != "ufw" {
		return "", exec.ErrNotFound
	}
	words, comment, _ := strings.Cut(strings.Join(args, " "), " comment ")
	route := strings.HasPrefix(words, "route ")
	words = strings.TrimPrefix(words, "route ")
	deletes := strings.HasPrefix(words, "delete ")
	words = strings.TrimPrefix(strings.TrimPrefix(words, "delete "), "allow ")
	tuple := fmt.Sprintf("### tuple ### allow udp %s 0.0.0.0/0 any 0.0.0.0/0 in", strings.TrimSuffix(words, "/udp"))
	if route {
		tuple = "### tuple ### route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_" + strings.TrimPrefix(words, "in on ")
	}
	data, err := os.ReadFile(w.system.At(ufwRules))
	if err != nil {
		return "", err
	}
	var kept, routes strings.Builder
	for _, line := range strings.SplitAfter(string(data), "\n") {
		if before, _, _ := strings.Cut(strings.TrimSpace(line), " comment="); before != tuple {
			place(line, &kept, &routes)
		}
	}
	if !deletes {
		if comment != "" {
			tuple += " comment=" + hex.EncodeToString([]byte(comment))
		}
		place(tuple+"\n", &kept, &routes)
	}
	return "", os.WriteFile(w.system.At(ufwRules), []byte(kept.String()+routes.String()), 0o640)
}

func place(line string, others, routes *strings.Builder) {
	if strings.Contains(line, " route:") {
		others = routes
	}
	others.WriteString(line)
}

// opened is what of ufw's rules is Mobula's, and that the operator's is there.
func (w *world) opened() (count int) {
	w.Helper()
	data, err := os.ReadFile(w.system.At(ufwRules))
	if err != nil {
		w.Fatal(err)
	}
	if !strings.HasPrefix(string(data), operatorsRule) {
		w.Errorf("the operator's rule is gone: %s", data)
	}
	return strings.Count(string(data), " comment=")
}

// TestOpeningsComeAndGo: with the change that opens them, and with its way back.
func TestOpeningsComeAndGo(t *testing.T) {
	w, ctx := newStaying(t), context.Background()
	change := w.document(1, nil, 2)
	apply := func(when string, want int) {
		t.Helper()
		if _, err := w.host.Apply(ctx, change, options); err != nil {
			t.Fatal(when, err)
		}
		if got := w.opened(); got != want {
			t.Errorf("%s: %d rules are Mobula's, wanted %d", when, got, want)
		}
	}
	apply("applied", 2)
	w.ring()
	if got := w.opened(); got != 0 {
		t.Errorf("not confirmed: %d rules are left", got)
	}
	apply("applied again", 2)
	if _, err := w.host.Confirm(ctx, change.Generation()); err != nil {
		t.Fatal(err)
	}
	if err := w.putUFW(); err != nil { // somebody else changes them
		t.Fatal(err)
	}
	if _, err := w.host.Repair(ctx); err != nil || w.opened() != 2 {
		t.Errorf("repaired: %d rules are Mobula's, wanted 2 (%v)", w.opened(), err)
	}
	if err := w.boot(); err != nil || w.opened() != 2 {
		t.Errorf("after a boot %d rules are Mobula's, wanted 2 (%v)", w.opened(), err)
	}
	change.Document.Serial++
	change.Document.Hosts[0].OpenFirewall = false
	apply("turned off", 0)
	w.ring()
	if got := w.opened(); got != 2 {
		t.Errorf("turned off, and not confirmed: %d rules are Mobula's, wanted 2", got)
	}
}
