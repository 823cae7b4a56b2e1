//go:build kernel

package links_test

import (
	"net/netip"
	"strings"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

// TestNICNeighbors holds that permanent neighbors, three times as many as the kernel's
// table has room for (gc_thresh3, 1024), leave room for others, go and come as told,
// and that the driver sees them.
func TestNICNeighbors(t *testing.T) {
	if !apart(t) {
		return
	}
	run(t, "ip link add "+spec.AccessLink+" type veth peer name other && ip link set "+spec.AccessLink+" up && ip link set other up && ip address add 10.31.128.1/16 dev "+spec.AccessLink)
	key := links.LinkKey{Name: spec.AccessLink}
	var all []spec.Neighbor
	for i := 1; i <= 3000; i++ {
		all = append(all, spec.Neighbor{Link: spec.AccessLink, Address: netip.AddrFrom4([4]byte{10, 31, byte(i >> 8), byte(i)}), MAC: [6]byte{2, 0x6d, 0x6f, 1, byte(i >> 8), byte(i)}})
	}
	k := links.Netlink{}
	for try := 0; try < 2; try++ {
		if err := k.SetNeighbors(key, all, nil); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "ip neigh replace 10.31.200.1 lladdr 02:00:00:00:00:01 nud reachable dev "+spec.AccessLink)
	seen := func() int {
		s, err := k.Observe(nil, spec.RouteTable, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(s.Neighbors)
	}
	if n := seen(); n != len(all) {
		t.Errorf("sees %d neighbors, wanted %d", n, len(all))
	}
	moved := all[:1:1]
	moved[0].MAC[5]++
	if err := k.SetNeighbors(key, moved, all[:2000]); err != nil {
		t.Fatal(err)
	}
	if n := seen(); n != 1001 {
		t.Errorf("sees %d neighbors after 2000 were taken away and one came back, wanted 1001", n)
	}
	if left := run(t, "ip neigh show 10.31.0.1"); !strings.Contains(left, "02:6d:6f:01:00:02 PERMANENT") {
		t.Errorf("found %s", left)
	}
	// The last address of a link takes them along, which the plan counts on.
	run(t, "ip address del 10.31.128.1/16 dev "+spec.AccessLink)
	if n := seen(); n != 0 {
		t.Errorf("sees %d neighbors of a link without an address", n)
	}
}

// TestNICIsFound holds that a boot finds the uplink on either side, and no other link.
func TestNICIsFound(t *testing.T) {
	if !apart(t) {
		return
	}
	find := func(uplink string) bool {
		name, _, found := links.FindNIC(&spec.Facts{Uplink: uplink})
		return found && name == uplink
	}
	run(t, "ip link add ens3 type veth peer name other")
	if !find("ens3") || find("ens4") {
		t.Errorf("ens3: found %v, wanted true; ens4: found %v, wanted false", find("ens3"), find("ens4"))
	}
	if err := (links.Netlink{}).AddNamespace(spec.Namespace); err != nil {
		t.Fatal(err)
	}
	run(t, "ip link set ens3 netns "+spec.Namespace)
	if !find("ens3") {
		t.Error("not found in the gateway's namespace")
	}
}
