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
		{"ports in all forms", vars{"uplink_mode": "moved", "publish": []any{"udp/53", "443", 443, "tcp/443", "443/tcp", "80/TCP", 22, "22/tcp"}}, publish, "[tcp/80 tcp/443 udp/53]"},
		{"timeout by default", nil, timeout, 120 * time.Second},
		{"timeout in seconds", vars{"confirm_timeout": 30}, timeout, 30 * time.Second},
		{"timeout in seconds as a string", vars{"confirm_timeout": "3600"}, timeout, time.Hour},
		{"timeout as a duration", vars{"confirm_timeout": "3m"}, timeout, 3 * time.Minute},
		{"preshared keys", vars{"preshared_keys": true}, preshared, true},
		{"preshared keys from a template", vars{"preshared_keys": "True"}, preshared, true},
		{"no preshared keys", vars{"preshared_keys": "no"}, preshared, false},
		{"no preshared keys by default", nil, preshared, false},
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
func opening(h network.Host, _ HostSettings) any { return h.OpenFirewall }
func byGateway(h network.Host, _ HostSettings) any {
	return h.GatewayResolver
}
func dns(h network.Host, _ HostSettings) any     { return fmt.Sprint(h.UpstreamDNS) }
func publish(h network.Host, _ HostSettings) any { return fmt.Sprint(h.Publish) }
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
			"a.example.net:0", "a.example.net:", "a b:7", "[2001:db8::1]:7", "[::ffff:192.0.2.1]:7", "[]:7", "10.31.0.1:7", "192.0.2.1:7 ", "six.example.net", "none.example.net", "192.0.2.300", "a b", "10.31.0.1", "10.30.0.1", "127.0.0.1", ".", "a..b"},
		"wireguard_port":  {0, 65536, "x", true, 1.5},
		"uplink":          {"", 7, "an-interface-of-17", "a/b", "a b", ".."},
		"uplink_mode":     {"", true, "Shared", 1, "own"},
		"open_firewall":   {"", "x", 1, 0, "on", []any{true}},
		"mobula_packages": {"", "nftables", 1, true, []any{"nft; reboot"}, []any{"--allow-downgrades"}, []any{"./x.deb"}, []any{1}, []any{nil}},
		"resolver":        {"", true, "Gateway", 1, "moved", "198.51.100.53", []any{"gateway"}},
		"access_address":  {"", true, "Auto", 1},
		"upstream_dns":    {"", "x", 7, []any{"198.51.100.53", nil}, "2001:db8::53", "127.0.0.53", "0.0.0.0", "224.0.0.1", vars{}},
		"publish":         {"", "x", 0, 65536, "80,443", "80-90", "sctp/7", "tcp/", "/80", "tcp/tcp", []any{80, nil}, true, "udp/51820"},
		"underlay_mtu":    {1393, 9217, "x", true, 1500.5},
		"confirm_timeout": {29, 3601, "29s", "61m", "x", "", true, 60.5, "60.5s", "99999999999999999999", 9000000000000000000},
		"preshared_keys":  {"", "x", 1, 0, "on", []any{true}, vars{}},
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
		{"endpoint", "2001:db8::1", `found "2001:db8::1", wanted an IPv4 address (IPv6 is not carried yet)`},
		{"endpoint", "192.0.2.1:65536", `found "192.0.2.1:65536", wanted an IPv4 address, or a name that has one, alone or with :PORT, PORT in 1..65535`},
		{"endpoint", "[2001:db8::1]:7", `found "[2001:db8::1]:7", wanted an IPv4 address (IPv6 is not carried yet)`},
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
	wantLines(t, got, []string{`alice: endpoint: found "alice", which does not resolve (no such host), wanted …`})
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
