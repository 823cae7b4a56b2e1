package system

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/spec"
)

// TestIfupdown holds that ifupdown does not know the uplink as its own while Mobula is
// on the host, and does when it is gone, whether or not it has configured it.
func TestIfupdown(t *testing.T) {
	const both = "lo=lo\neth0=eth0\n"
	withIfquery(t)
	cases := []struct{ name, before, own, during, after string }{
		{"it configured the uplink", both, "eth0\n", "lo=lo\n", both},
		{"it booted without the uplink", "lo=lo\n", "", "lo=lo\n", both},
		{"it took the uplink down", "lo=lo\n", "\n", "lo=lo\n", both},
		{"nothing but the uplink", "eth0=eth0\n", "eth0\n", "", "eth0=eth0\n"},
		{"names that begin alike", "eth01=eth01\n", "", "eth01=eth01\n", "eth01=eth01\neth0=eth0\n"},
		{"nothing is configured", "", "", "", "eth0=eth0\n"},
		{"only the uplink's own note is left", "lo=lo\n", "eth0\n", "lo=lo\n", both},
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
			s := at(root, "eth0", false)
			want, facts := host(t, false, spec.Ifupdown)
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

// TestIfupdownAliases holds that aliases are the uplink's, and go and come with it:
// those that come up at boot, and those whose addresses the NIC had. What they were
// called like stays.
func TestIfupdownAliases(t *testing.T) {
	withIfquery(t)
	const interfaces = "auto eth0\niface eth0 inet static\nauto eth0:0\niface eth0:0 inet static\niface eth0:1 inet static\niface eth0:2 inet static\nauto eth01\niface eth01 inet static\n"
	const before = "lo=lo\neth0=eth0\neth0:0=eth0:0\neth0:1=eth0:1\neth01=eth01\n"
	root := etc(t)
	path := filepath.Join(root, ifstate)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc/network/interfaces"), []byte(interfaces), 0o644))
	must(t, os.WriteFile(path, []byte(before), 0o644))
	for _, name := range []string{"lo", "eth0", "eth0:0", "eth0:1", "eth01"} {
		must(t, os.WriteFile(path+"."+name, []byte(name+"\n"), 0o644))
	}
	notes := func(when, list string, own ...string) {
		t.Helper()
		if data, err := os.ReadFile(path); err != nil || string(data) != list {
			t.Errorf("%s: found %q %v, wanted %q", when, data, err, list)
		}
		if files, err := filepath.Glob(path + ".*"); err != nil || len(files) != len(own) {
			t.Errorf("%s: found %v %v, wanted those of %v", when, files, err, own)
		}
		for _, name := range own {
			if data, err := os.ReadFile(path + "." + name); err != nil || string(data) != name+"\n" {
				t.Errorf("%s: the note of %s: found %q %v", when, name, data, err)
			}
		}
	}
	s := at(root, "eth0", false)
	want, facts := host(t, false, spec.Ifupdown)
	bring(t, s, want)
	notes("with Mobula", "lo=lo\neth01=eth01\n", "lo", "eth01")
	without := plan.Without(facts)
	for i, label := range []string{"eth0:1", "eth0:7"} { // an operator's own label is no name of ifupdown's
		a := spec.Address{Link: "eth0", Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(77 + i)}), 24), Label: label}
		without.Addresses = append(without.Addresses, a)
	}
	bring(t, s, without)
	notes("without", "lo=lo\neth01=eth01\neth0=eth0\neth0:0=eth0:0\neth0:1=eth0:1\n", "lo", "eth01", "eth0", "eth0:0", "eth0:1")
}

// TestIfupdownDropIn holds that neither the uplink nor its aliases come up at boot:
// one that does not find its device makes networking.service fail.
func TestIfupdownDropIn(t *testing.T) {
	want, _ := host(t, false, spec.Ifupdown)
	for _, f := range want.Files {
		if f.Path == spec.IfupdownDropIn && strings.Count(f.Content, "--exclude=eth0 ") == 2 && strings.Count(f.Content, "--exclude=eth0:*") == 2 {
			return
		}
	}
	t.Error("wanted the drop-in of networking.service to exclude eth0 and eth0:*, at boot and for hotplug")
}

// TestIfupdownWithoutRoom holds that a note for which there was no room is written
// once there is, by whoever goes on.
func TestIfupdownWithoutRoom(t *testing.T) {
	withIfquery(t)
	root := etc(t)
	path := filepath.Join(root, ifstate)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte("lo=lo\neth0=eth0\n"), 0o644))
	s := at(root, "eth0", false)
	want, facts := host(t, false, spec.Ifupdown)
	bring(t, s, want)

	must(t, os.Mkdir(path+".eth0", 0o755)) // no file can be read or put here
	ops, err := s.fileOperations(plan.Without(facts))
	must(t, err)
	var failed []string
	for i := len(ops) - 1; i >= 0; i-- { // as removals run
		if op := ops[i]; strings.HasPrefix(op.Object, "file ") && op.Do(context.Background()) != nil {
			failed = append(failed, op.Object)
		}
	}
	if len(failed) != 1 || failed[0] != "file "+spec.IfupdownDropIn {
		t.Errorf("without room: %v failed", failed)
	}
	must(t, os.Remove(path+".eth0"))
	bring(t, at(root, "eth0", false), plan.Without(facts))
	for file, want := range map[string]string{path: "lo=lo\neth0=eth0\n", path + ".eth0": "eth0\n"} {
		if data, err := os.ReadFile(file); err != nil || string(data) != want {
			t.Errorf("%s: found %q %v, wanted %q", filepath.Base(file), data, err, want)
		}
	}
}

// TestIfupdownBesideAnother holds that ifupdown does not get to know an uplink that
// another manager configures.
func TestIfupdownBesideAnother(t *testing.T) {
	withIfquery(t)
	root := etc(t)
	must(t, os.WriteFile(filepath.Join(root, "etc/network/interfaces"), []byte("iface lo inet loopback\n"), 0o644))
	path := filepath.Join(root, ifstate)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte("lo=lo\n"), 0o644))
	s := at(root, "eth0", false)
	want, facts := host(t, false, spec.Ifupdown, spec.Networkd)
	bring(t, s, want)
	bring(t, s, plan.Without(facts))
	if data, err := os.ReadFile(path); err != nil || string(data) != "lo=lo\n" {
		t.Errorf("found %q %v", data, err)
	}
	if _, err := os.Stat(path + ".eth0"); err == nil {
		t.Error("the uplink has a note of its own")
	}
}

// withIfquery puts an ifquery(8) in front that knows what the tests ask.
func withIfquery(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nfile=\"${1#--interfaces=}\"\n[ \"$2\" != --list ] || exec sed -n 's/^auto //p' \"$file\"\ngrep -q \"^iface $2 \" \"$file\"\n"
	must(t, os.WriteFile(filepath.Join(dir, "ifquery"), []byte(script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestNoIfupdown holds that hosts without ifupdown are left without its notes.
func TestNoIfupdown(t *testing.T) {
	root := etc(t)
	s := at(root, "eth0", false)
	want, facts := host(t, false, spec.Ifupdown)
	bring(t, s, want)
	bring(t, s, plan.Without(facts))
	if _, err := os.Stat(filepath.Join(root, filepath.Dir(ifstate))); err == nil {
		t.Errorf("found %s", filepath.Dir(ifstate))
	}
}
