package system

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Socket is one on which somebody waits for connections or datagrams.
type Socket struct {
	Protocol string     // tcp or udp
	Address  netip.Addr // unspecified: all of the host's
	Port     uint16
	// Program is what the process calls itself; empty: not known, or the kernel's own.
	Program string

	inode string
}

// tables are the kernel's lists of sockets (proc(5)) and the state in which one
// waits: TCP_LISTEN, and TCP_CLOSE for UDP, which has no other before it is
// connected (include/net/tcp_states.h).
var tables = []struct{ name, protocol, waiting string }{
	{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
}

// Sockets returns those of the host's own network namespace. A kernel without IPv6
// has none of it.
func Sockets() ([]Socket, error) {
	all, err := socketsIn("/proc")
	if err == nil {
		name(all)
	}
	return all, err
}

// socketsIn reads the tables below a proc(5), without the programs.
func socketsIn(proc string) ([]Socket, error) {
	var all []Socket
	for _, t := range tables {
		data, err := os.ReadFile(filepath.Join(proc, "net", t.name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, parseTable(string(data), t.protocol, t.waiting)...)
	}
	return all, nil
}

// parseTable reads one table: the local address and port, and the state and inode
// of each socket. Lines that are none are passed over.
func parseTable(table, protocol, waiting string) []Socket {
	var all []Socket
	for _, line := range strings.Split(table, "\n") {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != waiting {
			continue
		}
		if at, ok := parseEnd(f[1]); ok {
			all = append(all, Socket{Protocol: protocol, Address: at.Addr(), Port: at.Port(), inode: f[9]})
		}
	}
	return all
}

// parseEnd reads the address and port of a socket or its peer.
func parseEnd(s string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(s, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	words, err2 := hex.DecodeString(address)
	if err != nil || err2 != nil || len(words) != 4 && len(words) != 16 {
		return netip.AddrPort{}, false
	}
	// The kernel prints 32 bits at a time, as this machine's integers.
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	a, _ := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(a.Unmap(), uint16(number)), true
}

// name finds out which programs have the sockets, as far as that can be known.
func name(sockets []Socket) {
	byInode := map[string][]*Socket{}
	for i := range sockets {
		if s := &sockets[i]; s.inode != "0" {
			byInode["socket:["+s.inode+"]"] = append(byInode["socket:["+s.inode+"]"], s)
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		target, err := os.Readlink(file)
		if err != nil || byInode[target] == nil {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), "comm"))
		for _, s := range byInode[target] {
			s.Program = strings.TrimSpace(string(comm))
		}
	}
}

// socketsHeld returns the inodes of a process's sockets, as far as they can be seen.
func socketsHeld(dir string) (inodes []string) {
	files, _ := filepath.Glob(filepath.Join(dir, "fd", "*"))
	for _, file := range files {
		target, _ := os.Readlink(file)
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}

// ClientPorts returns the lowest port that the kernel chooses for clients
// (ip_local_port_range of ip(7)).
func ClientPorts() uint16 {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if fields := strings.Fields(string(data)); err == nil && len(fields) > 0 {
		if port, err := strconv.ParseUint(fields[0], 10, 16); err == nil {
			return uint16(port)
		}
	}
	return 32768
}

// WithoutKernels leaves out the kernel's own UDP sockets on a port: WireGuard's of a
// device that is Mobula's have no process.
func WithoutKernels(all []Socket, port uint16) (others []Socket) {
	for _, s := range all {
		if s.Protocol != "udp" || s.Port != port || s.Program != "" {
			others = append(others, s)
		}
	}
	return others
}
