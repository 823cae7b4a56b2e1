package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// namesOf is what host 256 is to know, which keeps its NIC, with these further names.
func namesOf(t *testing.T, more ...string) *spec.Names {
	t.Helper()
	d := document(t, func(d *network.Document) {
		d.Hosts[2].SharedUplink, d.Hosts[2].Publish = true, nil
		d.Names = []network.Name{{Address: netip.MustParseAddr("10.31.0.254"), Names: more}}
		if len(more) == 0 {
			d.Names = nil
		}
	})
	return mustBuild(t, d, 256, sharedFacts()).Names
}

// TestNamesThatAreRouted: each private name is one domain, but for those that are below
// another one, and those about which systemd-resolved asks nobody.
func TestNamesThatAreRouted(t *testing.T) {
	zones := []string{"30.10.in-addr.arpa", "31.10.in-addr.arpa"}
	hosts := []string{"host1.example.com", "host2.example.com", "host256.example.com"}
	for name, c := range map[string]struct {
		more, routed []string
		beside       string
	}{
		"nothing more":          {nil, hosts, ""},
		"another domain":        {[]string{"NAS.example.net"}, append([]string{}, append(hosts, "nas.example.net")...), ""},
		"above others":          {[]string{"example.com"}, []string{"example.com"}, ""},
		"below another one":     {[]string{"a.b.host1.example.com"}, hosts, ""},
		"the same end":          {[]string{"myhost1.example.com"}, append(append([]string{}, hosts...), "myhost1.example.com"), ""},
		"multicast DNS's":       {[]string{"nas.local"}, append(append([]string{}, hosts...), "nas.local"), ""},
		"synthesized":           {[]string{"a.localhost"}, hosts, "10.31.0.254\ta.localhost\n"},
		"nobody is asked":       {[]string{"nas.invalid"}, hosts, "10.31.0.254\tnas.invalid\n"},
		"only looks like these": {[]string{"nas.xinvalid"}, append(append([]string{}, hosts...), "nas.xinvalid"), ""},
	} {
		n := namesOf(t, c.more...)
		const heading = "# Mobula: addresses in 10.30.0.0/16 and 10.31.0.0/16.\n"
		if c.beside != "" {
			c.beside = heading + c.beside
		}
		if want := append(append([]string{}, zones...), c.routed...); !slices.Equal(n.Domains, want) || n.Beside != c.beside {
			t.Errorf("%s: found %q and %q, wanted %q and %q", name, n.Domains, n.Beside, want, c.beside)
		}
		if got, ok := strings.CutPrefix(n.All, heading); !ok || strings.Count(got, "\n") != len(hosts)+len(c.more) {
			t.Errorf("%s: found %q", name, n.All)
		}
	}
}

// TestTooManyNames: what systemd-resolved would refuse is in /etc/hosts, all of it.
func TestTooManyNames(t *testing.T) {
	for _, c := range []struct{ names, domains int }{{123, 128}, {124, 2}} {
		var more []string
		for i := 0; i < c.names; i++ {
			more = append(more, fmt.Sprintf("n%d.example.net", i))
		}
		n := namesOf(t, more...)
		if len(n.Domains) != c.domains || (n.Beside == n.All) != (c.domains == 2) {
			t.Errorf("%d more names: found %d domains, and %q beside them", c.names, len(n.Domains), n.Beside)
		}
	}
}

// TestResolverOfItsOwn: what the host has now is what it gets back, if it is its own.
func TestResolverOfItsOwn(t *testing.T) {
	was := spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: "nameserver 192.0.2.53\n"}
	servers := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	other := []netip.Addr{netip.MustParseAddr("198.51.100.53")}
	for name, c := range map[string]struct {
		now   spec.File
		found []netip.Addr
		news  bool
		want  []netip.Addr
	}{
		"the same":           {was, servers, false, servers},
		"Mobula's":           {spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: spec.ResolvConfMark + "\nnameserver 10.30.0.0\n"}, nil, false, servers},
		"away":               {spec.File{Path: spec.ResolvConfPath, Missing: true}, nil, false, servers},
		"half written":       {spec.File{Path: spec.ResolvConfPath, Mode: 0o644}, nil, false, servers},
		"another lease":      {spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: "nameserver 198.51.100.53\n"}, other, true, other},
		"systemd-resolved's": {spec.File{Path: spec.ResolvConfPath, Target: "../run/systemd/resolve/stub-resolv.conf"}, nil, true, servers},
	} {
		facts := &spec.Facts{Shared: &spec.Shared{}, ResolvConf: was, Resolvers: servers}
		next, news := facts.WithResolver(c.now, c.found)
		if news != c.news || !slices.Equal(next.Resolvers, c.want) || news != (next.ResolvConf == c.now && c.now != was) {
			t.Errorf("%s: found %v, %+v", name, news, next)
		}
		if facts.ResolvConf != was {
			t.Errorf("%s: the facts themselves changed", name)
		}
	}
}

// TestResolverAsTheModeChanges: Mobula's own file is nothing that a host had before.
func TestResolverAsTheModeChanges(t *testing.T) {
	before := sharedFacts()
	before.ResolvConf = spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: "nameserver 192.0.2.53\n"}
	found := facts(spec.Ifupdown)
	found.ResolvConf.Content, found.Resolvers = spec.ResolvConfMark+"\nnameserver 10.30.0.0\n", nil
	if moved := found.Moves(&before, false); moved.ResolvConf != before.ResolvConf || len(moved.Resolvers) != 1 {
		t.Errorf("found %+v, %v", moved.ResolvConf, moved.Resolvers)
	}
}
