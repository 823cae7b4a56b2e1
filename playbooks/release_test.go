//go:build ansible

package playbooks_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// standIns are programs in place of released helpers, by architecture, built once.
var standIns = struct {
	sync.Mutex
	built map[string][]byte
}{built: map[string][]byte{}}

// standIn returns one that Go built from the package of the helper, or from another one.
func (d *deployer) standIn(arch, pkg string) []byte {
	d.Helper()
	standIns.Lock()
	defer standIns.Unlock()
	key := arch + " " + pkg
	if standIns.built[key] == nil {
		dir := d.TempDir()
		source, err := os.ReadFile(filepath.Join(d.tools, "release/main.go"))
		own, wrong := os.ReadFile("../go.mod")
		module, _, _ := strings.Cut(string(own), "\n")
		at := filepath.Join(dir, pkg)
		err = errors.Join(err, wrong, os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module+"\n\ngo 1.21\n"), 0o644),
			os.WriteFile(filepath.Join(at, "main.go"), source, 0o644))
		if err != nil {
			d.Fatal(err)
		}
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", "built", "./"+pkg)
		build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			d.Fatalf("%v\n%s", err, out)
		}
		if standIns.built[key], err = os.ReadFile(filepath.Join(dir, "built")); err != nil {
			d.Fatal(err)
		}
	}
	return standIns.built[key]
}

// release makes one of stand-ins, outside of the project, and has deploys use it. What a
// browser brings cannot be executed.
func (d *deployer) release(archs ...string) (folder string) {
	d.Helper()
	folder = d.TempDir()
	for _, arch := range archs {
		d.released(folder, "mobula-linux-"+arch, d.standIn(arch, "helper/cmd/mobula"))
	}
	return folder
}

// released puts a file into a release, and into its SHA256SUMS.
func (d *deployer) released(folder, name string, content []byte) {
	d.Helper()
	sums := filepath.Join(folder, "SHA256SUMS")
	before, err := os.ReadFile(sums)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.Fatal(err)
	}
	line := fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name)
	if err := errors.Join(os.WriteFile(filepath.Join(folder, name), content, 0o644), os.WriteFile(sums, append(before, line...), 0o644)); err != nil {
		d.Fatal(err)
	}
}

// withoutGo has the deployer find every program but Go.
func (d *deployer) withoutGo() {
	d.Helper()
	all := d.TempDir()
	for _, dir := range append([]string{d.tools}, filepath.SplitList(os.Getenv("PATH"))...) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			d.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() == "go" || e.Name() == "gofmt" {
				continue
			}
			if err := os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(all, e.Name())); err != nil && !errors.Is(err, os.ErrExist) {
				d.Fatal(err)
			}
		}
	}
	d.env = append(d.env, "PATH="+all)
}

// otherArch is another one than the deployer's, and what uname(1) calls it.
func otherArch() (arch, machine string) {
	if runtime.GOARCH == "arm64" {
		return "amd64", "x86_64"
	}
	return "arm64", "aarch64"
}

// installedHelpers are the programs on a host, by their SHA-256.
func (d *deployer) installedHelpers(host string) (all []string) {
	d.Helper()
	paths, err := filepath.Glob(filepath.Join(d.hosts, host, "usr/local/lib/mobula/*/mobula"))
	if err != nil {
		d.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			d.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%x", sha256.Sum256(content)))
	}
	return all
}

// TestRelease: hosts get the helpers of a release as they are there, and nothing is
// built; --check takes them, too, and leaves nothing on a host.
func TestRelease(t *testing.T) {
	d := newDeployer(t, 2)
	d.withoutGo()
	folder := d.release(runtime.GOARCH)
	d.released(folder, "mobula-linux-"+runtime.GOARCH+".cdx.json", []byte("{}"))
	// Not brought along, and needed by nobody.
	arch, _ := otherArch()
	d.released(folder, "mobula-linux-"+arch, []byte("elsewhere"))
	if err := os.Remove(filepath.Join(folder, "mobula-linux-"+arch)); err != nil {
		t.Fatal(err)
	}
	out, err := d.play("deploy.yml", "--check", "-e", "mobula_release="+folder)
	d.mustSay(out, err, false, "a new host: packages, helper, keys, then the whole network", "a new helper: unknown (built without git)")
	if got := d.installedHelpers(address(1)); got != nil {
		t.Errorf("--check left %v\n%s", got, out)
	}
	d.inventory("    mobula_release: "+folder+"\n", address(1), address(2))
	out, err = d.play("deploy.yml")
	d.mustSay(out, err, false)
	if got := d.deployed(); got != address(1)+" "+address(2) {
		t.Errorf("deployed: %q\n%s", got, out)
	}
	want := fmt.Sprintf("[%x]", sha256.Sum256(d.standIn(runtime.GOARCH, "helper/cmd/mobula")))
	if got := fmt.Sprint(d.installedHelpers(address(2))); got != want {
		t.Errorf("the host has %s, wanted %s\n%s", got, want, out)
	}
	if strings.Contains(out, "mobula_release: found") {
		t.Errorf("warned without git\n%s", out)
	}
	out, err = d.play("deploy.yml", "-e", "mobula_release=")
	d.mustSay(out, err, true, "go: not found")
}

// TestReleaseOfAnotherVersion is taken, and said.
func TestReleaseOfAnotherVersion(t *testing.T) {
	d := newDeployer(t, 1)
	folder := filepath.Join(d.dir, ".build", "release")
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(d.release(runtime.GOARCH), folder); err != nil {
		t.Fatal(err)
	}
	git := exec.Command("sh", "-c", "git init -q && git add . && git -c user.name=a -c user.email=a@example.com commit -q -m all && git tag v7")
	git.Dir = d.dir
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := d.play("deploy.yml", "-e", "allow_alone=1", "-e", "mobula_release=.build/release")
	d.mustSay(out, err, false, "mobula_release: found helpers of version unknown (built without git), wanted v7, as the playbooks here")
	if got := d.deployed(); got != address(1) {
		t.Errorf("deployed: %q\n%s", got, out)
	}
}

// TestReleaseThatIsNotOne: with what is wrong with the deployer's helper nothing begins,
// and what is wrong with the others is said with it.
func TestReleaseThatIsNotOne(t *testing.T) {
	other, _ := otherArch()
	mine := "mobula-linux-" + runtime.GOARCH
	for _, c := range []struct {
		name string
		make func(d *deployer) (folder string)
		say  []string
	}{
		{"no folder", func(d *deployer) string { return "/nonexistent" }, []string{"/nonexistent/SHA256SUMS: found no such file, wanted the SHA-256 of each helper"}},
		{"checksums that are none", func(d *deployer) string {
			folder := d.release(runtime.GOARCH)
			d.file(folder, "SHA256SUMS", "<!DOCTYPE html>\n")
			return folder
		}, []string{`/SHA256SUMS:1: found "<!DOCTYPE html>", wanted a SHA-256`}},
		{"another architecture alone", func(d *deployer) string { return d.release(other) }, []string{"/SHA256SUMS: found mobula-linux-" + other + ", wanted " + mine + ", too"}},
		{"a missing file", func(d *deployer) string {
			folder := d.release(runtime.GOARCH)
			if err := os.Remove(filepath.Join(folder, mine)); err != nil {
				d.Fatal(err)
			}
			return folder
		}, []string{"/" + mine + ": found no such file, wanted the helper that SHA256SUMS names"}},
		{"wrong sums", func(d *deployer) string {
			folder := d.release(runtime.GOARCH, other)
			d.file(folder, mine, "cut short")
			d.file(folder, "mobula-linux-"+other, "cut short, too")
			return folder
		}, []string{fmt.Sprintf("/%s: found SHA-256 %x, wanted ", mine, sha256.Sum256([]byte("cut short"))),
			fmt.Sprintf("/mobula-linux-%s: found SHA-256 %x, wanted ", other, sha256.Sum256([]byte("cut short, too")))}},
		{"no program", func(d *deployer) string {
			folder := d.TempDir()
			d.released(folder, mine, []byte("#!/bin/sh\n"))
			return folder
		}, []string{"/" + mine + ": found no helper of Mobula, wanted one for linux-" + runtime.GOARCH}},
		{"another program", func(d *deployer) string {
			folder := d.TempDir()
			d.released(folder, mine, d.standIn(runtime.GOARCH, "helper/cmd/other"))
			return folder
		}, []string{"/" + mine + ": found no helper of Mobula, wanted one for linux-" + runtime.GOARCH}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDeployer(t, 1)
			out, err := d.play("deploy.yml", "-e", "mobula_release="+c.make(d))
			d.mustSay(out, err, true, append(c.say, "nothing was changed")...)
			if got := d.read("order"); got != "" {
				t.Errorf("a host was touched: %s\n%s", got, out)
			}
			if _, err := os.Stat(filepath.Join(d.dir, ".build/mobula-deployer")); err == nil {
				t.Error("the helper was taken")
			}
		})
	}
}

// TestReleaseForOtherHosts: hosts for which it has no helper, or a wrong one, are refused
// before they are touched, and the others go on.
func TestReleaseForOtherHosts(t *testing.T) {
	d := newDeployer(t, 3)
	arch, machine := otherArch()
	d.put(address(2), "arch", machine+"\n")
	d.put(address(3), "arch", "riscv64\n")
	// That of an earlier deploy is not taken for it.
	d.folder(".build")
	d.write(".build/mobula-"+arch, "before")
	folder := d.release(runtime.GOARCH)
	d.released(folder, "mobula-linux-"+arch, d.standIn(runtime.GOARCH, "helper/cmd/mobula"))
	out, err := d.play("deploy.yml", "-e", "allow_alone=1", "-e", "mobula_release="+folder)
	d.mustSay(out, err, true, "192.0.2.2: the network of this host was not changed, the others go on: "+folder+"/mobula-linux-"+arch+": found a helper for linux-"+runtime.GOARCH+", wanted one for linux-"+arch,
		"192.0.2.3: the network of this host was not changed, the others go on: "+folder+"/SHA256SUMS: found mobula-linux-amd64, mobula-linux-arm64, wanted mobula-linux-riscv64, too",
		"192.0.2.3: refused: "+folder+"/SHA256SUMS: found")
	if got := d.deployed(); got != address(1) {
		t.Errorf("deployed: %q\n%s", got, out)
	}
	for _, host := range []string{address(2), address(3)} {
		if got := d.installedHelpers(host); got != nil || strings.Contains(d.read("order"), host) {
			t.Errorf("%s: touched, has %v\n%s", host, got, out)
		}
	}
	// The right one for both. Whether it runs here, where the other processor is but said,
	// is another question.
	folder = d.release(runtime.GOARCH, arch)
	out, _ = d.play("deploy.yml", "--limit", address(1)+","+address(2), "-e", "mobula_release="+folder)
	if got, want := fmt.Sprint(d.installedHelpers(address(2))), fmt.Sprintf("[%x]", sha256.Sum256(d.standIn(arch, "helper/cmd/mobula"))); got != want {
		t.Errorf("the host has %s, wanted %s\n%s", got, want, out)
	}
}

// file writes one of a release, of which SHA256SUMS knows nothing.
func (d *deployer) file(folder, name, content string) {
	d.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
		d.Fatal(err)
	}
}
