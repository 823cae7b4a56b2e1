package firewall_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/spec"
)

func withDoorway(uplinks ...string) *spec.Host {
	return &spec.Host{Doorway: &spec.Doorway{HostID: 1, Direct: spec.DirectHost, Access: spec.AccessLink, WireGuardPort: 51820, Outside: []string{"eth0"}, Opened: uplinks}}
}

// TestDoorwayComesAndGoes walks through what may become of the host's own table.
func TestDoorwayComesAndGoes(t *testing.T) {
	h := newHand(t)
	gateways := h.Firewall
	h.Firewall = firewall.DoorwayOn(counted{h}, h.run)
	if h.Name() != "doorway" {
		t.Errorf("it is called %q", h.Name())
	}
	nft := func(script string) {
		t.Helper()
		if _, err := h.nft.Run(context.Background(), "", script, "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	nft("table inet docker {\n\tchain x {\n\t\taccept\n\t}\n}\n")
	before := h.nft.String()
	h.bring("new", withDoorway("eth0"), "+ doorway", "table inet mobula")
	h.bring("another NIC", withDoorway("eth0", "eth1"), "~ doorway", "forward: + ")
	nft("delete table inet mobula")
	h.bring("the table is gone", withDoorway("eth0"), "+ doorway", "")
	nft("table inet mobula {\n\tchain forward {\n\t\taccept\n\t}\n}\n")
	h.bring("a rule of somebody else's", withDoorway("eth0"), "~ doorway", "somebody else changed the rules")
	h.bring("gone", &spec.Host{}, "- doorway", "")
	if after := h.nft.String(); after != before {
		t.Errorf("left\n%s\nwanted\n%s", after, before)
	}
	if _, err := gateways.Diff(context.Background(), wanted(t, 22), nil); err != nil {
		t.Fatal(err)
	}
}

// TestNoDoorwayCostsNothing: where there is none nobody looks, unless there may be one.
func TestNoDoorwayCostsNothing(t *testing.T) {
	none := &spec.Host{}
	for _, c := range []struct {
		when     string
		previous *spec.Host
		loaded   bool // a table stands
		lost     bool // the record is lost
		finds    bool
		looks    bool
	}{
		{when: "never one", previous: none},
		{when: "nobody knows what was there", looks: true},
		{when: "nobody knows what was there, and it is there", loaded: true, lost: true, finds: true, looks: true},
		{when: "the plan before had one", previous: withDoorway(), loaded: true, lost: true, finds: true, looks: true},
		{when: "the record tells", previous: none, loaded: true, finds: true, looks: true},
	} {
		h := newHand(t)
		h.Firewall = firewall.DoorwayOn(counted{h}, h.run)
		if c.loaded {
			h.bring(c.when, withDoorway(), "+", "")
		}
		if c.lost {
			if err := os.Remove(filepath.Join(h.run, "doorway.json")); err != nil {
				t.Fatal(err)
			}
		}
		h.looks = 0
		ops, err := h.Diff(context.Background(), none, c.previous)
		if err != nil || len(ops) == 1 != c.finds || h.looks > 0 != c.looks {
			t.Errorf("%s: found %v, %v after %d looks", c.when, ops, err, h.looks)
		}
		for _, op := range ops {
			if err := op.Do(context.Background()); err != nil || h.nft.String() != "" {
				t.Errorf("%s: %v, left %q", c.when, err, h.nft)
			}
		}
		h.looks = 0
		h.differs(c.when, none, "", "")
		if h.looks > 0 {
			t.Errorf("%s: once it is gone somebody looks", c.when)
		}
	}
}

// TestInterruptedDoorwayIsOnRecord: what may have been loaded is looked for.
func TestInterruptedDoorwayIsOnRecord(t *testing.T) {
	h := newHand(t)
	h.Firewall = firewall.DoorwayOn(counted{h}, h.run)
	ops := h.differs("new", withDoorway(), "+", "")
	h.fails = context.DeadlineExceeded
	if err := ops[0].Do(context.Background()); err == nil {
		t.Fatal("it succeeds")
	}
	h.fails, h.looks = nil, 0
	h.differs("after that", &spec.Host{}, "", "")
	if h.looks == 0 {
		t.Error("nobody looks for what may have been loaded")
	}
}

// TestDoorwayWithoutNFT: a host that has no nft(8) has no table of ours.
func TestDoorwayWithoutNFT(t *testing.T) {
	h := newHand(t)
	h.Firewall = firewall.DoorwayOn(counted{h}, h.run)
	h.fails = fmt.Errorf("exec: %w", exec.ErrNotFound)
	if ops, err := h.Diff(context.Background(), &spec.Host{}, nil); err != nil || len(ops) > 0 {
		t.Errorf("found %v, %v", ops, err)
	}
	if _, err := h.Diff(context.Background(), withDoorway(), nil); err == nil {
		t.Error("what cannot be looked at is wanted, and nobody complains")
	}
}
