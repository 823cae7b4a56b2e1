package hosttest

import (
	"net/netip"
	"regexp"
	"strings"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
)

// staying is a change after which the NIC stays with the host.
func (b *bench) staying() *store.Change {
	self := b.self
	self.Uplink, self.SharedUplink = "", true
	return b.changeOf(self)
}

// stay has Mobula come and go while the NIC stays with the host. Whatever the host has,
// while Mobula is there nothing of it is another one. It reports that it could stay.
func (b *bench) stay() bool {
	b.Helper()
	b.change = b.staying()
	if _, err := survey(b.ctx(), b.made.ranges, network.Host{SharedUplink: true}, nil); err != nil {
		b.Logf("refused where the NIC stays: %v", err)
		if b.made.certain() {
			b.Error("wanted it to be taken: nothing of Mobula's is there")
		}
		if _, err := b.Apply(b.ctx(), b.change, b.options()); err == nil {
			b.Error("a host that the survey refuses was changed")
		}
		b.same("a refusal where the NIC stays")
		return false
	}
	b.apply()
	b.beside()
	b.answers("an apply where the NIC stays")
	b.reaches("an apply where the NIC stays")
	if err := b.Rollback(b.ctx()); err != nil {
		b.failed("rolling back", err)
	}
	b.same("a rollback where the NIC stays")
	b.apply()
	b.confirm()
	if did, err := b.repair(); err != nil || len(did) > 0 {
		b.Errorf("repairing what is fine: did %q, %v", did, err)
	}
	b.uninstall()
	b.same("an uninstall where the NIC stayed")
	return true
}

// ours is what may come to a host that keeps its NIC.
func (b *bench) ours() *regexp.Regexp {
	inside := func(p netip.Prefix) string {
		return regexp.QuoteMeta(strings.TrimSuffix(p.Addr().String(), "0.0"))
	}
	return regexp.MustCompile(`mo-dir-hs|veth_fac0|"table":"?1030|\b(` + inside(b.made.ranges.Wire()) + "|" + inside(b.made.ranges.Access()) + `)|^ipv4/conf/\S+/forwarding = 1$`)
}

// beside holds that the host has all that it had, and beside it only what is Mobula's.
func (b *bench) beside() {
	b.Helper()
	var wrong []string
	ours := b.ours()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		wrong = nil
		now := look(b.T)
		for question, was := range b.before.said {
			for _, line := range without(was, now.said[question]) {
				if !strings.HasSuffix(line, "/forwarding = 0") {
					wrong = append(wrong, "- "+line)
				}
			}
			for _, line := range without(now.said[question], was) {
				if question != "nft" && !ours.MatchString(line) {
					wrong = append(wrong, "+ "+line)
				}
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Errorf("while Mobula is there the host's own differs:\n%s", strings.Join(wrong, "\n"))
			return
		}
	}
}

// thereAndBack has the NIC of a host that may move begin to move, come back and go again,
// and undoes both once.
func (b *bench) thereAndBack() {
	b.Helper()
	moved, shared := b.change, b.staying()
	to := func(what string, change *store.Change) {
		b.change = change
		b.apply()
		b.answers(what)
	}
	to("an apply where the NIC stays first", shared)
	b.confirm()
	to("the NIC moves", moved)
	if err := b.Rollback(b.ctx()); err != nil {
		b.failed("rolling back a move", err)
	}
	b.beside()
	to("the NIC moves again", moved)
	b.confirm()
	to("the NIC comes back", shared)
	if err := b.Rollback(b.ctx()); err != nil {
		b.failed("rolling back a return", err)
	}
	b.answers("its return was rolled back")
	to("the NIC comes back again", shared)
	b.confirm()
	b.beside()
	if did, err := b.repair(); err != nil || len(did) > 0 {
		b.Errorf("repairing what is fine after a return: did %q, %v", did, err)
	}
	to("the NIC moves once more", moved)
	b.confirm()
	b.uninstall()
	b.same("an uninstall after there and back")
}
