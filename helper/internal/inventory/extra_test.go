package inventory

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"mobula/helper/internal/network"
)

func readExtra(content string) (names []network.Name, clients []network.Client, err error) {
	var problems collection
	f := &strictFile{"f.yml", &problems, map[subject]place{}}
	data, problem := checkText("f.yml", []byte(content))
	if problem != nil {
		return nil, nil, Problems{*problem}
	}
	top := f.top(f.parse(data), "extra_hosts", "extra_wires")
	return f.extraHosts(network.Ranges{}, top), f.extraWires("a single address in 10.30.128.0/17, such as 10.30.128.1/32", top), problems.err()
}

func TestExtraFilesThatAreGood(t *testing.T) {
	const nas = "[{10.31.0.254 [nas.example.com]}]"
	tests := []struct{ name, content, names string }{
		{"empty", "", "[]"},
		{"comments", "# nothing\n\n", "[]"},
		{"marker alone", "---\n...\n", "[]"},
		{"null", "extra_hosts:\nextra_wires: ~\n", "[]"},
		{"empty mapping", "extra_hosts: {}\n", "[]"},
		{"one name", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n", nas},
		{"quoted address", "extra_hosts:\n  '10.31.0.254': nas.example.com\n", nas},
		{"byte order mark", "\xef\xbb\xbfextra_hosts: {10.31.0.254: nas.example.com}", nas},
		{"CRLF", "extra_hosts:\r\n  10.31.0.254: nas.example.com\r\n", nas},
		{"list in its order", "extra_hosts: {10.31.0.254: [b.example.com, a.example.com]}", "[{10.31.0.254 [b.example.com a.example.com]}]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			names, clients, err := readExtra(tt.content)
			if err != nil || fmt.Sprint(names) != tt.names || clients != nil {
				t.Errorf("got %v, %v, %v", names, clients, err)
			}
		})
	}
	_, clients, err := readExtra("extra_wires:\n  10.30.128.1/32: '" + testKey(1).String() + "'\n")
	if err != nil || len(clients) != 1 || clients[0].PublicKey != testKey(1) || clients[0].Address.String() != "10.30.128.1" {
		t.Errorf("got %v, %v", clients, err)
	}
}

func TestExtraFilesThatAreRefused(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"a list", "- a\n", "f.yml:1: found a list, wanted a mapping with the key extra_hosts"},
		{"a string", "\n\nhello\n", `f.yml:3: found "hello", wanted a mapping …`},
		{"unknown key", "names: {}\n", `f.yml:1: found the unknown key "names", wanted extra_hosts, extra_wires`},
		{"misspelled key", "\nextra_host: {}\n", `f.yml:2: found the unknown key "extra_host", wanted "extra_hosts" (did you mean that?)`},
		{"number as key", "1: {}\n", "f.yml:1: found the unknown key 1, wanted extra_hosts, …"},
		{"section twice", "extra_hosts:\nextra_hosts:\n", "f.yml:2: extra_hosts: found it again, first in line 1, wanted each key once"},
		{"address twice", "extra_hosts:\n  10.31.0.1: a.b\n  '10.31.0.1': c.d\n", "f.yml:3: 10.31.0.1: found it again, first in line 2, …"},
		{"list of addresses", "extra_hosts:\n  - 10.31.0.1\n", "f.yml:2: extra_hosts: found a list, wanted a mapping of addresses to names"},
		{"no name", "extra_hosts:\n  10.31.0.1:\n", "f.yml:2: 10.31.0.1: name: found nothing, wanted …"},
		{"no names", "extra_hosts:\n  10.31.0.1: []\n", "f.yml:2: 10.31.0.1: name: found an empty list, wanted …"},
		{"name in a mapping", "extra_hosts:\n  10.31.0.1: {a: b}\n", "f.yml:2: 10.31.0.1: name: found a mapping, wanted …"},
		{"name tagged", "extra_hosts:\n  10.31.0.1: !vault a.b\n", "f.yml:2: 10.31.0.1: name: found a value tagged !vault, wanted …"},
		{"name by alias", "extra_hosts:\n  10.31.0.1: &a a.b\n  10.31.0.2: *a\n", "f.yml:3: 10.31.0.2: name: found an alias (*a), wanted …"},
		{"prefix", "extra_hosts:\n  10.31.0.1/32: a.b\n", `f.yml:2: 10.31.0.1/32: address: found "10.31.0.1/32", wanted an IPv4 address in 10.31.0.0/16`},
		{"leading zero", "extra_hosts:\n  10.31.0.01: a.b\n", "f.yml:2: 10.31.0.01: address: found …"},
		{"key is a number", "extra_wires:\n  10.30.128.1/32: 7\n", "f.yml:2: 10.30.128.1/32: key: found 7, wanted …"},
		{"key too short", "extra_wires:\n  10.30.128.1/32: AAAA\n", `f.yml:2: 10.30.128.1/32: key: found "AAAA", not 32 bytes of base64, wanted …`},
		{"key of zeros", "extra_wires:\n  10.30.128.1/32: " + strings.Repeat("A", 43) + "=\n", `f.yml:2: 10.30.128.1/32: key: found "AAAAAAAAAAAAAAAA…", all zero, wanted …`},
		{"IPv6 client", "extra_wires:\n  fd00::1/128: " + testKey(1).String() + "\n", "f.yml:2: fd00::1/128: address: found …"},
		{"tab", "extra_hosts:\n\t10.31.0.1: a.b\n", "f.yml:2: found a tab in the indentation, wanted spaces"},
		{"two documents", "extra_hosts:\n---\nextra_hosts:\n", "f.yml:2: found a second YAML document, wanted one document a file"},
		{"UTF-16", "\xff\xfea\x00", "f.yml:1: found UTF-16, wanted UTF-8"},
		{"Latin-1", "# a\n# caf\xe9\n", "f.yml:2: found the byte 0xe9, wanted UTF-8"},
		{"control character", "a: 1\nb: \x01\n", `f.yml:2: found "b: \x01" (control characters are not allowed), wanted valid YAML`},
		{"quote not closed", "extra_hosts:\n  10.31.0.1: 'a.b\n  10.31.0.2: c.d\n", `f.yml:2: found "10.31.0.1: 'a.b" (found unexpected end of stream), wanted valid YAML`},
		{"bracket not closed", "extra_hosts:\n  10.31.0.1: [a.b,\n    c.d]\n  10.31.0.2: [c.d\n  10.31.0.3: e.f\n", `f.yml:4: found "10.31.0.2: [c.d" (…`},
		{"unknown alias", "extra_hosts:\n  10.31.0.1: *a\n", `f.yml:2: found "10.31.0.1: *a" (unknown anchor 'a' referenced), wanted valid YAML`},
		{"too large", strings.Repeat("#", maxFileBytes+1), "f.yml: found more than 16 MiB, wanted a smaller file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readExtra(tt.content)
			if err == nil {
				t.Fatal("no error")
			}
			wantLines(t, strings.Split(err.Error(), "\n"), []string{tt.want})
		})
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if data, problem := readFile(dir + "/none"); data != nil || problem != nil {
		t.Errorf("missing file: %v, %v", data, problem)
	}
	if err := os.Mkdir(dir+"/folder", 0o755); err != nil {
		t.Fatal(err)
	}
	_, problem := readFile(dir + "/folder")
	want := &Problem{File: dir + "/folder", Found: "no way to read it (is a directory)", Want: "a readable file"}
	if !reflect.DeepEqual(problem, want) {
		t.Errorf("got %v", problem)
	}
}

func TestSimilarNames(t *testing.T) {
	s := newSuggester(variableNames()...)
	for name, want := range map[string]string{
		"host_ip": "host_id", "hostid": "host_id", "host_ids": "host_id", "Host_ID": "host_id", "hots_id": "host_id",
		"hostnames": "hostname", "host_name": "hostname", "hotsnaem": "hostname", "uplinks": "uplink", "endpiont": "endpoint",
		"wiregaurd_port": "wireguard_port", "upstream_dsn": "upstream_dns", "underlay_mut": "underlay_mtu", "confirm_timeuot": "confirm_timeout",
		"hosts": "", "port": "", "host": "", "link": "", "published": "", "host_os": "", "public": "", "domain": "", "mtu": "",
		"ansible_hostname": "", "mobula_host_id": "", "__mobula_uplink": "", "groups": "", "": "", "x": "", "entrypoint": "",
		"overlay_mtu": "", "dns": "", "username": "", "address": "", "ntp_server": "", strings.Repeat("h", 1<<16): "",
	} {
		t.Run(cut(name, 20), func(t *testing.T) {
			if got := s.suggest(name); got != want {
				t.Errorf("got %q, wanted %q", got, want)
			}
		})
	}
}

func FuzzExtra(f *testing.F) {
	f.Add("extra_hosts:\n  10.31.0.254: 'nas.example.com'\n  10.31.0.1: [a.b, c.d]\nextra_wires:\n  10.30.128.1/32: " + testKey(1).String() + "\n")
	f.Add("extra_hosts: &a {10.31.0.1: *a}\n---\n")
	f.Fuzz(func(t *testing.T, content string) {
		names, clients, err := readExtra(content)
		if err != nil && err.Error() == "" {
			t.Error("an error without a word")
		}
		for _, n := range names {
			if !n.Address.Is4() || len(n.Names) == 0 {
				t.Errorf("%+v", n)
			}
		}
		for _, c := range clients {
			if !c.Address.Is4() || c.PublicKey.IsZero() {
				t.Errorf("%+v", c)
			}
		}
	})
}
