package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree renders the files below a directory; those of root's own making only.
func tree(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	must(t, filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == root {
			return err
		}
		if path == filepath.Join(root, "run") {
			return filepath.SkipDir // it has notes for those whom bring does not ask to read
		}
		line := strings.TrimPrefix(path, root)
		switch {
		case info.IsDir():
			line += "/"
		case info.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			line += " → " + target
		default:
			data, _ := os.ReadFile(path)
			line += fmt.Sprintf(" %o %q", info.Mode().Perm(), data)
		}
		lines = append(lines, line)
		return nil
	}))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// bring carries out what concerns files; who reads them again is not asked to.
func bring(t *testing.T, s *System, want *spec.Host) []string {
	t.Helper()
	ops, err := s.fileOperations(want)
	must(t, err)
	var did []string
	for _, op := range ops {
		did = append(did, op.String())
		if strings.HasPrefix(op.Object, "file ") || op.Object == "ifupdown" {
			must(t, op.Do(context.Background()))
			must(t, op.Do(context.Background())) // a repetition succeeds
		}
	}
	again, err := s.fileOperations(want)
	must(t, err)
	if len(again) > 0 {
		t.Fatalf("a second look finds %v", again)
	}
	return did
}

func host(t *testing.T, manual bool, m ...spec.Manager) (*spec.Host, spec.Facts) {
	t.Helper()
	f := plantest.Facts(m...)
	self := plantest.Host(1)
	self.ManualAccess = manual
	h, err := plan.Build(plantest.Document(self), 1, *f)
	must(t, err)
	return h, *f
}

// at is New with a directory in front of all paths.
func at(root, uplink string, booting bool) *System {
	m := thisHost
	m.Root = root
	return On(m, uplink, booting)
}

// etc makes a host's files.
func etc(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"etc/systemd/system/multi-user.target.wants", "etc/systemd/network", "etc/NetworkManager/conf.d", "etc/network"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(root, "etc/systemd/system/multi-user.target.wants/ssh.service"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(root, spec.ResolvConfPath), []byte(plantest.Facts().ResolvConf.Content), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "etc/network/interfaces"), []byte("iface eth0 inet dhcp\n"), 0o644))
	return root
}

func TestFilesComeAndGo(t *testing.T) {
	for _, manager := range []spec.Manager{spec.Ifupdown, spec.Networkd, spec.NetworkManager} {
		t.Run(string(manager), func(t *testing.T) {
			root := etc(t)
			// What is not Mobula's is not empty in a real system.
			must(t, os.WriteFile(filepath.Join(root, "etc/systemd/network/10.network"), nil, 0o644))
			must(t, os.WriteFile(filepath.Join(root, "etc/NetworkManager/conf.d/10.conf"), nil, 0o644))
			before := tree(t, root)
			s := at(root, "eth0", false)
			want, facts := host(t, false, manager)
			did := bring(t, s, want)
			if count := strings.Count(strings.Join(did, "\n"), "file "); count != len(want.Files) {
				t.Errorf("did %v, wanted all of %d files", did, len(want.Files))
			}
			must(t, os.WriteFile(filepath.Join(root, "etc/systemd/system/mobula-agent.service"), []byte("other"), 0o644))
			must(t, os.Chmod(filepath.Join(root, "etc/systemd/system/mobula-ovsdb.service"), 0o600))
			must(t, os.Remove(filepath.Join(root, "etc/systemd/system/multi-user.target.wants/mobula-agent.service")))
			did = bring(t, s, want)
			if got := strings.Join(did, "\n"); strings.Count(got, "\n") != 3 || !strings.Contains(got, "+ file /etc/systemd/system/multi-user.target.wants/mobula-agent.service") {
				t.Errorf("did\n%s", got)
			}
			bring(t, s, plan.Without(facts))
			if after := tree(t, root); after != before {
				t.Errorf("after\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

func TestLeavingKeepsTheUnits(t *testing.T) {
	root := etc(t)
	s := at(root, "eth0", false)
	want, facts := host(t, false, spec.Ifupdown)
	bring(t, s, want)
	bring(t, s, plan.Leaving(facts))
	left := tree(t, root)
	for name, stays := range map[string]bool{"multi-user.target.wants/mobula-network.service": true, "system/mobula-agent.service": true,
		"\n/etc/systemd/system/networking.service.d/": false, "\n/etc/systemd/system/ifup@eth0.service.d/": false, "nameserver 10.31": false} {
		if strings.Contains(left, name) != stays {
			t.Errorf("%s: wanted it to stay: %v, found\n%s", name, stays, left)
		}
	}
}

// TestResolvConf holds that the host's own resolv.conf comes back where ours is,
// and that anybody else's stays.
func TestResolvConf(t *testing.T) {
	target := "/run/systemd/resolve/stub-resolv.conf"
	cases := []struct {
		name string
		own  spec.File
		set  func(path string) error // by somebody else, after Mobula came
	}{
		{"a file", spec.File{Mode: 0o600, Content: "nameserver 192.0.2.53\n"}, nil},
		{"a link", spec.File{Target: target}, nil},
		{"none", spec.File{Missing: true}, nil},
		{"somebody else's file", spec.File{Mode: 0o644, Content: "x\n"}, func(path string) error { return os.WriteFile(path, []byte("other\n"), 0o644) }},
		{"somebody else's link", spec.File{Mode: 0o644, Content: "x\n"}, func(path string) error {
			_ = os.Remove(path)
			return os.Symlink(target, path)
		}},
		{"somebody removed it", spec.File{Mode: 0o644, Content: "x\n"}, os.Remove},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, spec.ResolvConfPath)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			c.own.Path = path
			must(t, thisHost.put(c.own))
			want := describe(path)
			found, err := resolvConf(path)
			must(t, err)
			found.Path = spec.ResolvConfPath
			facts := *plantest.Facts()
			facts.ResolvConf = found
			s := at(root, "eth0", false)
			h, err := plan.Build(plantest.Document(plantest.Host(1)), 1, facts)
			must(t, err)
			bring(t, s, h)
			if c.set != nil {
				must(t, c.set(path))
				want = describe(path)
			}
			bring(t, s, plan.Without(facts))
			if got := describe(path); got != want {
				t.Errorf("found %s, wanted %s", got, want)
			}
		})
	}
}

// describe renders one file.
func describe(path string) string {
	if target, err := os.Readlink(path); err == nil {
		return "link to " + target
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "none"
	}
	info, _ := os.Stat(path)
	return fmt.Sprintf("%o %q", info.Mode().Perm(), data)
}

func TestReloads(t *testing.T) {
	r := reloads{}
	r.note("/etc/systemd/system/mobula-agent.service", reconcile.StepFiles)
	r.note("/etc/systemd/network/+mobula-links.network", reconcile.StepFiles)
	r.note("/etc/systemd/networkd.conf.d/mobula.conf", reconcile.StepFiles)
	r.note("/etc/systemd/network/00-mobula-uplink.network", reconcile.StepResolver)
	r.note("/etc/NetworkManager/conf.d/zz-mobula-links.conf", reconcile.StepFiles)
	r.note("/etc/NetworkManager/conf.d/00-mobula.conf", reconcile.StepResolver)
	r.note("/etc/resolv.conf", reconcile.StepResolver)
	for verb, want := range map[reconcile.Verb]string{
		reconcile.Change: "0 systemd, 0 systemd-networkd, 0 NetworkManager, 11 systemd-networkd, 11 NetworkManager",
		reconcile.Remove: "0 systemd, 0 systemd-networkd, 0 NetworkManager, 11 systemd-networkd, 11 NetworkManager",
	} {
		var got []string
		for _, op := range at(t.TempDir(), "eth0", false).reading(r, verb) {
			got = append(got, fmt.Sprint(int(op.Step), " ", op.Object))
			if op.Verb != verb {
				t.Errorf("%s", op)
			}
		}
		if text := strings.Join(got, ", "); strings.ReplaceAll(text, fmt.Sprint(int(reconcile.StepResolver)), "11") != want {
			t.Errorf("found %s, wanted %s", text, want)
		}
	}
	if ops := at(t.TempDir(), "eth0", false).reading(reloads{}, reconcile.Remove); len(ops) > 0 {
		t.Errorf("found %v", ops)
	}
}

// TestRemovalsEndWithReading holds that files are read again after they are gone,
// although removals run backwards.
func TestRemovalsEndWithReading(t *testing.T) {
	root := etc(t)
	s := at(root, "eth0", false)
	want, facts := host(t, false, spec.Networkd)
	bring(t, s, want)
	ops, err := s.fileOperations(plan.Without(facts))
	must(t, err)
	seenFile := false
	for _, op := range ops {
		isFile := strings.HasPrefix(op.Object, "file ")
		if op.Verb == reconcile.Remove && seenFile && !isFile {
			t.Errorf("%s would run before files are removed", op)
		}
		seenFile = seenFile || op.Verb == reconcile.Remove && isFile
	}
}

func TestPutReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.d", "file")
	for _, f := range []spec.File{{Mode: 0o644, Content: "one"}, {Target: "x"}, {Target: "y"}, {Mode: 0o600, Content: "two"}, {Missing: true}} {
		f.Path = path
		for twice := 0; twice < 2; twice++ {
			must(t, thisHost.put(f))
			if same, exists, err := compare(f); err != nil || !same || exists == f.Missing {
				t.Errorf("%+v: %v %v %v", f, same, exists, err)
			}
		}
	}
	if left := tree(t, dir); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestUnitsThatWait holds that a plan says which changed units no running service has
// taken up.
func TestUnitsThatWait(t *testing.T) {
	s := at(etc(t), "eth0", false)
	want, _ := host(t, false, spec.Ifupdown)
	if first := strings.Join(bring(t, s, want), "\n"); strings.Contains(first, startsLater) {
		t.Errorf("a new host:\n%s", first)
	}
	waits := map[string]bool{spec.UnitDir + spec.UnitOVSDB: true, spec.UnitDir + spec.UnitVSwitch: true, spec.UnitDir + spec.UnitAgent: false}
	for path := range waits {
		must(t, os.WriteFile(s.at(path), []byte("another version's"), 0o644))
	}
	for _, did := range bring(t, s, want) {
		name, _, _ := strings.Cut(strings.TrimPrefix(did, "~ file "), ":")
		if got := strings.HasSuffix(did, startsLater); got != waits[name] {
			t.Errorf("%s: wanted it to say that it waits: %v", did, waits[name])
		}
	}
}
