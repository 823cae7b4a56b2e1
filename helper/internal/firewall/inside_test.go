package firewall

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestSharedBoundToAll and TestBoundToAll: what a host has bound to all addresses is open to all
// inside, in both modes, until the rules of docs/security.md leave it to the other hosts.
func TestSharedBoundToAll(t *testing.T) {
	if sharedWorld(t) {
		boundToAll(t)
	}
}

func TestBoundToAll(t *testing.T) {
	if world(t) {
		boundToAll(t)
	}
}

func boundToAll(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "      table inet inside {\n")
	rules, _, closed := strings.Cut(rest, "\n      }\n")
	if !found || !closed {
		t.Fatal("docs/security.md: found no table that closes ports")
	}
	serve(t, hostOf(1), "0.0.0.0:5432")
	asked := []struct {
		from, to, as string
		always       bool
	}{
		{guestOf(1), "10.31.128.1:5432", "10.31.200.1", false}, {guestOf(1), "10.30.0.1:5432", "10.31.200.1", false},
		{guestOf(2), "10.30.0.1:5432", "10.31.0.2", false}, {hostOf(2), "10.30.0.1:5432", "10.30.0.2", true},
	}
	for _, c := range asked {
		if got := ask(c.from, c.to); got != c.as {
			t.Errorf("without a packet filter %s comes to %s as %q, wanted %q", c.from, c.to, got, c.as)
		}
	}
	sh(t, hostOf(1), "nft 'table inet inside {\n"+rules+"\n}'")
	for _, c := range asked {
		if got := askFor(c.from, c.to, map[bool]time.Duration{true: patience, false: quiet}[c.always]); (got != "") != c.always {
			t.Errorf("with the rules %s comes to %s as %q, wanted an answer: %v", c.from, c.to, got, c.always)
		}
	}
}
