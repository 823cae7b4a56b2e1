package inventory

import (
	"fmt"
	"strings"
	"testing"
)

// network of two hosts, with these variables of each.
func twoHosts(first, second vars) []byte {
	hosts := make([]vars, 2)
	for i, more := range []vars{first, second} {
		hosts[i] = member(i + 1)
		for name, value := range more {
			hosts[i]["vars"].(vars)[name] = value
		}
	}
	return resolvedHosts(hosts...)
}

func both(all vars) []byte { return twoHosts(all, all) }

const sharedVars = "all:\n  vars:\n    wire_network: x\n    access_network: x\n  hosts:\n    192.0.2.1:\n    192.0.2.2:\n"

func TestRangesOfAllHosts(t *testing.T) {
	dir := t.TempDir()
	out := mustCompile(t, Input{
		Resolved:       both(vars{"wire_network": "10.98.0.0/16", "access_network": "172.20.0.0/16"}),
		ExtraHostsFile: write(t, dir, "extra_hosts.yml", "extra_hosts:\n  172.20.0.254: nas.example.com\n"),
		ExtraWiresFile: write(t, dir, "extra_wires.yml", "extra_wires:\n  10.98.128.1/32: "+testKey(1).String()+"\n"),
	})
	if got := out.Document.Ranges.String(); got != "10.98.0.0/16 and 172.20.0.0/16" || out.PublicKeys.Ranges != out.Document.Ranges {
		t.Errorf("found %s, noted %s", got, out.PublicKeys.Ranges)
	}
	named := mustCompile(t, Input{Resolved: both(vars{"wire_network": "10.30.0.0/16", "access_network": "10.31.0.0/16"})})
	if plain := mustCompile(t, Input{Resolved: both(nil)}); string(named.Document.Encode()) != string(plain.Document.Encode()) {
		t.Errorf("the default that is written out: found\n%swanted\n%s", named.Document.Encode(), plain.Document.Encode())
	}
	if state := string(named.PublicKeys.EncodeState()); strings.Contains(state, "_network") {
		t.Errorf("the default is noted:\n%s", state)
	}
}

func TestRangesThatAreRefused(t *testing.T) {
	const want, same = "an IPv4 network of 16 bits such as 10.98.0.0/16", "the same for all hosts, under all: vars"
	for name, c := range map[string]struct {
		resolved []byte
		want     []string
	}{
		"not a /16":    {both(vars{"wire_network": "10.98.0.0/20"}), []string{`hosts.yml:3: wire_network: found "10.98.0.0/20", wanted ` + want}},
		"a number":     {both(vars{"access_network": 7}), []string{`hosts.yml:4: access_network: found 7, wanted ` + want}},
		"a list":       {both(vars{"access_network": []any{"10.98.0.0/16"}}), []string{`hosts.yml:4: access_network: found ["10.98.0.0/16"], wanted ` + want}},
		"both wrong":   {both(vars{"wire_network": "x", "access_network": ""}), []string{`hosts.yml:3: wire_network: found "x", wanted ` + want, `hosts.yml:4: access_network: found "", wanted ` + want}},
		"one for both": {both(vars{"wire_network": "10.98.0.0/16", "access_network": "10.98.0.0/16"}), []string{`hosts.yml:4: access_network: found 10.98.0.0/16, which is wire_network, wanted another network`}},
		"public":       {both(vars{"wire_network": "8.8.0.0/16"}), []string{`hosts.yml:3: wire_network: found 8.8.0.0/16, wanted …`}},
		"two that differ": {twoHosts(vars{"wire_network": "10.98.0.0/16"}, vars{"wire_network": "10.99.0.0/16"}),
			[]string{`hosts.yml:7: 192.0.2.2: wire_network: found "10.99.0.0/16", and "10.98.0.0/16" of 192.0.2.1, wanted ` + same}},
		"one that says nothing": {twoHosts(vars{"access_network": "10.98.0.0/16"}, nil),
			[]string{`hosts.yml:7: 192.0.2.2: access_network: found nothing, and "10.98.0.0/16" of 192.0.2.1, wanted ` + same}},
		"misspelt": {resolvedHosts(vars{"name": "192.0.2.1", "vars": vars{"host_id": 1, "hostname": "h1.example.com"}, "other_vars": []string{"acces_network"}}),
			[]string{`hosts.yml:6: 192.0.2.1: acces_network: found a variable that Mobula does not know, wanted "access_network" …`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			// Addresses of a network that nobody knows are not called wrong.
			wantLines(t, mustFail(t, dir, Input{Resolved: c.resolved, Sources: []string{write(t, dir, "hosts.yml", sharedVars)},
				ExtraHostsFile: write(t, dir, "extra_hosts.yml", map[bool]string{false: "extra_hosts:\n  10.77.0.254: nas.example.com\n"}[name == "misspelt"])}), c.want)
		})
	}
}

// TestRangesAreKept: a network that is deployed keeps its ranges, and who does not know
// which those are is told by the hosts.
func TestRangesAreKept(t *testing.T) {
	const keys = "192.0.2.1: '%s'\n"
	const change = ", with which these hosts are deployed: addresses in use do not change. To have others, uninstall all hosts first (playbooks/uninstall.yml), and remove wireguard_pubkeys.yml and mobula_state.yml"
	custom := vars{"wire_network": "10.98.0.0/16", "access_network": "172.20.0.0/16"}
	const noted = "wire_network: 10.98.0.0/16\naccess_network: 172.20.0.0/16\n"
	for name, c := range map[string]struct {
		vars        vars
		keys, state string
		want        []string
	}{
		"as it was":           {custom, keys, "serial: 7\ngeneration: x\n" + noted, nil},
		"the default, stays":  {nil, keys, "serial: 7\ngeneration: x\n", nil},
		"new":                 {custom, "", "", nil},
		"its hosts are gone":  {custom, "192.0.2.77: '%s'\n", "serial: 7\ngeneration: x\n", nil},
		"its state is lost":   {custom, keys, "", nil},
		"away from default":   {custom, keys, "serial: 7\ngeneration: x\n", []string{"hosts.yml:3: wire_network: found 10.98.0.0/16, wanted 10.30.0.0/16" + change, "hosts.yml:4: access_network: found 172.20.0.0/16, wanted 10.31.0.0/16" + change}},
		"back to the default": {vars{"wire_network": "10.98.0.0/16"}, keys, "serial: 7\ngeneration: x\n" + noted, []string{"hosts.yml:4: access_network: found 10.31.0.0/16, wanted 172.20.0.0/16" + change}},
		"noted badly":         {custom, keys, "serial: 7\ngeneration: x\nwire_network: 7\naccess_network: 172.20.0.0/16\n", []string{"hosts.yml:3: …", `state.yml:3: wire_network: found 7, wanted an IPv4 network of 16 bits such as 10.98.0.0/16 (if …`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := Input{Resolved: both(c.vars), Sources: []string{write(t, dir, "hosts.yml", sharedVars)}, KeyFiles: KeyFiles{State: write(t, dir, "state.yml", c.state)}}
			if c.keys != "" {
				in.KeyFiles.Keys = write(t, dir, "keys.yml", fmt.Sprintf(c.keys, testKey(1)))
			}
			if c.want != nil {
				wantLines(t, mustFail(t, dir, in), c.want)
				return
			}
			out := mustCompile(t, in)
			again := in
			again.KeyFiles.State = write(t, dir, "state.yml", string(out.PublicKeys.EncodeState()))
			if got := mustCompile(t, again).Document; got.Ranges != out.Document.Ranges || got.Serial != out.Document.Serial {
				t.Errorf("found %s and then %s", out.Document.Ranges, got.Ranges)
			}
		})
	}
}
