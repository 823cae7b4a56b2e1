package firewall

import (
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
)

// TestWatchTellsOfOurTable: what others do with their tables is no reason for a repair.
func TestWatchTellsOfOurTable(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	const ns = "watched"
	netnstest.Namespace(t, ns)
	s, err := Subscribe(ns)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan struct{}, 100)
	go func() { _ = Watch(s, func() { changes <- struct{}{} }) }()
	t.Cleanup(func() { s.Close() })
	told := func(most time.Duration) bool {
		select {
		case <-changes:
			for len(changes) > 0 {
				<-changes
			}
			return true
		case <-time.After(most):
			return false
		}
	}
	for _, c := range []struct {
		script string
		ours   bool
	}{
		{"add table inet other; add chain inet other x; add rule inet other x accept", false},
		{"add table ip mobula; add chain ip mobula x; add rule ip mobula x accept", false},
		{"add table inet mobula", true}, {"add chain inet mobula x", true}, {"add rule inet mobula x accept", true},
		{"add set inet mobula s { type ipv4_addr; }", true}, {"add element inet mobula s { 192.0.2.1 }", true},
		{"add table netdev mobula; add chain netdev mobula x", true}, {"add table netdev other", false},
		{"delete table inet other", false}, {"flush chain inet mobula x", true}, {"flush ruleset", true},
	} {
		netnstest.Run(t, ns, "nft", c.script)
		most := patience
		if !c.ours {
			most = quiet
		}
		if got := told(most); got != c.ours {
			t.Errorf("%s: told %v, wanted %v", c.script, got, c.ours)
		}
		time.Sleep(50 * time.Millisecond) // what else is told of the same change
		for len(changes) > 0 {
			<-changes
		}
	}
}
