package transaction

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

const (
	hostsOfCloudInit = "# by cloud-init\n127.0.0.1 localhost\n192.0.2.9 operators"
	blockOfNames     = "10.31.128.1\th1.example.com\n"
)

// repaired has the agent's unit run.
func (w *world) repaired() {
	w.Helper()
	if _, err := w.host.Repair(ctx); err != nil {
		w.Fatal(err)
	}
}

// finds compares where the host finds the private names with where it should.
func (w *world) finds(when string, byResolved, byHosts bool) {
	w.Helper()
	asks := strings.Contains(w.resolved.String(), "mo-dir-hs [10.30.0.0] [~30.10.in-addr.arpa ~31.10.in-addr.arpa ~h1.example.com")
	hosts := w.system.Content(spec.HostsPath)
	if has := strings.Contains(hosts, blockOfNames); asks != byResolved || has != byHosts {
		w.Errorf("%s: systemd-resolved has %q, /etc/hosts %q", when, w.resolved.String(), hosts)
	}
}

// TestNamesFollowTheResolver: what is right depends on others, who come, go and forget.
func TestNamesFollowTheResolver(t *testing.T) {
	w := newStaying(t, spec.Networkd)
	none := w.String()
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	w.finds("applied", true, false)
	if hosts := w.system.Content(spec.HostsPath); hosts != "127.0.0.1 localhost\n" {
		t.Errorf("/etc/hosts is %q", hosts)
	}
	w.resolved.runs = false
	if ops, err := w.host.Differences(ctx); err != nil || len(ops) > 0 {
		t.Errorf("while it restarts: %v, %v", ops, err)
	}
	w.resolved.starts()
	w.finds("restarted", true, false)
	if err := w.kernel.DeleteLink(links.LinkKey{Name: spec.DirectHost}); err != nil {
		t.Fatal(err)
	}
	w.repaired()
	w.finds("the link was made again", true, false)
	gone := w.resolved
	w.resolved = nil
	w.repaired()
	w.finds("it was removed", false, true)
	w.resolved, gone.runs = gone, false
	w.repaired()
	w.finds("it is back, and does not run yet", true, true)
	w.resolved.starts()
	w.repaired()
	w.finds("it is back", true, false)
	if err := w.resolved.resolvectl("revert", spec.DirectHost, nil); err != nil {
		t.Fatal(err)
	}
	w.repaired()
	w.finds("somebody reverts it", true, false)
	if err := os.Remove(w.system.At(spec.ResolvConfPath)); err != nil {
		t.Fatal(err)
	}
	if err := w.system.Put(spec.ResolvConfPath, "nameserver 192.0.2.53\n", 0o644); err != nil {
		t.Fatal(err)
	}
	w.repaired()
	w.finds("nobody asks it", false, true)
	if err := w.system.Put("/etc/nsswitch.conf", "hosts: files resolve [!UNAVAIL=return] dns # dns first\n", 0o644); err != nil {
		t.Fatal(err)
	}
	w.repaired()
	w.finds("nss-resolve is not installed", false, true)
	if err := w.system.Put("/usr/lib/x86_64-linux-gnu/libnss_resolve.so.2", "", 0o644); err != nil {
		t.Fatal(err)
	}
	w.repaired()
	w.finds("it is", true, false)
	if err := os.Remove(w.system.At("/etc/nsswitch.conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.system.At(spec.ResolvConfPath)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.facts.ResolvConf.Target, w.system.At(spec.ResolvConfPath)); err != nil {
		t.Fatal(err)
	}
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.finds("booted", true, false)
	w.apply(down)
	w.confirm(down)
	w.same("uninstalled", w.String(), none)
}

// TestCloudInitWritesHosts: at each boot, and while a change is carried out.
func TestCloudInitWritesHosts(t *testing.T) {
	verified := false
	for at := 1; ; at++ {
		w := newStaying(t, spec.Ifupdown)
		c, count, wrote := w.document(1, nil, 2), 0, ""
		w.host.Before = func(_ context.Context, step string) error {
			if count++; count == at {
				wrote = step
				return w.system.Put(spec.HostsPath, hostsOfCloudInit, 0o644)
			}
			return nil
		}
		w.apply(c)
		w.host.Before = nil
		w.confirm(c)
		if wrote == "" {
			break
		}
		if verified = verified || wrote == "note the end"; verified {
			w.repaired() // the agent sees it
		}
		w.finds("written before "+wrote, false, true)
		if hosts := w.system.Content(spec.HostsPath); !strings.HasPrefix(hosts, hostsOfCloudInit+"\n") {
			t.Errorf("written before %s: /etc/hosts is %q", wrote, hosts)
		}
	}
	w := newStaying(t, spec.Ifupdown)
	w.cloudInit = true
	c := w.document(1, nil, 2)
	w.apply(c)
	w.confirm(c)
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.finds("booted", false, true)
	w.apply(down)
	w.confirm(down)
	if hosts := w.system.Content(spec.HostsPath); hosts != hostsOfCloudInit {
		t.Errorf("uninstalled: /etc/hosts is %q", hosts)
	}
}

// byGateway is a change to a network in which the host's gateway looks up all names.
func (w *world) byGateway(serial int64, gateway bool) *store.Change {
	return w.document(serial, func(h *network.Host) { h.GatewayResolver = gateway }, 2)
}

// TestResolverOfTheGateway comes and goes with the document, and what is the host's own
// follows those who write it meanwhile.
func TestResolverOfTheGateway(t *testing.T) {
	for _, m := range []spec.Manager{spec.Ifupdown, spec.Networkd} {
		w := newStaying(t, m)
		none := w.String()
		with := w.byGateway(1, true)
		w.apply(with)
		if conf := w.resolvConf(); !conf.IsOurs() || !strings.Contains(conf.Content, "\nnameserver 10.30.0.0\n") || conf.Target != "" {
			t.Errorf("%s: resolv.conf is %+v", m, conf)
		}
		w.finds("by the gateway", false, false)
		w.ring()
		w.same("not confirmed", w.String(), none)
		w.apply(with)
		w.confirm(with)
		// A new lease.
		lease := spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: "nameserver 198.51.100.53\n"}
		if err := w.system.Put(lease.Path, lease.Content, lease.Mode); err != nil {
			t.Fatal(err)
		}
		w.repaired()
		facts, err := w.host.Known()
		if err != nil || facts.ResolvConf != lease || fmt.Sprint(facts.Resolvers) != "[198.51.100.53]" || !w.resolvConf().IsOurs() {
			t.Errorf("%s: with a new lease the facts are %+v (%v), resolv.conf %+v", m, facts, err, w.resolvConf())
		}
		if err := w.boot(); err != nil || !w.resolvConf().IsOurs() {
			t.Errorf("%s: after a boot resolv.conf is %+v (%v)", m, w.resolvConf(), err)
		}
		without := w.byGateway(2, false)
		w.apply(without)
		w.confirm(without)
		if conf := w.resolvConf(); conf != lease {
			t.Errorf("%s: without the gateway's, resolv.conf is %+v", m, conf)
		}
		// Whoever moves the NIC from here on has noted the same.
		again := w.byGateway(3, true)
		w.apply(again)
		w.confirm(again)
		w.apply(down)
		w.confirm(down)
		if conf := w.resolvConf(); conf != lease {
			t.Errorf("%s: uninstalled, resolv.conf is %+v", m, conf)
		}
	}
}

// TestResolverOfTheVersionBefore: of what the version before does not know nothing is left
// when it gets the host back.
func TestResolverOfTheVersionBefore(t *testing.T) {
	w := newStaying(t, spec.Networkd)
	before := w.byGateway(1, false)
	w.apply(before)
	w.confirm(before)
	now := w.byGateway(2, true)
	w.apply(now)
	if err := w.host.takeBackNews(ctx, before); err != nil {
		t.Fatal(err)
	}
	if conf := w.resolvConf(); conf.Target != w.facts.ResolvConf.Target {
		t.Errorf("resolv.conf is %+v", conf)
	}
	w.finds("given back", false, false)
	if ops, err := w.host.Reconciler(w.facts, false).Plan(ctx, &spec.Host{}, nil); err != nil || len(ops) == 0 {
		t.Errorf("nothing else is left: %v, %v", ops, err)
	}
}
