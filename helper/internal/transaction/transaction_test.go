package transaction

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

var (
	ctx      = context.Background()
	options  = Options{ConfirmTimeout: time.Minute}
	managers = []spec.Manager{spec.Ifupdown, spec.Networkd, spec.NetworkManager}
)

// TestMain spends memory for time, of which the walks take a lot.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func (w *world) apply(c *store.Change) []reconcile.Operation {
	w.Helper()
	ops, err := w.host.Apply(ctx, c, options)
	if err != nil {
		w.Fatal(err)
	}
	return ops
}

func (w *world) confirm(c *store.Change) {
	w.Helper()
	if _, err := w.host.Confirm(ctx, c.Generation()); err != nil {
		w.Fatal(err)
	}
	if w.armed {
		w.Fatal("the rollback timer still runs")
	}
}

func (w *world) same(what, got, want string) {
	w.Helper()
	if got != want {
		w.Fatalf("%s:\n%s\nwhere it should not differ from\n%s", what, difference(got, want), want)
	}
}

func (w *world) reachable() {
	w.Helper()
	if problem := w.kernel.Reachable(w.facts); problem != "" {
		w.Fatalf("not reachable: %s", problem)
	}
}

func TestLifeOfAHost(t *testing.T) {
	for i, m := range append(managers, managers...) {
		fresh, name := maker(newWorld), string(m)
		if i >= len(managers) {
			fresh, name = newStaying, string(m)+" where the NIC stays"
		}
		t.Run(name, func(t *testing.T) {
			w := fresh(t, m)
			none := w.String()
			first := w.document(1, nil, 2, 3)
			if len(w.apply(first)) == 0 || !w.armed {
				t.Fatal("nothing was done or the rollback timer does not run")
			}
			w.reachable()
			w.confirm(first)
			built := w.String()
			if ops := w.apply(first); len(ops) > 0 || w.armed {
				t.Fatalf("did %v again", ops)
			}
			w.confirm(first) // confirming twice succeeds

			second := w.document(2, nil, 2, 4)
			w.apply(second)
			changed := w.String()
			if err := w.host.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
			w.same("rolled back", w.String(), built)
			w.apply(second)
			w.confirm(second)
			w.same("applied again", w.String(), changed)
			if err := w.boot(); err != nil {
				t.Fatal(err)
			}
			w.same("booted", w.String(), changed)

			down := &store.Change{Down: true}
			w.apply(down)
			w.reachable()
			w.confirm(down)
			w.same("gone", w.String(), none)
			if kept := w.kept(); strings.Contains(kept, " ") {
				t.Errorf("left in the store: %s", kept)
			}
			w.confirm(down)
		})
	}
}

func TestFirstChangeTakenBack(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	none := w.String()
	w.apply(w.document(1, nil, 2))
	w.ring()
	w.same("rolled back", w.String(), none)
	w.apply(w.document(1, nil, 2))
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.same("booted", w.String(), none)
	if facts, err := w.host.Store.Facts(); facts != nil || err != nil {
		t.Errorf("facts are kept: %v, %v", facts, err)
	}
}

// TestRollbackSetsEndpoints holds that endpoints which the document had changed
// are those of the old one again, and that others stay where they roamed to.
func TestRollbackSetsEndpoints(t *testing.T) {
	w := newWorld(t)
	c := w.document(1, nil, 2, 3)
	w.apply(c)
	w.confirm(c)
	roamed := netip.MustParseAddrPort("203.0.113.7:1234")
	w.wg.Roam(c.Document.Hosts[2].PublicKey, roamed)
	before := w.wg.String()
	moved := w.document(2, nil, 2, 3)
	moved.Document.Hosts[1].Endpoint = netip.MustParseAddrPort("203.0.113.2:51820")
	w.apply(moved)
	if w.wg.String() == before || !strings.Contains(w.wg.String(), roamed.String()) {
		t.Fatalf("wanted one endpoint to move, one to stay:\n%s", w.wg)
	}
	w.ring()
	w.same("after the rollback", w.wg.String(), before)

	// The same when the change is begun, interrupted, and applied again.
	w.with(fault{step: 4, kind: killed})
	_, dead := w.run(func() error { _, err := w.host.Apply(ctx, moved, options); return err })
	if dead != killed {
		t.Fatalf("wanted to be killed in %v", w.steps)
	}
	w.with(fault{})
	w.apply(moved)
	if !strings.Contains(w.wg.String(), "203.0.113.2:51820") {
		t.Errorf("the endpoint did not move:\n%s", w.wg)
	}
}

func TestRepair(t *testing.T) {
	w := newWorld(t, spec.Networkd)
	if done, err := w.host.Repair(ctx); len(done) > 0 || err != nil {
		t.Fatalf("repaired a host without Mobula: %v, %v", done, err)
	}
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	good := w.String()
	if err := w.kernel.DeleteNamespace(spec.Namespace); err != nil {
		t.Fatal(err)
	}
	w.system.Stop(spec.UnitOVSDB)
	w.system.Stop(spec.UnitVSwitch)
	if ops, err := w.host.Differences(ctx); len(ops) == 0 || err != nil {
		t.Fatalf("%v, %v", ops, err)
	}
	if done, err := w.host.Repair(ctx); len(done) == 0 || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	w.same("repaired", w.String(), good)
}

func TestRebuild(t *testing.T) {
	w := newWorld(t, spec.Ifupdown)
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	built := w.String()
	o := options
	o.Rebuild = true
	ops, err := w.host.Apply(ctx, c, o)
	if err != nil || len(ops) == 0 {
		t.Fatalf("%v, %v", ops, err)
	}
	w.same("rebuilt", w.String(), built)
	w.confirm(c)
}

func TestWrongDocuments(t *testing.T) {
	w := newWorld(t)
	running := w.document(5, func(h *network.Host) { h.Uplink = "eth0" }, 2, 3)
	w.apply(running)
	w.confirm(running)
	built := w.String()
	stranger := w.document(6, nil, 2)
	stranger.HostID = 2
	missing := w.document(6, nil, 2)
	missing.HostID = 9
	keyless := func(id uint16) *store.Change {
		c := w.document(6, nil, 2, 3)
		peer := &c.Document.Hosts[2]
		peer.ID, peer.PublicKey = id, network.Key{}
		return c
	}
	allKeyless := keyless(3)
	allKeyless.Document.Hosts[1].PublicKey = network.Key{}
	elsewhere := w.document(6, nil, 2, 3)
	elsewhere.Document.Ranges = plantest.OtherRanges()
	cases := []struct {
		name   string
		change *store.Change
		want   string
		allow  *Options
	}{
		{"another host's ID", stranger, "has no private key for it; name the one of this host with --host-id; if it is, deploy", nil},
		{"an ID that is not in it", missing, "host_id 9: not in the network document; name the one of this host with --host-id", nil},
		{"a key of another host", w.document(6, func(h *network.Host) { h.PublicKey = network.Key{7} }, 2), "has no private key for it", nil},
		{"no key", w.document(6, func(h *network.Host) { h.PublicKey = network.Key{} }, 2), "no private key", nil},
		{"older", w.document(4, nil, 2), "--allow-older takes it anyway", &Options{AllowOlder: true}},
		{"alone", w.document(6, nil), "--allow-alone takes it anyway", &Options{AllowAlone: true}},
		{"a peer without its key", keyless(3), "found none in the document for 192.0.2.3,", nil},
		{"a peer without its key, by another ID", keyless(9), "found none in the document for 192.0.2.3,", nil},
		{"no peer with its key", allKeyless, "found none in the document for 192.0.2.2, 192.0.2.3,", nil},
		{"other ranges", elsewhere, "found 172.20.0.0/16 and 192.168.0.0/16, wanted 10.30.0.0/16 and 10.31.0.0/16, which this host has: addresses in use do not change; to have others, uninstall all hosts first", nil},
		{"another uplink", w.document(6, func(h *network.Host) { h.Uplink = "eth1" }, 2), "uplink: found eth0 in use, wanted eth1", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.host.Apply(ctx, c.change, options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, wanted %q", err, c.want)
			}
			if _, planErr := w.host.Plan(ctx, c.change, options); planErr == nil || planErr.Error() != err.Error() {
				t.Errorf("plan says %v", planErr)
			}
			if w.String() != built || w.armed {
				t.Error("something was changed")
			}
			if c.allow == nil {
				return
			}
			c.allow.ConfirmTimeout = time.Minute
			if _, err := w.host.Apply(ctx, c.change, *c.allow); err != nil {
				t.Error(err)
			}
			w.ring()
			w.same("rolled back", w.String(), built)
		})
	}
	w.apply(w.document(7, nil, 2))
	if _, err := w.host.Apply(ctx, w.document(8, nil, 3), options); !errors.Is(err, ErrWaiting) || !strings.Contains(err.Error(), "'mobula confirm' keeps that, 'mobula rollback' rolls it back") {
		t.Errorf("error %v, wanted %v", err, ErrWaiting)
	}
	if _, err := w.host.Confirm(ctx, running.Generation()); err == nil || !strings.Contains(err.Error(), "not "+running.Generation()+"; without --generation it is confirmed") {
		t.Error("confirmed a generation that does not wait")
	}
}

func TestNewKeyReplacesTheOld(t *testing.T) {
	w := newWorld(t)
	first := w.document(1, nil, 2)
	w.apply(first)
	w.confirm(first)
	old := w.own
	var err error
	if w.own, err = w.host.Store.Keys().Create(); err != nil {
		t.Fatal(err)
	}
	second := w.document(2, nil, 2)
	w.apply(second)
	if _, err := w.host.Store.Keys().PrivateKey(old); err != nil {
		t.Errorf("the old key went before the new one was confirmed: %v", err)
	}
	w.confirm(second)
	if _, err := w.host.Store.Keys().PrivateKey(old); err == nil {
		t.Error("the old key is still there")
	}
}

// TestConfirmNeedsTheWholeChange holds that what was not carried out to the end,
// or not even begun, cannot be confirmed.
func TestConfirmNeedsTheWholeChange(t *testing.T) {
	for _, next := range []func(*world) *store.Change{second, func(*world) *store.Change { return down }} {
		count := 0
		for n := 1; ; n++ {
			w := newWorld(t, spec.Ifupdown)
			kept(w)
			c := next(w)
			w.with(fault{step: n, kind: killed})
			if _, dead := w.run(func() error { return doApply(w, c) }); dead == "" {
				break
			}
			w.with(fault{})
			if _, err := w.host.Confirm(ctx, c.Generation()); err == nil {
				t.Fatalf("confirmed what was ended before step %d", n)
			}
			count = n
		}
		if count < 5 {
			t.Errorf("only %d steps", count)
		}
	}
}

// TestFailureIsTakenBackAtOnce holds that nobody has to wait for the clock.
func TestFailureIsTakenBackAtOnce(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(t, spec.Networkd)
		c := kept(w)
		before := w.String()
		w.with(fault{step: n, kind: failure})
		if err := doApply(w, c); err == nil {
			if n < 5 {
				t.Errorf("only %d steps", n)
			}
			return
		}
		w.with(fault{})
		w.same("rolled back", w.String(), before)
		if pending, err := w.host.Store.Pending(); pending != nil || err != nil || w.armed {
			t.Fatalf("step %d: %v waits, the clock runs: %v, %v", n, pending, w.armed, err)
		}
	}
}
