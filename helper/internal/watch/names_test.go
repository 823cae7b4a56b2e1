package watch

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// TestOthersChangeWhereNamesAreFound: what others write, or start, is noticed within a
// second, and what they wrote before the agent began, too.
func TestOthersChangeWhereNamesAreFound(t *testing.T) {
	dir := t.TempDir()
	hosts, links := filepath.Join(dir, "hosts"), filepath.Join(dir, "netif")
	write := func(path string) {
		t.Helper()
		// As cloud-init and systemd-resolved do: another file takes its place.
		if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(hosts)
	if err := os.Mkdir(links, 0o700); err != nil {
		t.Fatal(err)
	}
	r := New(Config{})
	r.names = []string{hosts, links}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go r.watchNames(ctx)
	noticed := func(what, want string) {
		t.Helper()
		select {
		case got := <-r.reasons:
			if got != want+" changed" {
				t.Errorf("%s: found %q", what, got)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: nobody noticed", what)
		}
	}
	noticed("from before", hosts)
	noticed("from before", links)
	write(hosts)
	noticed("written", hosts)
	write(filepath.Join(links, "7"))
	noticed("told of a link", links)
	if err := os.Remove(hosts); err != nil {
		t.Fatal(err)
	}
	noticed("removed", hosts)
	select {
	case got := <-r.reasons:
		t.Errorf("nothing changed: found %q", got)
	case <-time.After(3 * ownNamesInterval):
	}
}

// TestWhereNamesAreFound: what is watched follows from what the host is given.
func TestWhereNamesAreFound(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	shared := &spec.Facts{Shared: &spec.Shared{Outside: []string{"eth0"}}}
	for name, c := range map[string]struct {
		facts *spec.Facts
		as    func(*network.Host)
		count int
	}{
		"the NIC stays":                   {shared, func(h *network.Host) { h.SharedUplink = true }, 5},
		"the gateway looks all up":        {shared, func(h *network.Host) { h.SharedUplink, h.GatewayResolver = true, true }, 1},
		"the NIC moves":                   {plantest.Facts(), func(*network.Host) {}, 1},
		"the NIC moves, all else by hand": {plantest.Facts(), func(h *network.Host) { h.ManualAccess = true }, 0},
	} {
		r := New(Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Facts: func() (*spec.Facts, error) { return c.facts, nil }})
		self := plantest.Host(1)
		c.as(&self)
		r.Follow(&store.Change{HostID: 1, Document: plantest.Document(self)})
		if len(r.names) != c.count {
			t.Errorf("%s: watches %q", name, r.names)
		}
	}
}
