package hosttest

import (
	"fmt"
	"hash/fnv"
	"math/rand"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
)

// feature is one thing that a host may have.
type feature struct {
	name string
	// needs is a kind of link that not every kernel has; "": nothing.
	needs string
	// carried: a host that has nothing else but such features is never refused.
	carried bool
	// bare: nothing else stands on such a base.
	bare bool
	make func(*host)
}

// host is a host that is being made.
type host struct {
	*rand.Rand // of the feature that is being made
	seed       int64
	line       string
	has        []feature

	uplink  string
	asked   string // the uplink as the document has it; "": by the default route
	kind    string // of that one, if it is no NIC
	address netip.Addr
	gateway netip.Addr
	ranges  network.Ranges // of the document
	subnets int
	todo    []command
}

// command is a line for a tool: ip, ip6, tc, bridge, nft, "isp" (ip in the namespace
// of the provider), or set (KEY VALUE, a sysctl), unmount.
type command struct{ tool, line string }

func (h *host) ip(format string, args ...any)    { h.add("ip", format, args...) }
func (h *host) ip6(format string, args ...any)   { h.add("ip6", format, args...) }
func (h *host) isp(format string, args ...any)   { h.add("isp", format, args...) }
func (h *host) set(format string, args ...any)   { h.add("set", format, args...) }
func (h *host) tool(name, line string, a ...any) { h.add(name, line, a...) }

func (h *host) add(tool, format string, args ...any) {
	h.todo = append(h.todo, command{tool, fmt.Sprintf(format, args...)})
}

func (h *host) pick(all ...string) string { return all[h.Intn(len(all))] }

// subnet returns a /24 that nobody has yet, as "198.18.7.".
func (h *host) subnet() string {
	h.subnets++
	return fmt.Sprintf("198.18.%d.", h.subnets)
}

// generate returns the line of a random host.
func generate(seed int64) string {
	r := rand.New(rand.NewSource(seed))
	base := bases[r.Intn(len(bases))]
	if base.bare && r.Intn(4) > 0 {
		base = bases[0]
	}
	parts := []string{base.name}
	for n := []int{0, 1, 1, 2, 2, 3, 4}[r.Intn(7)]; n > 0 && !base.bare; n-- {
		// Most of what hosts have is harmless.
		f := features[r.Intn(len(features))]
		if !f.carried && r.Intn(3) > 0 {
			f = features[r.Intn(len(features))]
		}
		parts = append(parts, f.name)
	}
	seen := map[string]bool{}
	var unique []string
	for _, p := range parts {
		if !seen[p] {
			unique = append(unique, p)
		}
		seen[p] = true
	}
	return fmt.Sprintf("%d: %s", seed, strings.Join(unique, " + "))
}

// prepare makes the host in the namespaces that the process has for itself.
// The error is the kernel's, of a host that cannot be.
func (h *host) prepare(t *testing.T) error {
	t.Helper()
	netnstest.Namespace(t, "isp")
	h.draw("uplink")
	h.uplink = h.pick("eth0", "eth0", "ens3", "enp0s31f6", "wan.0", "veth_wan", "mo-nic", "eno1np0d1s2-abc")
	h.asked = h.pick(h.uplink, h.uplink, "")
	for _, conf := range []string{"all", "default"} {
		h.set("net/ipv6/conf/%s/accept_dad 0", conf) // addresses stand at once
	}
	// Made and moved: then its other end is in another namespace, as a container's.
	h.ip("link add name %s address 52:54:00:12:34:%02x type veth peer name cable netns isp", h.uplink, h.Intn(256))
	h.isp("link set cable up")
	for _, f := range h.has {
		if f.needs != "" && !whole() {
			t.Logf("left out, as it needs %s: %s", f.needs, f.name)
			continue
		}
		h.draw(f.name)
		f.make(h)
	}
	for len(h.todo) > 0 {
		n := 1
		for n < len(h.todo) && h.todo[n].tool == h.todo[0].tool {
			n++
		}
		if err := batch(t, h.todo[:n]); err != nil {
			return err
		}
		h.todo = h.todo[n:]
	}
	return nil
}

// draw lets what follows draw from the seed and a name.
func (h *host) draw(name string) {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%d %s", h.seed, name)
	h.Rand = rand.New(rand.NewSource(int64(sum.Sum64())))
}

// batch gives a tool all of its lines at once: processes are dear on an emulated
// processor.
func batch(t *testing.T, all []command) error {
	t.Helper()
	var text strings.Builder
	for _, c := range all {
		t.Logf("%s %s", c.tool, c.line)
		switch c.tool {
		case "set":
			key, value, _ := strings.Cut(c.line, " ")
			if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
				return err
			}
		case "unmount":
			if err := unix.Unmount(c.line, unix.MNT_DETACH); err != nil {
				return err
			}
		}
		text.WriteString(c.line + "\n")
	}
	arguments := map[string][]string{
		"ip": {"ip", "-batch", "-"}, "ip6": {"ip", "-6", "-batch", "-"}, "isp": {"ip", "-n", "isp", "-batch", "-"},
		"tc": {"tc", "-batch", "-"}, "bridge": {"bridge", "-batch", "-"}, "nft": {"nft", "-f", "-"},
	}[all[0].tool]
	if arguments == nil {
		return nil
	}
	cmd := exec.Command(arguments[0], arguments[1:]...)
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s%s", err, out, text.String())
	}
	return nil
}

// certain reports that the host must not be refused.
func (h *host) certain() bool {
	for _, f := range h.has {
		if !f.carried && (f.needs == "" || whole()) {
			return false
		}
	}
	return true
}
