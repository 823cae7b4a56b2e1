package inventory

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
)

func TestHostVariablesThatAreGood(t *testing.T) {
	resolver := fakeResolver{"a.example.net": {"2001:db8::1", "::ffff:198.51.100.9", "198.51.100.8"}, "a": {"198.51.100.8"}}
	resolver["a.example.net."] = resolver["a.example.net"]
	tests := []struct {
		name string
		vars vars
		got  func(network.Host, HostSettings) any
		want any
	}{
		{"id", vars{"host_id": 32767}, id, 32767},
		{"id as a string", vars{"host_id": "7"}, id, 7},
		{"endpoint by default", nil, endpoint, "192.0.2.1:51820"},
		{"endpoint null", vars{"endpoint": nil}, endpoint, "192.0.2.1:51820"},
		{"endpoint and port", vars{"endpoint": "198.51.100.7", "wireguard_port": "443"}, endpoint, "198.51.100.7:443"},
		{"the endpoint's own port", vars{"endpoint": "198.51.100.7:51821"}, forwarded, "198.51.100.7:51821 to 51820"},
		{"both ports", vars{"endpoint": "198.51.100.7:443", "wireguard_port": 7}, forwarded, "198.51.100.7:443 to 7"},
		{"both ports the same", vars{"endpoint": "198.51.100.7:443", "wireguard_port": 443}, forwarded, "198.51.100.7:443 to 443"},
		{"only one port", vars{"endpoint": "198.51.100.7"}, forwarded, "198.51.100.7:51820 to 51820"},
		{"the endpoint's own port and a name", vars{"endpoint": "a.example.net:51821"}, forwarded, "198.51.100.8:51821 to 51820"},
		{"WireGuard's port of outside is nobody's inside", vars{"uplink_mode": "moved", "endpoint": "198.51.100.7:443", "publish": "udp/443"}, publish, "[udp/443]"},
		{"no name", nil, endpointName, ""},
		{"a name", vars{"endpoint": "a.example.net:51821"}, endpointName, "a.example.net"},
		{"a name with a final dot", vars{"endpoint": "a.example.net."}, endpointName, "a.example.net"},
		{"a name that only the deployer knows", vars{"endpoint": "a"}, endpointName, ""},
		{"endpoint by name, the smallest address", vars{"endpoint": "a.example.net"}, endpoint, "198.51.100.8:51820"},
		{"uplink", vars{"uplink_mode": "moved", "uplink": "enp0s31f6.7"}, func(h network.Host, _ HostSettings) any { return h.Uplink }, "enp0s31f6.7"},
		{"a new one stays by default", nil, staying, true},
		{"moves", vars{"uplink_mode": "moved"}, staying, false},
		{"stays", vars{"uplink_mode": "shared"}, staying, true},
		{"nothing is published where it stays", vars{"uplink_mode": "shared", "publish": 443}, publish, "[]"},
		{"no uplink where it stays", vars{"uplink_mode": "shared", "uplink": "eth0"}, func(h network.Host, _ HostSettings) any { return h.Uplink }, ""},
		{"opens", vars{"uplink_mode": "shared", "open_firewall": "True"}, opening, true},
		{"opens nothing by default", vars{"uplink_mode": "shared"}, opening, false},
		{"opens nothing before which the gateway stands", vars{"uplink_mode": "moved", "open_firewall": true}, opening, false},
		{"its own resolver by default", vars{"uplink_mode": "shared"}, byGateway, false},
		{"its own resolver", vars{"uplink_mode": "shared", "resolver": "host"}, byGateway, false},
		{"the gateway's resolver", vars{"uplink_mode": "shared", "resolver": "gateway"}, byGateway, true},
		{"the gateway's resolver anyway", vars{"uplink_mode": "moved", "resolver": "gateway"}, byGateway, false},
		{"auto", vars{"access_address": "auto"}, manual, false},
		{"manual", vars{"access_address": "manual"}, manual, true},
		{"one resolver", vars{"upstream_dns": "198.51.100.53"}, dns, "[198.51.100.53]"},
		{"resolvers in their order", vars{"upstream_dns": []any{"198.51.100.54", "198.51.100.53", "198.51.100.54"}}, dns, "[198.51.100.54 198.51.100.53]"},
		{"no resolvers", vars{"upstream_dns": []any{}}, dns, "[]"},
		{"one port", vars{"uplink_mode": "moved", "publish": 443}, publish, "[tcp/443]"},
		{"ports in all forms", vars{"uplink_mode": "moved", "publish": []any{"udp/53", "443", 443, "tcp/443", "443/tcp", "80/TCP", 22, "22/tcp"}}, publish, "[tcp/22 tcp/80 tcp/443 udp/53]"},
		{"timeout by default", nil, timeout, 120 * time.Second},
		{"timeout in seconds", vars{"confirm_timeout": 30}, timeout, 30 * time.Second},
		{"timeout in seconds as a string", vars{"confirm_timeout": "3600"}, timeout, time.Hour},
		{"timeout as a duration", vars{"confirm_timeout": "3m"}, timeout, 3 * time.Minute},
		{"preshared keys", vars{"preshared_keys": true}, preshared, true},
		{"preshared keys from a template", vars{"preshared_keys": "True"}, preshared, true},
		{"metrics", vars{"metrics": "True"}, metrics, "true false"},
		{"metrics of each peer", vars{"metrics": true, "metrics_per_peer": true}, metrics, "true true"},
		{"no preshared keys", vars{"preshared_keys": "no"}, preshared, false},
		{"no preshared keys by default", nil, preshared, false},
		{"a map for guests", vars{"map_for_guests": "yes"}, forGuests, true},
		{"no map for guests by default", nil, forGuests, false},
		{"another's variable", vars{"ansible_port": "x", "ntp": true}, id, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := mustCompile(t, Input{Resolved: one(tt.vars), Resolver: resolver})
			if got := tt.got(out.Document.Hosts[0], out.Settings["192.0.2.1"]); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, wanted %v", got, tt.want)
			}
		})
	}
}

func id(h network.Host, _ HostSettings) any           { return int(h.ID) }
func endpoint(h network.Host, _ HostSettings) any     { return h.Endpoint.String() }
func endpointName(h network.Host, _ HostSettings) any { return h.EndpointName }

// forwarded is where the others send to, and where the host listens.
func forwarded(h network.Host, _ HostSettings) any {
	return fmt.Sprintf("%v to %d", h.Endpoint, h.ListenPort())
}

func manual(h network.Host, _ HostSettings) any  { return h.ManualAccess }
func staying(h network.Host, _ HostSettings) any { return h.SharedUplink }
func metrics(h network.Host, _ HostSettings) any { return fmt.Sprint(h.Metrics, h.MetricsPerPeer) }
func opening(h network.Host, _ HostSettings) any { return h.OpenFirewall }
func byGateway(h network.Host, _ HostSettings) any {
	return h.GatewayResolver
}
func dns(h network.Host, _ HostSettings) any       { return fmt.Sprint(h.UpstreamDNS) }
func publish(h network.Host, _ HostSettings) any   { return fmt.Sprint(h.Publish) }
func forGuests(h network.Host, _ HostSettings) any { return h.MapForGuests }
func preshared(h network.Host, _ HostSettings) any {
	return h.PresharedKeys
}
func timeout(_ network.Host, s HostSettings) any { return s.ConfirmTimeout }

func TestHostVariablesThatAreRefused(t *testing.T) {
	resolver := fakeResolver{"six.example.net": {"2001:db8::1"}}
	values := map[string][]any{
		"host_id":  {nil, 0, 32768, -1, 1.5, true, "one", "", " 1", "01", "+1", "1.0", "99999999999999999999", []any{1}, vars{}},
		"hostname": {nil, "", "alice", "alice.example.com.", "a_b.example.com", 7, []any{"a.b"}, strings.Repeat("a", 64) + ".b"},
		"endpoint": {"", 7, "2001:db8::1", "[2001:db8::1]", "::ffff:192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:07", "192.0.2.1:-1", "192.0.2.1:1:2", ":51820", ":",
			"a.example.net:0", "a.example.net:", "a b:7", "[2001:db8::1]:7", "[::ffff:192.0.2.1]:7", "[192.0.2.1]", "[192.0.2.1]:7", "[2001:db8::1", "[]:7", "10.31.0.1:7", "192.0.2.1:7 ", "six.example.net", "none.example.net", "192.0.2.300", "a b", "10.31.0.1", "10.30.0.1", "127.0.0.1", ".", "a..b"},
		"endpoints": {"", 7, "192.0.2.1", []any{}, vars{}, []any{""}, []any{nil}, []any{"192.0.2.1", "2001:db8::1"}, []any{"192.0.2.1", "[2001:db8::1]:51820"}, []any{"192.0.2.1:0"},
			[]any{"192.0.2.1", "192.0.2.1"}, []any{"192.0.2.1", "192.0.2.1:51820"}, []any{"192.0.2.1", "10.31.0.1"}, []any{"10.31.0.1", "192.0.2.1"}, []any{"192.0.2.1", "none.example.net"}, []any{"192.0.2.1", "six.example.net"},
			[]any{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4", "192.0.2.1:5", "192.0.2.1:6", "192.0.2.1:7", "192.0.2.1:8", "192.0.2.1:9"}},
		"wireguard_port":   {0, 65536, "x", true, 1.5},
		"uplink":           {"", 7, "an-interface-of-17", "a/b", "a b", ".."},
		"uplink_mode":      {"", true, "Shared", 1, "own"},
		"open_firewall":    {"", "x", 1, 0, "on", []any{true}},
		"mobula_packages":  {"", "nftables", 1, true, []any{"nft; reboot"}, []any{"--allow-downgrades"}, []any{"./x.deb"}, []any{1}, []any{nil}},
		"resolver":         {"", true, "Gateway", 1, "moved", "198.51.100.53", []any{"gateway"}},
		"access_address":   {"", true, "Auto", 1},
		"upstream_dns":     {"", "x", 7, []any{"198.51.100.53", nil}, "2001:db8::53", "127.0.0.53", "0.0.0.0", "224.0.0.1", vars{}},
		"publish":          {"", "x", 0, 65536, "80,443", "80-90", "sctp/7", "tcp/", "/80", "tcp/tcp", []any{80, nil}, true, "udp/51820"},
		"underlay_mtu":     {1393, 9217, "x", true, 1500.5},
		"confirm_timeout":  {29, 3601, "29s", "61m", "x", "", true, 60.5, "60.5s", "99999999999999999999", int64(9000000000000000000)},
		"preshared_keys":   {"", "x", 1, 0, "on", []any{true}, vars{}},
		"metrics":          {"", "x", 1, 0, "on", []any{true}, 6257},
		"metrics_per_peer": {"", "x", 1, 0, "on", []any{true}, 100},
		"map_for_guests":   {"", "x", 1, 0, "on", []any{true}, vars{}},
	}
	for _, v := range variables {
		if v.name == wireNetwork || v.name == accessNetwork {
			continue // the network's, see TestRangesThatAreRefused
		}
		for _, value := range values[v.name] {
			t.Run(fmt.Sprintf("%s=%v", v.name, value), func(t *testing.T) {
				got := mustFail(t, "", Input{Resolved: one(vars{"uplink_mode": "moved", v.name: value}), Resolver: resolver})
				wantLines(t, got, []string{"192.0.2.1: " + v.name + ": found …"})
			})
		}
		if len(values[v.name]) == 0 {
			t.Errorf("no bad values for %s", v.name)
		}
	}
}

// TestEndpointsOfAHost: the first one is the endpoint, the others stand beside it in their
// order. A port that is not given is WireGuard's own.
func TestEndpointsOfAHost(t *testing.T) {
	resolver := fakeResolver{"home.example.net": {"203.0.113.7"}, "lan": {"10.9.0.9"}, "both.example.net": {"2001:db8::6", "203.0.113.8"}, "six.example.net": {"2001:db8::7", "2001:db8::6"}}
	all := func(h network.Host) string {
		names := h.EndpointName
		for _, other := range h.Others() {
			names += "," + other.Name
		}
		return fmt.Sprintf("%v to %d, %s", h.Endpoints(), h.ListenPort(), names)
	}
	for _, c := range []struct {
		vars vars
		want string
	}{
		{vars{"endpoint": "none"}, "[] to 51820, "},
		{vars{"endpoint": "none", "wireguard_port": 5000}, "[] to 5000, "},
		{vars{"endpoint": "2001:db8::1"}, "[[2001:db8::1]:51820] to 51820, ,"},
		{vars{"endpoint": "[2001:db8::1]:7"}, "[[2001:db8::1]:7] to 51820, ,"},
		{vars{"endpoints": []any{"six.example.net", "198.51.100.1:7", "10.9.0.1"}}, "[198.51.100.1:7 10.9.0.1:51820 [2001:db8::6]:51820] to 51820, ,,six.example.net"},
		{vars{"endpoints": []any{"198.51.100.1"}}, "[198.51.100.1:51820] to 51820, "},
		{vars{"endpoints": []any{"198.51.100.1", "10.9.0.1"}}, "[198.51.100.1:51820 10.9.0.1:51820] to 51820, ,"},
		{vars{"endpoints": []any{"home.example.net:4000", "lan", "198.51.100.1:7"}, "wireguard_port": 5000}, "[203.0.113.7:4000 10.9.0.9:5000 198.51.100.1:7] to 5000, home.example.net,,"},
		{vars{"endpoints": []any{"198.51.100.1", "home.example.net"}}, "[198.51.100.1:51820 203.0.113.7:51820] to 51820, ,home.example.net"},
		{vars{"endpoints": []any{"198.51.100.1", "2001:DB8::1", "[2001:db8::2]", "[2001:db8::1]:7"}}, "[198.51.100.1:51820 [2001:db8::1]:51820 [2001:db8::2]:51820 [2001:db8::1]:7] to 51820, ,,,"},
		{vars{"endpoints": []any{"198.51.100.1", "both.example.net", "six.example.net:7"}}, "[198.51.100.1:51820 203.0.113.8:51820 [2001:db8::6]:7] to 51820, ,both.example.net,six.example.net"},
	} {
		out := mustCompile(t, Input{Resolved: one(c.vars), Resolver: resolver})
		if got := all(out.Document.Hosts[0]); got != c.want {
			t.Errorf("%v: found %s, wanted %s", c.vars, got, c.want)
		}
	}
}

// TestRefusedEndpointsAreNamed: of a list the one is told that is wrong, with its place.
func TestRefusedEndpointsAreNamed(t *testing.T) {
	resolver := fakeResolver{"home.example.net": {"203.0.113.7"}, "six.example.net": {"2001:db8::6"}}
	for _, c := range []struct {
		vars vars
		want string
	}{
		{vars{"endpoint": "none", "endpoints": []any{"192.0.2.1"}}, `192.0.2.1: endpoints: found ["192.0.2.1"], wanted endpoint or endpoints, not both (endpoint is the first of endpoints)`},
		{vars{"endpoint": "NONE"}, `192.0.2.1: endpoint: found "NONE", which does not resolve (lookup NONE: no such host), wanted an IPv4 address or a name that has one (set endpoint; ansible_host is for SSH alone)`},
		{vars{"endpoints": []any{"192.0.2.1", "[2001:db8::1"}}, `192.0.2.1: endpoints: found ["192.0.2.1","[2001:db8::1"], wanted an IPv4 address, or a name that has one, alone or with :PORT, or an IPv6 address, alone or as [ADDRESS]:PORT instead of "[2001:db8::1"`},
		{vars{"endpoints": []any{"192.0.2.1", "fe80::1%eth0"}}, `192.0.2.1: endpoints: found ["192.0.2.1","fe80::1%eth0"], wanted an address without a zone, and one of IPv4 as such instead of "fe80::1%eth0"`},
		{vars{"endpoints": []any{"192.0.2.1", "fe80::1"}}, `192.0.2.1: endpoints: found [fe80::1]:51820, wanted a unicast IPv6 address, link-local ones excepted, and a port`},
		{vars{"endpoints": []any{"192.0.2.1", "2001:db8:1:2:3:4:5:6:51820"}}, `192.0.2.1: endpoints: found ["192.0.2.1","2001:db8:1:2:3:4:5:6:51820"], wanted an IPv4 address, or a name that has one, alone or with :PORT, or an IPv6 address, alone or as [ADDRESS]:PORT instead of "2001:db8:1:2:3:4:5:6:51820"`},
		{vars{"endpoints": []any{"192.0.2.1", "2001:db8::1"}, "uplink_mode": "moved"}, `192.0.2.1: endpoints: found [2001:db8::1]:51820, wanted IPv4 addresses: only where uplink_mode is shared IPv6 is spoken`},
		{vars{"endpoint": "six.example.net", "uplink_mode": "moved"}, `192.0.2.1: endpoint: found [2001:db8::6]:51820, wanted IPv4 addresses: only where uplink_mode is shared IPv6 is spoken`},
		{vars{"endpoints": []any{"192.0.2.1", "a", "192.0.2.1"}}, `192.0.2.1: endpoints: found ["192.0.2.1","a","192.0.2.1"], wanted each endpoint once (number 3 is number 1 again)`},
		{vars{"endpoints": []any{"203.0.113.7", "home.example.net"}}, `192.0.2.1: endpoints: found 203.0.113.7:51820 twice, wanted each endpoint once`},
		{vars{"endpoint": "192.0.2.1", "endpoints": []any{"192.0.2.1", "10.9.0.1"}}, `192.0.2.1: endpoints: found ["192.0.2.1","10.9.0.1"], wanted endpoint or endpoints, not both (endpoint is the first of endpoints)`},
		{vars{"endpoints": []any{"192.0.2.1", "none.example.net"}}, `192.0.2.1: endpoints: found "none.example.net", which does not resolve (lookup none.example.net: no such host), wanted an IPv4 address or a name that has one (set endpoint; ansible_host is for SSH alone)`},
		{vars{"endpoints": "192.0.2.1"}, `192.0.2.1: endpoints: found "192.0.2.1", wanted a list of 1..8 endpoints, of which relays use the first of IPv4, each an IPv4 address, or a name that has one, alone or with :PORT, or an IPv6 address, alone or as [ADDRESS]:PORT`},
		{vars{"endpoints": []any{"127.0.0.1"}}, `192.0.2.1: endpoints: found 127.0.0.1:51820, wanted a unicast IPv4 address and a port`},
	} {
		wantLines(t, mustFail(t, "", Input{Resolved: one(c.vars), Resolver: resolver}), []string{c.want})
	}
}

// TestAnErrorOfTheMoment does not make a name of IPv4 one of IPv6, and with it all MTUs others.
func TestAnErrorOfTheMoment(t *testing.T) {
	half := halfResolver{fakeResolver{"both.example.net": {"203.0.113.8", "2001:db8::6"}}}
	got := mustFail(t, "", Input{Resolved: one(vars{"endpoints": []any{"192.0.2.1", "both.example.net"}}), Resolver: half})
	wantLines(t, got, []string{`192.0.2.1: endpoints: found "both.example.net", which does not resolve (lookup both.example.net: server misbehaving), wanted …`})
}

// TestMeaninglessVariables: what has no meaning for a host is said, not refused: a group
// may have it for others.
func TestMeaninglessVariables(t *testing.T) {
	out := mustCompile(t, Input{Resolved: one(vars{"uplink_mode": "shared", "publish": []any{443}, "uplink": "eth0"})})
	var got []string
	for _, w := range out.Warnings {
		got = append(got, w.String())
	}
	for _, field := range []string{"uplink", "publish"} {
		if !strings.Contains(strings.Join(got, "\n"), "192.0.2.1: "+field+": has no meaning where uplink_mode is shared") {
			t.Errorf("%s: found the warnings %q", field, got)
		}
	}
	moved := mustCompile(t, Input{Resolved: one(vars{"uplink_mode": "moved", "open_firewall": true})})
	own := mustCompile(t, Input{Resolved: one(vars{"uplink_mode": "moved", "resolver": "host"})})
	if got := fmt.Sprint(own.Warnings); !strings.Contains(got, "192.0.2.1: resolver: has no meaning where uplink_mode is moved") {
		t.Errorf("resolver: found the warnings %s", got)
	}
	if got := fmt.Sprint(mustCompile(t, Input{Resolved: one(vars{"uplink_mode": "moved", "resolver": "gateway"})}).Warnings); strings.Contains(got, "resolver") {
		t.Errorf("resolver: found the warnings %s", got)
	}
	if got := fmt.Sprint(moved.Warnings); !strings.Contains(got, "192.0.2.1: open_firewall: has no meaning where uplink_mode is moved") {
		t.Errorf("open_firewall: found the warnings %s", got)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	tests := []struct {
		field string
		value any
		want  string
	}{
		{"host_id", "one", `found "one", wanted an integer in 1..32767`},
		{"host_id", nil, "found nothing, wanted an integer in 1..32767"},
		{"host_id", 1.5, "found 1.5, wanted an integer in 1..32767"},
		{"endpoint", "[2001:db8::1", `found "[2001:db8::1", wanted an IPv4 address, or a name that has one, alone or with :PORT, or an IPv6 address, alone or as [ADDRESS]:PORT`},
		{"endpoint", "192.0.2.1:65536", `found "192.0.2.1:65536", wanted an IPv4 address, or a name that has one, alone or with :PORT, or an IPv6 address, alone or as [ADDRESS]:PORT, PORT in 1..65535`},
		{"endpoint", "fe80::1", "found [fe80::1]:51820, wanted a unicast IPv6 address, link-local ones excepted, and a port"},
		{"endpoint", "x.example.net", `found "x.example.net", which does not resolve (there is no resolver), wanted …`},
		{"hostname", nil, "found nothing, wanted a fully qualified name such as alice.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.field, func(t *testing.T) {
			got := mustFail(t, "", Input{Resolved: one(vars{tt.field: tt.value})})
			wantLines(t, got, []string{"192.0.2.1: " + tt.field + ": " + tt.want})
		})
	}
}

func TestEndpointByInventoryName(t *testing.T) {
	h := member(1)
	h["name"] = "alice"
	out := mustCompile(t, Input{Resolved: resolvedHosts(h), Resolver: fakeResolver{"alice": {"192.0.2.9", "192.0.2.8"}}})
	if got := out.Document.Hosts[0].Endpoint; got != netip.MustParseAddrPort("192.0.2.8:51820") {
		t.Errorf("endpoint %v", got)
	}
	wantLines(t, []string{out.Warnings[0].String()}, []string{"alice: endpoint alice has 2 addresses; 192.0.2.8 is used"})
	got := mustFail(t, "", Input{Resolved: resolvedHosts(h), Resolver: fakeResolver{}})
	wantLines(t, got, []string{`alice: endpoint: found "alice", which does not resolve (lookup alice: no such host), wanted …`})
	h["name"] = "alice:22"
	got = mustFail(t, "", Input{Resolved: resolvedHosts(h), Resolver: fakeResolver{"alice": {"192.0.2.9"}}})
	wantLines(t, got, []string{`alice:22: endpoint: found nothing and the inventory name "alice:22", wanted a name without a port, which would be that of SSH (WireGuard's goes into endpoint)`})
	h["name"] = "a b"
	got = mustFail(t, "", Input{Resolved: resolvedHosts(h)})
	wantLines(t, got, []string{`a b: endpoint: found nothing and the inventory name "a b", wanted …`})
}

// FuzzResolved looks for a resolved inventory that makes Compile panic or give
// an invalid document.
func FuzzResolved(f *testing.F) {
	f.Add(one(nil))
	f.Add(one(vars{"uplink_mode": "moved", "publish": []any{"udp/53", 1}, "upstream_dns": "192.0.2.1", "confirm_timeout": "3m", "endpoint": "[::1]:7"}))
	f.Add([]byte(`{"hosts":[{"name":"a","vars":null,"other_vars":["host_ip"]}]} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newCompilation(Input{})
		hosts := c.readHosts(c.resolved(data))
		c.resolveEndpoints(context.Background(), nil, hosts)
		d := network.Document{Format: network.FormatVersion, UnderlayMTU: c.underlayMTU(hosts, nil)}
		for _, h := range hosts {
			d.Hosts = append(d.Hosts, h.Host)
		}
		c.validate(&d, hosts)
		if c.problems.err() != nil {
			return
		}
		if _, err := network.Parse(d.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestBroadcastAddress: the largest ID is valid, but hardly what one wants.
func TestBroadcastAddress(t *testing.T) {
	out := mustCompile(t, Input{Resolved: one(vars{"host_id": network.MaxHostID})})
	if len(out.Warnings) != 2 {
		t.Fatalf("warnings %v", out.Warnings)
	}
	wantLines(t, []string{out.Warnings[1].String()}, []string{"192.0.2.1: host_id 32767: has no address on the access network, because 10.31.255.255 is its broadcast address…"})
}
