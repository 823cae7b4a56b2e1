package system

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// startups is in the command line of an sshd that takes connections, which it writes
// anew: "sshd: /usr/sbin/sshd -D -p 2222 [listener] 0 of 10-100 startups".
const startups = " [listener] "

// runningSSHDs returns the host's own sshd that take connections, as directories of
// proc(5). Sessions may listen, too, for what users forward, and are left without a
// parent when sshd is started again; what users start, or containers, is theirs: the
// parent of the host's own is systemd.
func runningSSHDs(proc string) (dirs []string) {
	names, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	for _, name := range names {
		dir := filepath.Dir(name)
		if strings.TrimSpace(readIn(dir, "comm")) == "sshd" && strings.Contains(readIn(dir, "cmdline"), startups) && ofSystem(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func readIn(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name)) // the process may have just ended
	return string(data)
}

// ofSystem reports that a process is root's and that systemd is its parent.
func ofSystem(dir string) bool {
	root, child := false, false
	for _, line := range strings.Split(readIn(dir, "status"), "\n") {
		switch f := strings.Fields(line); {
		case len(f) == 5 && f[0] == "Uid:":
			root = f[1] == "0" && f[2] == "0"
		case len(f) == 2 && f[0] == "PPid:":
			child = f[1] == "1"
		}
	}
	return root && child
}

// startedWith returns the options with which an sshd was started, as far as they say
// where it listens: configuration file, ports, other settings, IPv4 or IPv6 alone.
// Where a word began is not known; one that is no option belongs to the one before.
func startedWith(dir string) (options []string) {
	line, _, _ := strings.Cut(readIn(dir, "cmdline"), startups)
	words := strings.Fields(strings.TrimPrefix(line, "sshd:"))
	for i := 1; i < len(words); i++ { // after the program
		flags, ok := strings.CutPrefix(words[i], "-")
		for j := 0; ok && j < len(flags); j++ {
			if flags[j] == '4' || flags[j] == '6' {
				options = append(options, "-"+flags[j:j+1])
			}
			if !strings.ContainsRune("CEVbcfghkopu", rune(flags[j])) { // sshd(8): those with a value
				continue
			}
			value := flags[j+1:]
			for i+1 < len(words) && (value == "" || !strings.HasPrefix(words[i+1], "-")) {
				value, i = strings.TrimSpace(value+" "+words[i+1]), i+1
			}
			if strings.Contains("fop", flags[j:j+1]) {
				options = append(options, "-"+flags[j:j+1], value)
			}
			break
		}
	}
	return options
}

// socketsOf returns where a process listens. A unit with few privileges, as that of
// repairs, cannot see it.
func socketsOf(proc, dir string) ([]netip.AddrPort, error) {
	held := socketsHeld(dir)
	if len(held) == 0 {
		return nil, nil
	}
	sockets, err := socketsIn(proc)
	var all []netip.AddrPort
	for _, s := range sockets {
		if s.Protocol == "tcp" && slices.Contains(held, s.inode) {
			all = append(all, netip.AddrPortFrom(s.Address, s.Port))
		}
	}
	return all, err
}
