package inventory

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"mobula/helper/internal/network"
)

const threeHosts = `all:
  hosts:
    192.0.2.1:
      host_id: 1
      hostname: h1.example.com
    192.0.2.2: {host_id: 2, hostname: h2.example.com}
    192.0.2.3:
      hostname: h3.example.com
`

func TestEverythingAtOnceWithItsPlace(t *testing.T) {
	dir := t.TempDir()
	first := write(t, dir, "hosts.yml", `all:
  vars:
    host_ip: 192.0.2.77
  hosts:
    192.0.2.1:
      host_id: one
      hostname: alice
      hostnam: x
    192.0.2.2:
      host_id: 3
      hostname: NAS.example.com
      uplinks: [a]
  children:
    more:
      hosts:
        192.0.2.3:
`)
	h := func(name string, id, hostname any, other ...string) vars {
		return vars{"name": name, "vars": vars{"host_id": id, "hostname": hostname}, "other_vars": append(other, "host_ip", "groups", "ansible_host")}
	}
	got := mustFail(t, dir, Input{
		Resolved: resolvedHosts(h("192.0.2.1", "one", "alice", "hostnam"), h("192.0.2.2", 3, "NAS.example.com", "uplinks"), h("192.0.2.3", 3, "NAS.example.com")),
		Sources:  []string{first, dir + "/none.yml", "192.0.2.9,"},
		ExtraHostsFile: write(t, dir, "extra_hosts.yml", `extra_hosts:
  10.31.0.254:
    - nas.example.com
    - nas2.example.com
  10.32.0.1: x.example.com
  fe80::1: y.example.com
  10.31.0.9: [bad, 7, z.example.com]
`),
		ExtraWiresFile: write(t, dir, "extra_wires.yml", `extra_wires:
  10.30.128.1/32: `+testKey(1).String()+`
  10.30.128.2/32: `+testKey(2).String()+`
  10.30.128.3/32: `+testKey(1).String()+`
  10.30.128.0/24: `+testKey(3).String()+`
  10.30.128.5: `+testKey(4).String()+`
  10.30.1.1/32: '<WireGuard public key>'
  10.30.1.2/32: `+testKey(5).String()+`
extra_wire: {}
`),
		KeyFiles: KeyFiles{Keys: write(t, dir, "keys.yml", `wireguard_pubkeys:
  192.0.2.1: {public_key: `+testKey(2).String()+`}
  192.0.2.2: {public_key: `+testKey(2).String()+`, underlay_mtu: 1300}
`)},
	})
	const fqdn, key, wire = "a fully qualified name such as ", "a WireGuard public key (32 bytes of base64)", "a single address in 10.30.128.0/17, such as 10.30.128.1/32"
	wantLines(t, got, []string{
		`extra_hosts.yml:3: 10.31.0.254: name: found "nas.example.com", which 192.0.2.2 has, wanted a name of its own`,
		`extra_hosts.yml:5: 10.32.0.1: address: found 10.32.0.1, wanted a host address in 10.31.0.0/16`,
		`extra_hosts.yml:6: fe80::1: address: found "fe80::1", wanted an IPv4 address in 10.31.0.0/16`,
		`extra_hosts.yml:7: 10.31.0.9: name: found "bad", wanted ` + fqdn + `nas.example.com, or a list of them`,
		`extra_hosts.yml:7: 10.31.0.9: name: found 7, wanted ` + fqdn + `nas.example.com, or a list of them`,
		`extra_wires.yml:3: 10.30.128.2/32: key: found ` + testKey(2).String() + `, which 192.0.2.1 has, wanted a key of its own`,
		`extra_wires.yml:4: 10.30.128.3/32: key: found ` + testKey(1).String() + `, which 10.30.128.1/32 has, wanted a key of its own`,
		`extra_wires.yml:5: 10.30.128.0/24: address: found "10.30.128.0/24", wanted ` + wire,
		`extra_wires.yml:6: 10.30.128.5: address: found "10.30.128.5", wanted ` + wire,
		`extra_wires.yml:7: 10.30.1.1/32: key: found "<WireGuard publi…", not 32 bytes of base64, wanted ` + key,
		`extra_wires.yml:8: 10.30.1.2/32: address: found 10.30.1.2/32, wanted an address in 10.30.128.0/17`,
		`extra_wires.yml:9: found the unknown key "extra_wire", wanted "extra_wires" (did you mean that?)`,
		`hosts.yml:3: 192.0.2.1: host_ip: found a variable that Mobula does not know (on 2 other hosts too), wanted "host_id" …`,
		`hosts.yml:6: 192.0.2.1: host_id: found "one", wanted an integer in 1..32767`,
		`hosts.yml:7: 192.0.2.1: hostname: found "alice", wanted ` + fqdn + `alice.example.com`,
		`hosts.yml:8: 192.0.2.1: hostnam: found a variable that Mobula does not know, wanted "hostname" …`,
		`hosts.yml:12: 192.0.2.2: uplinks: found a variable that Mobula does not know, wanted "uplink" …`,
		`hosts.yml:16: 192.0.2.3: host_id: found 3, which 192.0.2.2 has, wanted an ID of its own`,
		`hosts.yml:16: 192.0.2.3: hostname: found "NAS.example.com", which 192.0.2.2 has, wanted a name of its own`,
		`keys.yml:3: 192.0.2.2: underlay_mtu: found 1300, which the host reported, wanted an integer in 1394..9216 bytes`,
		`keys.yml:3: 192.0.2.2: key: found ` + testKey(2).String() + `, which 192.0.2.1 has, wanted a key of its own`,
	})
}

func TestResolvedInventoryThatCannotBeUsed(t *testing.T) {
	tests := map[string]struct{ json, want string }{
		"empty":         {"", "resolved inventory: found what cannot be read (EOF), wanted …"},
		"no hosts":      {`{"hosts":[]}`, "inventory: found no hosts, wanted at least one"},
		"null":          {`null`, "inventory: found no hosts, wanted at least one"},
		"unknown field": {`{"host":[]}`, "resolved inventory: found …"},
		"two objects":   {`{"hosts":[]} {}`, "resolved inventory: found what cannot be read (more after the end of the JSON object), wanted …"},
		"no name":       {`{"hosts":[{"vars":{}}]}`, `inventory name: found "", wanted 1..255 bytes that can be printed`},
		"host twice": {string(resolvedHosts(member(1), member(1))),
			`192.0.2.1: inventory name: found "192.0.2.1" twice, wanted each host once`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			wantLines(t, mustFail(t, "", Input{Resolved: []byte(tt.json)}), []string{tt.want})
		})
	}
}

func TestBrokenSourceExplainsTheEmptyInventory(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "hosts.yml", "all:\n  hosts:\n    192.0.2.1:\n      host_id: 1\n      hostname 'x'\n      uplink: y\n")
	got := mustFail(t, dir, Input{Resolved: []byte(`{"hosts":[]}`), Sources: []string{path}})
	wantLines(t, got, []string{`hosts.yml:5: found "hostname 'x'" (could not find expected ':'), wanted valid YAML`})
}

func TestUnreadableNetworkIsNotBlamedTwice(t *testing.T) {
	a, b := member(1), member(2)
	a["vars"].(vars)["wireguard_port"] = "x"
	b["vars"].(vars)["endpoint"] = "192.0.2.1"
	got := mustFail(t, "", Input{Resolved: resolvedHosts(a, b)})
	wantLines(t, got, []string{`192.0.2.1: wireguard_port: found "x", wanted a UDP port in 1..65535`})
}

// TestOneEndpointForTwo: hosts behind one address need ports of their own, whether by
// address or by name.
func TestOneEndpointForTwo(t *testing.T) {
	resolver := fakeResolver{"home.example.net": {"203.0.113.7"}}
	for _, c := range []struct {
		one, two string
		want     []string
	}{
		{"203.0.113.7:51821", "203.0.113.7:51822", nil},
		{"203.0.113.7", "203.0.113.7:51821", nil},
		{"home.example.net:51821", "home.example.net", nil},
		{"203.0.113.7:51821", "203.0.113.7:51821", []string{"192.0.2.2: endpoint: found 203.0.113.7:51821, which 192.0.2.1 has, wanted an endpoint of its own"}},
		{"203.0.113.7:51820", "home.example.net", []string{"192.0.2.2: endpoint: found 203.0.113.7:51820, which 192.0.2.1 has, wanted an endpoint of its own"}},
	} {
		a, b := member(1), member(2)
		a["vars"].(vars)["endpoint"], b["vars"].(vars)["endpoint"] = c.one, c.two
		in := Input{Resolved: resolvedHosts(a, b), Resolver: resolver}
		if c.want == nil {
			mustCompile(t, in)
		} else {
			wantLines(t, mustFail(t, "", in), c.want)
		}
	}
}

func TestUnderlayMTUIsTheSmallest(t *testing.T) {
	mtu := func(n, bytes int) vars {
		h := member(n)
		h["vars"].(vars)["underlay_mtu"] = bytes
		return h
	}
	reported := func(bytes int) map[string]Reported {
		return map[string]Reported{"192.0.2.1": {PublicKey: testKey(1), UnderlayMTU: bytes}}
	}
	tests := []struct {
		name      string
		hosts     []vars
		collected map[string]Reported
		want      int
	}{
		{"default", []vars{member(1)}, nil, 1500},
		{"reported", []vars{member(1)}, reported(9000), 9000},
		{"reported beyond the bounds", []vars{member(1)}, reported(65536), 9216},
		{"one host not known yet", []vars{member(1), member(2)}, reported(9000), 1500},
		{"said, not reported", []vars{mtu(1, 1400)}, reported(9000), 1400},
		{"smallest", []vars{mtu(1, 1500), mtu(2, 1420)}, nil, 1420},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := mustCompile(t, Input{Resolved: resolvedHosts(tt.hosts...), Collected: tt.collected})
			if out.Document.UnderlayMTU != tt.want {
				t.Errorf("got %d, wanted %d", out.Document.UnderlayMTU, tt.want)
			}
		})
	}
	got := mustFail(t, "", Input{Resolved: resolvedHosts(member(1)), Collected: reported(1280)})
	wantLines(t, got, []string{"192.0.2.1: underlay_mtu: found 1280, which the host reported, wanted …"})
	// The header of IPv6 is longer, for whichever host.
	both := func(host vars) vars {
		host["vars"].(vars)["endpoints"] = []any{"192.0.2.9", "2001:db8::9"}
		return host
	}
	const want = ", wanted an integer in 1414..9216 bytes, as there are endpoints of IPv6"
	got = mustFail(t, "", Input{Resolved: resolvedHosts(member(1), both(mtu(2, 1413))), Collected: reported(1413)})
	wantLines(t, got, []string{"192.0.2.1: underlay_mtu: found 1413, which the host reported" + want, "192.0.2.2: underlay_mtu: found 1413" + want})
	mustCompile(t, Input{Resolved: resolvedHosts(member(1), both(mtu(2, 1414))), Collected: reported(1414)})
}

// TestLifeOfANetwork goes through deploys as they follow each other.
func TestLifeOfANetwork(t *testing.T) {
	dir := t.TempDir()
	in := Input{Resolved: resolvedHosts(member(1), member(2)), KeyFiles: KeyFiles{dir + "/keys.yml", dir + "/state.yml"}, Now: testTime}
	out := mustCompile(t, in)
	if len(out.Warnings) != 2 || out.Warnings[0].String() != "192.0.2.1: has no key yet; it joins at its first deploy" {
		t.Errorf("warnings %v", out.Warnings)
	}
	if _, err := os.Stat(in.KeyFiles.Keys); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Compile wrote the keys: %v", err)
	}

	step := func(name string, in Input, wantSerial int64, wantChanged bool, wantKeys ...int) {
		t.Helper()
		out := mustCompile(t, in)
		changed, err := out.PublicKeys.Write(in.KeyFiles)
		if err != nil || changed != wantChanged || out.Document.Serial != wantSerial {
			t.Errorf("%s: changed %v, serial %d, %v", name, changed, out.Document.Serial, err)
		}
		if _, err := network.Parse(out.Document.Encode()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, n := range wantKeys {
			want := network.Key{}
			if n != 0 {
				want = testKey(n)
			}
			if out.Document.Hosts[i].PublicKey != want {
				t.Errorf("%s: key of host %d is %v", name, i, out.Document.Hosts[i].PublicKey)
			}
		}
	}
	start := testTime.Unix()
	in.Collected = map[string]Reported{"192.0.2.1": {PublicKey: testKey(1)}, "192.0.2.2": {PublicKey: testKey(2)}}
	step("first deploy", in, start, true, 1, 2)
	in.Now = testTime.Add(time.Hour)
	step("unchanged", in, start, false, 1, 2)
	in.Collected = map[string]Reported{"192.0.2.2": {PublicKey: testKey(22)}}
	step("--limit with a new key", in, start+3600, true, 1, 22)
	in.Now = testTime
	in.Collected = map[string]Reported{"192.0.2.3": {PublicKey: testKey(3)}, "192.0.2.7": {PublicKey: testKey(7)}}
	in.Resolved = resolvedHosts(member(2), member(3))
	step("one goes, one comes, the clock was set back", in, start+3601, true, 22, 3)
	in.Collected = nil
	step("nobody contacted", in, start+3601, false, 22, 3)
	other := func(want ...int) {
		t.Helper()
		for i, h := range mustCompile(t, in).Document.Hosts {
			if wanted := (network.Key{}); want[i] != 0 && h.AlsoKey != testKey(want[i]) || want[i] == 0 && h.AlsoKey != wanted {
				t.Errorf("other key of host %d is %v, wanted that of %d", i, h.AlsoKey, want[i])
			}
		}
	}
	in.Collected = map[string]Reported{"192.0.2.2": {PublicKey: testKey(22), MadeKey: testKey(222)}, "192.0.2.3": {PublicKey: testKey(3), MadeKey: testKey(33)}}
	in.Phase = Announce
	step("keys rotate: announced", in, start+3602, true, 22, 3)
	other(222, 33)
	in.Phase = NoRotation
	in.Collected = map[string]Reported{"192.0.2.2": {PublicKey: testKey(222)}}
	step("then a deploy that reaches one of them", in, start+3603, true, 222, 3)
	other(0, 33)
	in.Collected = map[string]Reported{"192.0.2.2": {PublicKey: testKey(22)}, "192.0.2.3": {PublicKey: testKey(3)}}
	step("then both", in, start+3604, true, 22, 3)
	other(0, 0)
	in.Collected = nil
	moved := member(2)
	moved["vars"].(vars)["host_id"] = 9
	in.Resolved = resolvedHosts(moved)
	step("another ID", in, start+3605, true, 22)
}

func TestCompileStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Compile(ctx, Input{Resolved: one(vars{"endpoint": "slow.example.net"}), Resolver: waitingResolver{}})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Field != "endpoint" {
		t.Errorf("got %v", err)
	}
}
