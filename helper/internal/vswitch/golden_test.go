package vswitch

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// example returns the switch of host `own` in a network of the hosts `ids`.
func example(own uint16, ids ...uint16) *spec.Switch {
	s := &spec.Switch{
		HostID: own, Bridge: "ovsbr-mobula", MAC: network.MAC(network.RoleGateway, own), MTU: 1386,
		LocalPorts: []string{"mo-fac-ovs"}, TunnelPort: "mo-geneve", UDPPort: 6254, VNI: 7,
	}
	for _, id := range ids {
		if id != own {
			s.Remotes = append(s.Remotes, spec.Remote{
				Name: fmt.Sprintf("h%d.example.com", id), HostID: id, Address: network.Ranges{}.IntrawireAddress(id),
			})
		}
	}
	return s
}

// idsUpTo returns n host IDs from 1 on, step apart.
func idsUpTo(n, step int) []uint16 {
	ids := make([]uint16, n)
	for i := range ids {
		ids[i] = uint16(1 + i*step)
	}
	return ids
}

func TestPipelineGolden(t *testing.T) {
	two := example(1, 1, 2)
	two.LocalPorts = append(two.LocalPorts, "tap-lab")
	for name, s := range map[string]*spec.Switch{
		"1-host":          example(1, 1),
		"2-hosts-2-ports": two,
		"3-hosts":         example(256, 1, 2, 256),
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, filepath.Join("testdata", name+".flows"), render(t, s))
		})
	}
	t.Run("500-hosts", func(t *testing.T) {
		compare(t, filepath.Join("testdata", "500-hosts.summary"), summarize(render(t, example(1, idsUpTo(500, 3)...))))
	})
}

// render returns the flows as Open vSwitch is given them, one a line.
func render(t *testing.T, s *spec.Switch) []byte {
	t.Helper()
	var text bytes.Buffer
	for _, f := range mustPipeline(t, s) {
		fmt.Fprintf(&text, "%s\n", f.text())
	}
	return text.Bytes()
}

// summarize keeps what a person can check of many flows: how many there are in
// each table, the tables that are not one line a host, and a hash of the rest.
func summarize(text []byte) []byte {
	var out bytes.Buffer
	count, hash := map[string]int{}, sha256.New()
	for _, line := range strings.SplitAfter(string(text), "\n") {
		table := tableOf.FindString(line)
		if table == "table=20," || table == "table=21," {
			out.WriteString(line)
		}
		count[table]++
		hash.Write([]byte(line))
	}
	delete(count, "")
	for _, table := range sortedKeys(count) {
		fmt.Fprintf(&out, "%s %d flows\n", strings.TrimSuffix(table, ","), count[table])
	}
	fmt.Fprintf(&out, "sha256 %x\n", hash.Sum(nil))
	return out.Bytes()
}

var tableOf = regexp.MustCompile(`\btable=[0-9]+,`)

func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
		for i := range g {
			if i >= len(w) || g[i] != w[i] {
				t.Fatalf("%s differs first in line %d:\n%s", path, i+1, g[i])
			}
		}
		t.Fatalf("%s is longer than what was made", path)
	}
}

func TestPipelineIsPure(t *testing.T) {
	a, b := mustPipeline(t, example(2, 1, 2, 3)), mustPipeline(t, example(2, 3, 1, 2))
	cookies := map[uint64]bool{}
	for _, f := range a {
		if cookies[f.cookie] {
			t.Errorf("cookie %#x twice", f.cookie)
		}
		cookies[f.cookie] = true
	}
	for _, f := range b {
		delete(cookies, f.cookie)
	}
	// The order of the remotes shows in the flood alone.
	if len(cookies) > 1 || len(a) != len(b) {
		t.Errorf("%d flows depend on the order of the remotes", len(cookies))
	}
}

// A new host must leave the flows of the others alone: that is what lets an
// unchanged pair lose nothing.
func TestNewHostTouchesFewFlows(t *testing.T) {
	const first, second, third = 7, 7 + chunkIDs, 7 + 2*chunkIDs
	for _, c := range []struct {
		what           string
		before, after  *spec.Switch
		added, removed int
	}{
		{"its chunk anew", example(1, idsUpTo(500, 1)...), example(1, idsUpTo(501, 1)...), 17, 1},
		{"its chunk, and the one that leads to it anew", example(1, first, third), example(1, first, second, third), 18, 1},
		{"its chunk, which is the last, and the one that leads to it anew", example(1, first, second), example(1, first, second, third), 18, 1},
		{"its chunk, which is the first, anew", example(1, second, third), example(1, first, second, third), 17, 1},
	} {
		if added, removed := flowsTouched(t, c.before, c.after); added != c.added || removed != c.removed {
			t.Errorf("added %d and removed %d flows, wanted %d and %d (16 of the host, %s)", added, removed, c.added, c.removed, c.what)
		}
	}
}

func flowsTouched(t *testing.T, from, to *spec.Switch) (added, removed int) {
	t.Helper()
	before, after := mustPipeline(t, from), mustPipeline(t, to)
	had := map[uint64]bool{}
	for _, f := range before {
		had[f.cookie] = true
	}
	for _, f := range after {
		if !had[f.cookie] {
			added++
		}
		delete(had, f.cookie)
	}
	return added, len(had)
}

func TestPipelineRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*spec.Switch){
		"no host ID":      func(s *spec.Switch) { s.HostID = 0 },
		"no MAC":          func(s *spec.Switch) { s.MAC = nil },
		"multicast MAC":   func(s *spec.Switch) { s.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} },
		"itself":          func(s *spec.Switch) { s.Remotes[0].HostID = s.HostID },
		"ID twice":        func(s *spec.Switch) { s.Remotes[0].HostID = s.Remotes[1].HostID },
		"address twice":   func(s *spec.Switch) { s.Remotes[0].Address = s.Remotes[1].Address },
		"no address":      func(s *spec.Switch) { s.Remotes[0].Address = netip.Addr{} },
		"IPv6":            func(s *spec.Switch) { s.Remotes[0].Address = netip.MustParseAddr("2001:db8::1") },
		"too large an ID": func(s *spec.Switch) { s.Remotes[0].HostID = network.MaxHostID + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := example(1, 1, 2, 3)
			spoil(s)
			if _, err := Pipeline(*s, true, defaultNeighbors); err == nil {
				t.Error("accepted")
			} else {
				t.Log(err)
			}
		})
	}
}

// In the largest network there can be, no flow may outgrow an OpenFlow message, and
// resubmits nest no deeper than Open vSwitch lets them, even if a frame went through
// every table.
func TestLargestNetwork(t *testing.T) {
	tables, chunks := map[int]bool{}, 0
	for _, f := range mustPipeline(t, example(1, idsUpTo(network.MaxHostID, 1)...)) {
		const bytesPerAction = 24 // of a load; an output has 16, a resubmit 16
		if size := len(f.actions) * bytesPerAction; size > 60000 {
			t.Fatalf("table %d: about %d bytes of actions", f.table, size)
		}
		tables[f.table] = true
		if f.table == tableFlood {
			chunks++
		}
	}
	if depth := len(tables) - 1 + chunks; chunks != 32+1 || depth >= 64 {
		t.Errorf("%d chunks and meter, resubmits may nest %d deep", chunks, depth)
	}
}
