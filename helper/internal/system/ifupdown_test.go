package system

import (
	"os"
	"path/filepath"
	"testing"

	"mobula/helper/internal/plan"
)

// TestIfupdown holds that ifupdown does not know the uplink as its own while Mobula
// is on the host, and does again afterwards.
func TestIfupdown(t *testing.T) {
	cases := []struct{ name, before, during, after string }{
		{"it configured the uplink", "lo=lo\neth0=eth0\n", "lo=lo\n", "lo=lo\neth0=eth0\n"},
		{"and nothing else", "eth0=eth0\n", "", "eth0=eth0\n"},
		{"it booted without the uplink", "lo=lo\n", "lo=lo\n", "lo=lo\neth0=eth0\n"},
		{"names that begin alike", "eth01=eth01\n", "eth01=eth01\n", "eth01=eth01\neth0=eth0\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := etc(t)
			path := filepath.Join(root, ifstate)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(c.before), 0o644))
			s := &System{uplink: "eth0", root: root}
			want, facts := host(t, false, plan.Ifupdown)
			holds := func(when, want string) {
				t.Helper()
				data, err := os.ReadFile(path)
				must(t, err)
				if string(data) != want {
					t.Errorf("%s: found %q, wanted %q", when, data, want)
				}
			}
			bring(t, s, want)
			holds("with Mobula", c.during)
			if again := bring(t, s, want); len(again) > 0 {
				t.Errorf("a second time: %v", again)
			}
			bring(t, s, plan.Without(facts))
			holds("without", c.after)
		})
	}
}

// TestNoIfupdown holds that hosts without ifupdown are left without it.
func TestNoIfupdown(t *testing.T) {
	root := etc(t)
	s := &System{uplink: "eth0", root: root}
	want, facts := host(t, false, plan.Ifupdown)
	bring(t, s, want)
	bring(t, s, plan.Without(facts))
	if _, err := os.Stat(filepath.Join(root, ifstate)); err == nil {
		t.Errorf("found %s", ifstate)
	}
}
