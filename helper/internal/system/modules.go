package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modules are those of the kernel that Mobula cannot do without, each with the family of
// generic netlink by which the kernel tells that it is there; "": none.
var modules = []struct{ name, family string }{
	{"wireguard", "wireguard"}, {"openvswitch", "ovs_datapath"}, {"vport_geneve", ""}, {"nf_tables", ""}, {"veth", ""},
}

// Modules tells which modules the running kernel lacks: a container has those of its host
// alone, and a kernel of one's own what it was made with. known reports a family of generic
// netlink.
func Modules(known func(family string) bool) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	return missingModules("/", unix.ByteSliceToString(name.Release[:]), known)
}

// missingModules looks below a root. Where nothing lists the modules of the kernel, what
// cannot be asked for counts as there.
func missingModules(root, release string, known func(family string) bool) error {
	dir := filepath.Join(root, "lib/modules", release)
	listed, err := listedModules(dir)
	frozen, _ := os.ReadFile(filepath.Join(root, "proc/sys/kernel/modules_disabled")) // not there: none can be loaded anyway
	var missing []string
	for _, m := range modules {
		_, loaded := os.Stat(filepath.Join(root, "sys/module", m.name))
		switch {
		case loaded == nil || listed[m.name] == builtIn || listed[m.name] == loadable && strings.TrimSpace(string(frozen)) != "1":
		case err != nil && m.family == "":
		case m.family != "" && known(m.family):
		default:
			missing = append(missing, m.name)
		}
	}
	switch {
	case len(missing) == 0:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("kernel modules: found no %s and no %s, wanted both: in a container, load them on its host; after an update of the kernel, reboot",
			strings.Join(missing, ", "), dir)
	}
	return fmt.Errorf("kernel modules: found no %s for the kernel %s, or none that may be loaded, wanted them", strings.Join(missing, ", "), release)
}

// presence is how the kernel has a module.
type presence int

const (
	loadable presence = 1 + iota
	builtIn
)

// listedModules are those that depmod(8) found, by their names.
func listedModules(dir string) (map[string]presence, error) {
	listed := map[string]presence{}
	for file, as := range map[string]presence{"modules.dep": loadable, "modules.builtin": builtIn} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(data), "\n") {
			path, _, _ := strings.Cut(line, ":")
			name, _, _ := strings.Cut(filepath.Base(path), ".ko") // or compressed, .ko.xz
			listed[strings.ReplaceAll(name, "-", "_")] = as
		}
	}
	return listed, nil
}
