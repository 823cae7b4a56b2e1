package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

func TestResolvers(t *testing.T) {
	cases := []struct{ name, file, want string }{
		{"none", "", "[]"},
		{"usual", "# comment\ndomain example.com\nnameserver 192.0.2.53\nnameserver\t192.0.2.54 # second\n", "[192.0.2.53 192.0.2.54]"},
		{"stub", "nameserver 127.0.0.53\noptions edns0 trust-ad\n", "[]"},
		{"IPv6", "nameserver 2001:db8::53\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n", "[192.0.2.53]"},
		{"the gateway's", "nameserver 10.30.0.0\nnameserver 10.31.0.1\nnameserver 10.32.0.1\n", "[10.32.0.1]"},
		{"rubbish", "nameserver\nnameserver x\n;nameserver 192.0.2.1\nnameserverx 192.0.2.1\n", "[]"},
		{"without the last newline", "nameserver 192.0.2.53", "[192.0.2.53]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(Resolvers(network.Ranges{}, c.file)); got != c.want {
				t.Errorf("found %s, wanted %s", got, c.want)
			}
		})
	}
}

func TestSupportedRelease(t *testing.T) {
	cases := []struct {
		id, like, version string
		want              bool
	}{
		{"debian", "", "12", true}, {"debian", "", "13", true}, {"debian", "", "11", false}, {"debian", "", "", false},
		{"ubuntu", "debian", "22.04", true}, {"ubuntu", "debian", "24.04", true}, {"ubuntu", "debian", "20.04", false},
		{"rhel", "fedora", "9.4", true}, {"rhel", "fedora", "8.9", false}, {"rocky", "rhel centos fedora", "9.3", true},
		{"almalinux", "rhel centos fedora", "8.10", false}, {"centos", "rhel fedora", "9", true},
		{"raspbian", "debian", "1", true}, // a derivative counts by its own numbers
		{"alpine", "", "3.20", false}, {"", "", "", false},
	}
	for _, c := range cases {
		name := strings.TrimSpace(c.id + " " + c.version)
		t.Run(name, func(t *testing.T) {
			err := supportedRelease(fmt.Sprintf("PRETTY_NAME=\"%s\"\nID=%s\nID_LIKE=\"%s\"\nVERSION_ID=\"%s\"\n", name, c.id, c.like, c.version))
			if (err == nil) != c.want {
				t.Errorf("error %v", err)
			}
			if want := "operating system: found " + name + ", wanted Debian 12, Ubuntu 22.04, RHEL 9 or a later one"; err != nil && err.Error() != want {
				t.Errorf("error %q, wanted %q", err, want)
			}
		})
	}
}

// TestIfupdown2IsRefused: it does not know the options with which Mobula has ifupdown
// started, and would bring up no NIC at all. What its package leaves does no harm.
func TestIfupdown2IsRefused(t *testing.T) {
	for _, c := range []struct {
		file    string
		manager spec.Manager
		refused bool
	}{
		{ifupdown2, spec.Ifupdown, true}, {ifupdown2, spec.Networkd, false},
		{"/usr/share/ifupdown2/__pycache__/main.pyc", spec.Ifupdown, false}, {"/usr/share/doc/ifupdown2/README.rst", spec.Ifupdown, false},
	} {
		root := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(c.file)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, c.file), nil, 0o644))
		err := surveyIfupdown(root, plantest.Facts(c.manager))
		if c.refused != (err != nil) || err != nil && !strings.HasPrefix(err.Error(), "network manager: found ifupdown2, wanted ifupdown, ") {
			t.Errorf("%s and %s: found %v", c.file, c.manager, err)
		}
	}
}

// TestPackagesThatAreBrought: each program that is missing is named, with its package.
func TestPackagesThatAreBrought(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	want := "ovs-vswitchd: found none, wanted its package (openvswitch-switch on Debian) to be installed already, as mobula_packages says\n" +
		"nft: found none, wanted its package (nftables on Debian) to be installed already, as mobula_packages says"
	if got := fmt.Sprint(Brought()); got != want {
		t.Errorf("found %s, wanted %s", got, want)
	}
	for _, p := range required {
		if err := os.WriteFile(filepath.Join(dir, p.name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err, missing := Brought(), MissingPackages(); err != nil || len(missing) > 0 {
		t.Errorf("found %v and %v missing, wanted nothing", err, missing)
	}
}
