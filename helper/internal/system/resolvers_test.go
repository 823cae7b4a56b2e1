package system

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/reconcile"
)

// TestResolverOptions holds that hooks get what ifquery(8) of Debian 12 and 13 prints
// as ifup(8) would give it to them.
func TestResolverOptions(t *testing.T) {
	cases := []struct {
		name, stanza string
		want         []string
	}{
		{"none", "address: 192.0.2.10\nup: echo dns-search: x\nbroadcast: 192.0.2.255\n", nil},
		{"nothing", "", nil},
		{"usual", "address: 192.0.2.10\ndns-nameservers: 192.0.2.53 192.0.2.54\ndns-search: example.com  lan\nnetmask: 255.255.255.0\n",
			[]string{"IF_DNS_NAMESERVERS=192.0.2.53 192.0.2.54", "IF_DNS_SEARCH=example.com  lan"}},
		{"one a line", "dns-nameserver: 192.0.2.55\n2001:db8::56\nup: a\nb\n", []string{"IF_DNS_NAMESERVER=192.0.2.55\n2001:db8::56"}},
		{"both families", "dns-nameservers: 192.0.2.53\ndns-search: lan\ndns-nameserver: 192.0.2.54\npreferred-lifetime: \ndns-nameservers: 2001:db8::53\ndns-search: lan\ndns-nameserver: 2001:db8::54\ndns-domain: example.com\n",
			[]string{"IF_DNS_NAMESERVERS=192.0.2.53 2001:db8::53", "IF_DNS_SEARCH=lan", "IF_DNS_NAMESERVER=192.0.2.54\n2001:db8::54", "IF_DNS_DOMAIN=example.com"}},
	}
	for _, c := range cases {
		if got := resolverOptions(c.stanza); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: found %q, wanted %q", c.name, got, c.want)
		}
	}
}

// given is a host whose ifupdown has the uplink and an alias of it, and still has to
// give their resolvers to others.
func given(t *testing.T) (s *System, root string, logged *bytes.Buffer) {
	t.Helper()
	root, logged = etc(t), &bytes.Buffer{}
	bin := t.TempDir()
	for file, script := range map[string]string{
		bin + "/ifquery":                  "echo 'address: 192.0.2.1'; [ \"$2\" = eth0:0 ] || echo 'dns-nameservers: 192.0.2.53'",
		root + hooksDir + "000resolvconf": "env >>\"${0%/etc/*}/resolvconf\"",
		root + hooksDir + "resolved":      "[ ! -e \"${0%/etc/*}/run/network/ifupdown-$ADDRFAM-$IFACE\" ] && env >>\"${0%/etc/*}/resolved\"",
		root + hooksDir + "ntpdate":       "exec touch \"${0%/etc/*}/ntpdate\"",
	} {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	must(t, os.MkdirAll(filepath.Join(root, "run/network"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, ifstate), []byte("lo=lo\neth0=eth0\neth0:0=eth0:0\neth1=eth1\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "run/network/ifupdown-inet-eth0"), []byte("DNS=192.0.2.53\n"), 0o644))
	s = at(root, "eth0", false)
	s.Log = slog.New(slog.NewTextHandler(logged, nil))
	s.Addresses = func(string) ([]netip.Prefix, error) { return nil, nil }
	must(t, s.noteUnread(ifupdown+lateNote))
	return s, root, logged
}

// giving are the operations by which ifupdown gives the resolvers again.
func giving(t *testing.T, s *System) []reconcile.Operation {
	t.Helper()
	want, _ := host(t, false)
	return s.rereading(nil, want, nil)
}

// TestResolversAreGivenAgain holds that ifupdown's hooks for resolvers, and no others,
// run once for what it has configured of the uplink and has resolvers, when the NIC is there.
func TestResolversAreGivenAgain(t *testing.T) {
	s, root, logged := given(t)
	s.Addresses = func(string) ([]netip.Prefix, error) { return nil, errors.New("no such device") }
	if ops := giving(t, s); len(ops) > 0 {
		t.Errorf("without the NIC: %v", ops)
	}
	must(t, s.reads(reload{ifupdown, reconcile.StepFiles})(context.Background()))
	s.Addresses = func(string) ([]netip.Prefix, error) { return nil, nil }
	ops := giving(t, s)
	if len(ops) != 1 || ops[0].Step != reconcile.StepResolver {
		t.Fatalf("with the NIC: %v", ops)
	}
	must(t, ops[0].Do(context.Background()))
	for _, hook := range []string{"resolvconf", "resolved"} {
		data, err := os.ReadFile(filepath.Join(root, hook))
		must(t, err)
		for _, line := range []string{"IFACE=eth0", "LOGICAL=eth0", "ADDRFAM=inet", "METHOD=static", "MODE=start", "PHASE=post-up", "IF_DNS_NAMESERVERS=192.0.2.53"} {
			if strings.Count("\n"+string(data), "\n"+line+"\n") != 1 {
				t.Errorf("%s: wanted %s once in\n%s", hook, line, data)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(root, "ntpdate")); err == nil {
		t.Error("another hook ran")
	}
	if ops := giving(t, s); len(ops) > 0 || logged.Len() > 0 {
		t.Errorf("afterwards: %v %s", ops, logged)
	}
}

// TestResolversCannotBeGiven holds that hooks that fail, hang or cannot be asked for are
// told of, and keep nobody from going on.
func TestResolversCannotBeGiven(t *testing.T) {
	for name, script := range map[string]string{"fails": "exit 3", "hangs": ": >\"${0%/etc/*}/hangs\"; sleep 20"} {
		s, root, logged := given(t)
		must(t, os.WriteFile(root+hooksDir+"resolved", []byte("#!/bin/sh\n"+script+"\n"), 0o755))
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // in place of the time that it may take
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(root, "hangs")); err == nil {
					cancel()
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		began := time.Now()
		err := giving(t, s)[0].Do(ctx)
		cancel()
		if err != nil || !strings.Contains(logged.String(), hooksDir+"resolved for eth0") || time.Since(began) > 18*time.Second {
			t.Errorf("%s: %v after %v, logged %q", name, err, time.Since(began), logged)
		}
		if ops := giving(t, s); len(ops) > 0 {
			t.Errorf("%s: tried again: %v", name, ops)
		}
	}
	s, root, logged := given(t)
	must(t, os.Chmod(root+hooksDir+"resolved", 0o644))
	must(t, giving(t, s)[0].Do(context.Background()))
	if _, err := os.Stat(filepath.Join(root, "resolved")); err == nil || logged.Len() > 0 {
		t.Errorf("one that is not executable ran: %s", logged)
	}
}
