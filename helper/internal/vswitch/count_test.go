//go:build ovs

package vswitch

import (
	"testing"
	"time"
)

func TestCountFlows(t *testing.T) {
	in := startInstance(t)
	want := example(1, 1, 2, 256)
	in.apply(want, nil)
	count := func() FlowCounts {
		t.Helper()
		c, err := CountFlows(in.dir, want.Bridge, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := count()
	if before.Static == 0 || before.Dropping == 0 || before.Foreign != 0 {
		t.Fatalf("found %+v", before)
	}
	in.ofctl("add-flow", want.Bridge, "table=200,priority=1,actions=drop")
	if got := count(); got.Foreign != 1 {
		t.Errorf("found %+v after a flow was added, wanted 1 foreign one", got)
	}
	in.ofctl("del-flows", want.Bridge, "table=0")
	if got := count(); got.Static >= before.Static {
		t.Errorf("found %+v after flows were deleted, wanted fewer than %+v", got, before)
	}
}
