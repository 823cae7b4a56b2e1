package system

import (
	"os"
	"path/filepath"
	"testing"

	"mobula/helper/internal/plan"
)

// TestIfupdown holds that ifupdown does not know the uplink as its own while Mobula is
// on the host, and does when it is gone, whether or not it has configured it.
func TestIfupdown(t *testing.T) {
	const both = "lo=lo\neth0=eth0\n"
	cases := []struct{ name, before, own, during, after string }{
		{"it configured the uplink", both, "eth0\n", "lo=lo\n", both},
		{"it booted without the uplink", "lo=lo\n", "", "lo=lo\n", both},
		{"it took the uplink down", "lo=lo\n", "\n", "lo=lo\n", both},
		{"nothing but the uplink", "eth0=eth0\n", "eth0\n", "", "eth0=eth0\n"},
		{"names that begin alike", "eth01=eth01\n", "", "eth01=eth01\n", "eth01=eth01\neth0=eth0\n"},
		{"nothing is configured", "", "", "", "eth0=eth0\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := etc(t)
			path := filepath.Join(root, ifstate)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(c.before), 0o644))
			if c.own != "" {
				must(t, os.WriteFile(path+".eth0", []byte(c.own), 0o644))
			}
			s := &System{uplink: "eth0", root: root}
			want, facts := host(t, false, plan.Ifupdown)
			bring(t, s, want)
			if data, err := os.ReadFile(path); err != nil || string(data) != c.during {
				t.Errorf("with Mobula: found %q %v, wanted %q", data, err, c.during)
			}
			if data, err := os.ReadFile(path + ".eth0"); err == nil && string(data) == "eth0\n" {
				t.Error("with Mobula: the uplink's own note is left")
			}
			if again := bring(t, s, want); len(again) > 0 {
				t.Errorf("a second time: %v", again)
			}
			bring(t, s, plan.Without(facts))
			for file, want := range map[string]string{path: c.after, path + ".eth0": "eth0\n"} {
				if data, err := os.ReadFile(file); err != nil || string(data) != want {
					t.Errorf("%s: found %q %v, wanted %q", filepath.Base(file), data, err, want)
				}
			}
		})
	}
}

// TestNoIfupdown holds that hosts without ifupdown are left without its notes.
func TestNoIfupdown(t *testing.T) {
	root := etc(t)
	s := &System{uplink: "eth0", root: root}
	want, facts := host(t, false, plan.Ifupdown)
	bring(t, s, want)
	bring(t, s, plan.Without(facts))
	if _, err := os.Stat(filepath.Join(root, filepath.Dir(ifstate))); err == nil {
		t.Errorf("found %s", filepath.Dir(ifstate))
	}
}
