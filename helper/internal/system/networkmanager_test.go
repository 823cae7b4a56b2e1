package system

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// TestTakenBack holds that a removal waits for NetworkManager to give the NIC its
// addresses again, and for nothing else.
func TestTakenBack(t *testing.T) {
	on := func(prefix string) *spec.Host {
		return &spec.Host{Addresses: []spec.Address{{Link: "lo", Prefix: netip.MustParsePrefix(prefix)}, {Link: "other", Prefix: netip.MustParsePrefix("192.0.2.1/24")}}}
	}
	for _, c := range []struct {
		name, states string // what nmcli says, the last one for ever
		want         *spec.Host
		least, most  time.Duration
	}{
		{"at once", "100 (connected)", on("127.0.0.1/8"), 0, 10 * time.Second},
		{"after some states", "10 (unmanaged)\n20 (unavailable)\n70 (connecting)\n100 (connected)", on("127.0.0.1/8"), 300 * time.Millisecond, takingBack},
		{"never wanted", "10 (unmanaged)", on("127.0.0.1/8"), wantsNot, takingBack},
		{"no nmcli", "", on("127.0.0.1/8"), 0, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			fakeNmcli(t, c.states)
			began := time.Now()
			New("lo", false).takenBack(context.Background(), c.want)
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("took %v, wanted %v to %v", took, c.least, c.most)
			}
		})
	}
	t.Run("connected, but not yet with its address", func(t *testing.T) {
		fakeNmcli(t, "100 (connected)")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		New("lo", false).takenBack(ctx, on("192.0.2.99/32"))
		if ctx.Err() == nil {
			t.Error("it does not wait for the address")
		}
	})
}

// TestRemovalWaitsForNetworkManager holds that this is part of taking the files away.
func TestRemovalWaitsForNetworkManager(t *testing.T) {
	fakeNmcli(t, "100 (connected)")
	root := etc(t)
	s := at(root, "lo", false)
	path := filepath.Join(root, "etc/NetworkManager/conf.d/00-mobula.conf")
	must(t, os.WriteFile(path, nil, 0o644))
	want := &spec.Host{Addresses: []spec.Address{{Link: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")}}}
	ops, err := s.fileOperations(want)
	must(t, err)
	for _, op := range ops {
		if op.Object == "NetworkManager" && op.Verb == reconcile.Remove {
			must(t, op.Do(context.Background()))
		}
	}
	if asked, _ := os.ReadFile(filepath.Join(os.Getenv("FAKE"), "asked")); !strings.Contains(string(asked), "device show lo") {
		t.Errorf("nmcli was asked %q, wanted for the state of lo", asked)
	}
}

// fakeNmcli puts programs first in PATH: an nmcli that says one line of states each time
// it is asked, and a systemctl that always succeeds.
func fakeNmcli(t *testing.T, states string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("FAKE", dir)
	path := dir
	if states != "" {
		path += ":" + os.Getenv("PATH")
		must(t, os.WriteFile(filepath.Join(dir, "states"), []byte(states+"\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "nmcli"), []byte(`#!/bin/sh
echo "$@" >>"$FAKE/asked"
sed -n 1p "$FAKE/states"
if [ "$(wc -l <"$FAKE/states")" -gt 1 ]; then sed -i 1d "$FAKE/states"; fi
`), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"), 0o755))
	}
	t.Setenv("PATH", path)
}
