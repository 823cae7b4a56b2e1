//go:build kernel

package firewall

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/packetfilter"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// opener is that of host 1. There is no systemd here to have units of their own made.
type opener struct {
	*testing.T
	*reconcile.Reconciler
	record string
}

func openerOf(t *testing.T) opener {
	run := func(ctx context.Context, name string, args ...string) (out string, err error) {
		err = netns.Do(hostOf(1), func() error {
			out, err = packetfilter.Run(ctx, name, args...)
			return err
		})
		return out, err
	}
	record := filepath.Join(t.TempDir(), "openings.json")
	subject := &packetfilter.Opener{Run: run, Change: run, Record: record}
	return opener{t, &reconcile.Reconciler{Subjects: []reconcile.Subject{subject}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, record}
}

// applies brings host 1 to a plan, in so many operations, and finds nothing left to do.
func (o opener) applies(opening *spec.Opening, count int) {
	o.Helper()
	want := &spec.Host{Opening: opening}
	ops, err := o.Plan(context.Background(), want, nil)
	if err == nil {
		err = o.Execute(context.Background(), ops)
	}
	if err != nil {
		o.Fatal(err)
	}
	if len(ops) != count {
		o.Errorf("did %v, wanted %d operations", ops, count)
	}
	o.holds(opening)
	for _, op := range ops { // each is idempotent
		if err := op.Do(context.Background()); err != nil && op.Verb != reconcile.Remove {
			o.Errorf("%s once more: %v", op, err)
		}
	}
	o.holds(opening)
}

func (o opener) holds(opening *spec.Opening) {
	o.Helper()
	if ops, err := o.Plan(context.Background(), &spec.Host{Opening: opening}, nil); err != nil || len(ops) > 0 {
		o.Errorf("left to do: %v (%v)", ops, err)
	}
}

// leaves takes it away again, with its record.
func (o opener) leaves(count int) {
	o.Helper()
	o.applies(nil, count)
	if _, err := os.Stat(o.record); err == nil {
		o.Error("the record stays")
	}
}

var opening = &spec.Opening{Port: 51820, Outside: []string{"eth0"}}

func TestOthersOpenedUFW(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	sh(t, hostOf(1), "ufw --force enable; ufw allow 22/tcp")
	before := sh(t, hostOf(1), "cat /etc/ufw/user.rules /etc/ufw/user6.rules")
	o := openerOf(t)
	o.applies(opening, 2)
	passes(t, "opened", ours)
	sh(t, hostOf(1), "ufw reload")
	o.holds(opening)
	passes(t, "reloaded", ours)
	o.leaves(3)
	if after := sh(t, hostOf(1), "cat /etc/ufw/user.rules /etc/ufw/user6.rules"); after != before {
		t.Errorf("left behind\n%s\nwanted\n%s", after, before)
	}
	passes(t, "closed again", nothing)
	// Its chains are gone, and it is still to keep the rules: they come with it.
	sh(t, hostOf(1), "nft delete table ip filter; nft delete table ip6 filter")
	o.applies(opening, 2)
	sh(t, hostOf(1), "ufw reload")
	passes(t, "opened while its chains were gone", ours)
	sh(t, hostOf(1), "nft delete table ip filter; nft delete table ip6 filter")
	o.leaves(3)
	sh(t, hostOf(1), "ufw reload")
	passes(t, "closed while its chains were gone", nothing)
	// What the operator made himself stays.
	sh(t, hostOf(1), "ufw allow 51820/udp")
	o.applies(opening, 1)
	o.leaves(2)
	passes(t, "with the operator's rule", "port own")
}

func TestOthersOpenedDocker(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	o := openerOf(t)
	o.applies(opening, 0)
	stop := daemon(t, dockerd, docker)
	before := sh(t, hostOf(1), "iptables -S")
	o.applies(opening, 2)
	passes(t, "opened", everything)
	stop()
	daemon(t, dockerd, docker)
	o.holds(opening)
	passes(t, "restarted", everything)
	sh(t, hostOf(1), "iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN")
	o.applies(opening, 2)
	passes(t, "repaired", everything)
	o.leaves(3)
	if after := sh(t, hostOf(1), "iptables -S"); after != before {
		t.Errorf("left behind\n%s\nwanted\n%s", after, before)
	}
}

func TestOthersOpenedFirewalld(t *testing.T) {
	if !besideOthers(t) {
		return
	}
	stop := startFirewalld(t)
	kept := func() string {
		return sh(t, hostOf(1), "for p in '' --permanent; do firewall-cmd $p --list-all-zones; firewall-cmd $p --list-all-policies; done")
	}
	before := kept()
	o := openerOf(t)
	o.applies(opening, 3)
	passes(t, "opened", ours)
	sh(t, hostOf(1), "firewall-cmd --reload")
	o.holds(opening)
	passes(t, "reloaded", ours)
	sh(t, hostOf(1), "firewall-cmd --remove-port=51820/udp")
	o.applies(opening, 1)
	passes(t, "repaired", ours)
	o.leaves(3)
	if after := kept(); after != before {
		t.Errorf("left behind\n%s\nwanted\n%s", after, before)
	}
	passes(t, "closed again", nothing)
	// A zone that is gone holds nothing up.
	inZone := func(verb string) {
		sh(t, hostOf(1), "firewall-cmd --permanent --"+verb+"-zone=lab; firewall-cmd --reload")
	}
	inZone("new")
	sh(t, hostOf(1), "for p in '' --permanent; do firewall-cmd $p --zone=lab --change-interface=eth0; done")
	o.applies(opening, 3)
	inZone("delete")
	o.leaves(3)
	// What a reload would take away stays, and the way outside closed until the operator's.
	sh(t, hostOf(1), "firewall-cmd --permanent --new-ipset=labset --type=hash:ip; firewall-cmd --permanent --zone=work --add-interface=eth8; firewall-cmd --reload")
	for _, c := range []struct{ does, undoes string }{
		{"--direct --add-rule ipv4 filter INPUT 0 -p tcp --dport 9 -j DROP", "--direct --remove-rule ipv4 filter INPUT 0 -p tcp --dport 9 -j DROP"},
		{"--zone=work --change-interface=eth9", "--zone=work --remove-interface=eth9"},
		{"--zone=drop --add-source=203.0.113.7", "--zone=drop --remove-source=203.0.113.7"},
		{"--ipset=labset --add-entry=203.0.113.8", "--ipset=labset --remove-entry=203.0.113.8"},
		{"--zone=public --change-interface=eth8", "--zone=work --change-interface=eth8"},
		{"--state; iptables -A INPUT -p tcp --dport 9 -j DROP", "--state; iptables -D INPUT -p tcp --dport 9 -j DROP"},
	} {
		sh(t, hostOf(1), "firewall-cmd "+c.does)
		o.applies(opening, 2) // the port and the policy
		o.leaves(3)
		sh(t, hostOf(1), "firewall-cmd "+c.undoes)
	}
	sh(t, hostOf(1), "firewall-cmd --permanent --zone=work --remove-interface=eth8; firewall-cmd --reload")
	sh(t, hostOf(1), "firewall-cmd --add-port=8080/tcp; firewall-cmd --permanent --add-port=51820/udp; firewall-cmd --add-port=51820/udp")
	o.applies(opening, 1)
	passes(t, "without a reload", "port intrawire access own")
	if said := strings.Join(say(t), "\n"); !strings.Contains(said, "firewall-cmd --reload") || strings.Contains(said, "add-port") {
		t.Errorf("said %q, wanted the reload", said)
	}
	stop()
	o.leaves(2)
	// One that is gone while firewalld is stopped, too.
	if err := os.WriteFile(o.record, []byte(`{"firewalld_ports": ["gone 51820/udp"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	o.leaves(2)
	daemon(t, firewalld, firewallC)
	passes(t, "with the operator's port", "port own")
}
