package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages from the lowest to the highest: each may import those
// of the layers above its own line only.
var layers = [][]string{
	{"templates", "helper/internal/network", "helper/internal/netns", "helper/internal/block", "helper/internal/bucket", "helper/internal/shared", "helper/internal/localsocket"},
	{"helper/internal/spec"},
	{"helper/internal/inventory", "helper/internal/client", "helper/internal/nameserver", "helper/internal/plan", "helper/internal/endpoints", "helper/internal/probe", "helper/internal/report"},
	{"helper/internal/reconcile"},
	{"helper/internal/links", "helper/internal/vswitch", "helper/internal/firewall", "helper/internal/paths", "helper/internal/rawudp", "helper/internal/firstpacket", "helper/internal/sourceport", "helper/internal/mesh", "helper/internal/web",
		"helper/internal/packetfilter", "helper/internal/hostnames"},
	{"helper/internal/wireguard", "helper/internal/metrics"},
	{"helper/internal/store"},
	{"helper/internal/system", "helper/internal/transaction"},
	{"helper/internal/watch", "helper/internal/healing", "helper/internal/worker"},
	{"helper/internal/agent"},
	{"helper/cmd/mobula"},
	{"lab"},
}

// owners are the only packages that may import a dependency. Drivers never import plan: they
// are told what a host should have. (A fake of the kernel begins as a host without Mobula.)
var owners = map[string][]string{
	"mobula/helper/internal/plan":         {"helper/internal/transaction", "helper/internal/watch", "helper/internal/healing", "helper/internal/links/linkstest"},
	"gopkg.in/yaml.v3":                    {"helper/internal/inventory"},
	"rsc.io/qr":                           {"helper/internal/client"},
	"github.com/spf13/cobra":              {"helper/cmd/mobula"},
	"github.com/spf13/pflag":              {"helper/cmd/mobula", "lab"},
	"golang.zx2c4.com/wireguard":          {"helper/internal/wireguard"},
	"github.com/vishvananda/netlink":      {"helper/internal/links"},
	"github.com/google/nftables":          {"helper/internal/firstpacket", "helper/internal/sourceport", "helper/internal/firewall"},
	"github.com/florianl/go-nflog":        {"helper/internal/firstpacket"},
	"github.com/prometheus/client_golang": {"helper/internal/metrics"},
	"github.com/miekg/dns":                {"helper/internal/nameserver", "lab"},
}

// modulePath is the name of the project's module, with the slash that begins a package's.
func modulePath(t *testing.T) string {
	t.Helper()
	first, _, _ := strings.Cut(readText(t, "go.mod"), "\n")
	name, found := strings.CutPrefix(first, "module ")
	if !found {
		t.Fatalf("go.mod: found %q, wanted the name of the module", first)
	}
	return name + "/"
}

// packages returns the imports of each package of the project that are not for
// its tests.
func packages(t *testing.T) map[string]map[string]bool {
	t.Helper()
	const top = "../../"
	all := map[string]map[string]bool{}
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != top && (strings.HasPrefix(name, ".") || name == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), filepath.Clean(top)+"/"))
		if all[dir] == nil {
			all[dir] = map[string]bool{}
		}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			all[dir][imported] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// within reports that a package is one of the given or below it.
func within(path string, roots ...string) bool {
	for _, root := range roots {
		if path == root || strings.HasPrefix(path, root+"/") {
			return true
		}
	}
	return false
}

// isForTests tells the packages that hold fakes, such as linkstest.
func isForTests(path string) bool { return strings.HasSuffix(path, "test") }

func layerOf(path string) int {
	for i, layer := range layers {
		if within(path, layer...) {
			return i
		}
	}
	return -1
}

func TestImportDirections(t *testing.T) {
	found := packages(t)
	if len(found) < 15 {
		t.Fatalf("found only %d packages", len(found))
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	module, own := modulePath(t), 0
	for _, name := range names {
		layer := layerOf(name)
		if layer < 0 {
			if within(name, "helper") {
				t.Errorf("%s has no layer: add it to this test", name)
			}
			continue
		}
		for imported := range found[name] {
			path, ours := strings.CutPrefix(imported, module)
			if ours {
				own++
			}
			switch {
			case !ours || within(path, packageRoot(name)) || within(name, path):
			case isForTests(path) && !isForTests(name):
				t.Errorf("%s imports %s, which is for tests", name, path)
			case layerOf(path) >= layer && !isForTests(name):
				t.Errorf("%s imports %s, which is not below it", name, path)
			}
		}
	}
	if own < 50 {
		t.Errorf("found %d imports of packages of %s", own, module)
	}
}

// packageRoot is the package of a layer that a package is or belongs to.
func packageRoot(name string) string {
	for _, layer := range layers {
		for _, root := range layer {
			if within(name, root) {
				return root
			}
		}
	}
	return name
}

func TestOneOwnerForEachDependency(t *testing.T) {
	used := map[string]bool{}
	for name, imports := range packages(t) {
		for imported := range imports {
			for dependency, allowed := range owners {
				used[dependency] = used[dependency] || within(imported, dependency)
				if within(imported, dependency) && !within(name, allowed...) {
					t.Errorf("%s imports %s, which belongs to %s", name, imported, strings.Join(allowed, " and "))
				}
			}
		}
	}
	for dependency := range owners {
		if !used[dependency] {
			t.Errorf("nobody imports %s, which has owners", dependency)
		}
	}
}
