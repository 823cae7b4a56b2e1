package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"mobula/helper/internal/spec"
)

// systemctl does what systemctl(1) says, for what the driver asks. What it complains
// of is as of systemd 252.
func (m *Machine) systemctl(verb string, args []string) (out, problem string) {
	unit := ""
	if len(args) > 0 {
		unit = args[len(args)-1]
	}
	switch verb {
	case "daemon-reload":
		m.reload()
	case "reset-failed":
	case "is-active":
		if !m.Running(unit) {
			return "", "inactive" // exits with 3
		}
	case "start":
		return "", m.start(unit)
	case "restart":
		m.Stop(unit)
		return "", m.start(unit)
	case "stop":
		if _, known := m.unit(unit); !known && !m.Running(unit) {
			return "", fmt.Sprintf("Failed to stop %s: Unit %s not loaded.", unit, unit)
		}
		m.Stop(unit)
	case "try-restart", "try-reload-or-restart":
		if manager := spec.Manager(strings.TrimSuffix(unit, ".service")); m.Running(unit) {
			m.reads(manager)
		}
	case "show":
		return m.show(args)
	default:
		return "", "Unknown command verb " + verb + "."
	}
	return "", ""
}

// show prints properties of units, with an empty line between these. systemd has an
// order of its own for properties, and does not complain of units that it lacks.
func (m *Machine) show(args []string) (out, problem string) {
	if len(args) < 2 || args[0] != "--property=Id,ActiveState,MainPID,NeedDaemonReload" {
		return "", fmt.Sprintf("the systemctl of tests does not show %v", args)
	}
	var units []string
	for _, unit := range args[1:] {
		state := map[bool]string{false: "inactive", true: "active"}[m.Running(unit)]
		stale := map[bool]string{false: "no", true: "yes"}[m.stale(spec.UnitDir+unit)]
		units = append(units, fmt.Sprintf("MainPID=%d\nId=%s\nActiveState=%s\nNeedDaemonReload=%s\n", m.running[unit], unit, state, stale))
	}
	return strings.Join(units, "\n"), ""
}

// reload reads all units again. One that runs stays known without its file.
func (m *Machine) reload() {
	m.loaded = map[string]string{}
	files, _ := filepath.Glob(m.At(spec.UnitDir + "*.service"))
	dropIns, _ := filepath.Glob(m.At(spec.UnitDir + "*.service.d/*.conf"))
	for _, path := range append(files, dropIns...) {
		path = strings.TrimPrefix(path, m.Root)
		m.loaded[path] = m.Content(path)
	}
}

// stale is what unit_need_daemon_reload of systemd says of a file: that it is another
// one than was read, or is gone. A unit that was not found is looked for anew each time
// (manager_unit_cache_should_retry_load).
func (m *Machine) stale(path string) bool {
	read, known := m.loaded[path]
	return known && read != m.Content(path)
}

// unit returns what systemd has read of a unit.
func (m *Machine) unit(name string) (text string, known bool) {
	path := spec.UnitDir + name
	if _, known := m.loaded[path]; !known {
		if _, err := os.Stat(m.At(path)); err == nil {
			m.loaded[path] = m.Content(path)
		}
	}
	text, known = m.loaded[path]
	return text, known
}

var (
	execStart     = regexp.MustCompile(`(?m)^ExecStart=(\S+) `)
	wants         = regexp.MustCompile(`(?m)^Wants=(mobula-\S+\.service)$`)
	namespacePath = regexp.MustCompile(`(?m)^NetworkNamespacePath=/run/netns/(\S+)$`)
	pidFile       = regexp.MustCompile(`(?m)^Type=forking$`)
)

func (m *Machine) start(unit string) (problem string) {
	if m.Running(unit) {
		return ""
	}
	content, known := m.unit(unit)
	if !known {
		return fmt.Sprintf("Failed to start %s: Unit %s not found.", unit, unit)
	}
	for _, other := range wants.FindAllStringSubmatch(content, -1) {
		_ = m.start(other[1]) // it starts without what it wants, too (systemd.unit(5))
	}
	found := execStart.FindStringSubmatch(content)
	if found == nil {
		return fmt.Sprintf("Failed to start %s: Unit %s has a bad unit file setting.", unit, unit)
	}
	path := m.resolved(found[1])
	ns := namespacePath.FindStringSubmatch(content)
	if !m.Executable(path) || ns != nil && !m.Namespace(ns[1]) {
		if !pidFile.MatchString(content) {
			return "" // of a simple one it is not told (Type= in systemd.service(5)), but it does not run
		}
		return fmt.Sprintf("Job for %s failed because the control process exited with error code.", unit)
	}
	m.lastPID++
	m.running[unit] = m.lastPID
	exe := m.At(fmt.Sprintf("/proc/%d/exe", m.lastPID))
	if os.MkdirAll(filepath.Dir(exe), 0o755) != nil || os.Symlink(path, exe) != nil {
		panic("no room for " + exe)
	}
	return ""
}

// resolved follows the one link that leads to a program.
func (m *Machine) resolved(path string) string {
	if target, err := os.Readlink(m.At(path)); err == nil {
		return target
	}
	return path
}

// Start is what systemd does by itself with a unit that is enabled, or has ended.
func (m *Machine) Start(unit string) { _ = m.start(unit) }

// Stop ends a unit, as a crash does.
func (m *Machine) Stop(unit string) {
	if pid, runs := m.running[unit]; runs {
		_ = os.RemoveAll(m.At(fmt.Sprintf("/proc/%d", pid)))
		delete(m.running, unit)
		m.Stopped()
	}
}

// Running reports whether a unit is active.
func (m *Machine) Running(unit string) bool { _, runs := m.running[unit]; return runs }

// Ran makes a unit active whose program has ended well (RemainAfterExit=yes).
func (m *Machine) Ran(unit string) { m.running[unit] = 0 }

// Program is what a unit runs; "" for nothing.
func (m *Machine) Program(unit string) string {
	path, _ := os.Readlink(m.At(fmt.Sprintf("/proc/%d/exe", m.running[unit])))
	return path
}

// Enabled tells that systemd starts a unit when the host boots.
func (m *Machine) Enabled(unit string) bool {
	_, err := os.Stat(m.At(spec.UnitDir + unit))
	_, linkErr := os.Lstat(m.At(spec.UnitDir + "multi-user.target.wants/" + unit))
	return err == nil && linkErr == nil
}

// PowerCycle leaves what is on the disk, which systemd reads.
func (m *Machine) PowerCycle() error {
	for _, dir := range []string{"/run", "/proc"} {
		if err := os.RemoveAll(m.At(dir)); err != nil {
			return err
		}
	}
	m.running, m.unmanaged = map[string]int{}, map[spec.Manager][]string{}
	m.reload()
	return nil
}

// String renders what is on the disk, what runs, and who has not read it.
func (m *Machine) String() string {
	var lines []string
	m.forgetLinks()
	for _, dir := range []string{"/etc", "/run"} {
		_ = filepath.WalkDir(m.At(dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return nil
			}
			name := strings.TrimPrefix(path, m.Root)
			if m.countsNot(name) {
				return nil
			}
			if entry.Type() == os.ModeSymlink {
				target, _ := os.Readlink(path)
				lines = append(lines, "link "+name+" → "+target)
			} else if text := m.Content(name); m.contents[name].info != nil {
				lines = append(lines, fmt.Sprintf("file %s %o %q", name, m.contents[name].info.Mode().Perm(), text))
			}
			return nil
		})
	}
	for unit := range m.running {
		if unit != spec.UnitBoot { // which is active if the host has booted with it
			lines = append(lines, "running "+unit)
		}
	}
	for path := range m.loaded {
		if m.stale(path) {
			lines = append(lines, "systemd has not read "+path)
		}
	}
	for manager, links := range m.unmanaged {
		if m.Running(string(manager) + ".service") {
			lines = append(lines, fmt.Sprintf("%s leaves alone %v", manager, links))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n") + "\n"
}
