package inventory

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestPlacesInSources(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "inv/hosts.yml", "\xef\xbb\xbf"+strings.ReplaceAll(threeHosts, "\n", "\r\n"))
	write(t, dir, "inv/more/b.yaml", "web:\n  hosts:\n    192.0.2.1:\n      uplink: eth0\n      host_id: 7\n    web[1:3].example.net:\n")
	write(t, dir, "inv/z.json", "{\n\t\"all\": {\n\t\t\"hosts\": {\n\"192.0.2.4\": {}}}}\n")
	write(t, dir, "inv/ini", "[web]\n192.0.2.5 host_id=5\n")
	write(t, dir, "inv/plain", "# a comment\n\nall:\n  hosts:\n    192.0.2.6:\n")
	write(t, dir, "inv/group_vars/all.yml", "a: [\n")
	write(t, dir, "inv/.hidden.yml", "a: [\n")
	write(t, dir, "inv/old.yml~", "a: [\n")
	write(t, dir, "inv/x.ini", "a: [\n")
	script := write(t, dir, "inv/script", "all:\n a: [\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	var problems collection
	s := readSources([]string{dir + "/inv", dir + "/inv"}, &problems)
	if err := problems.err(); err != nil {
		t.Fatal(err)
	}
	short := func(p place) place { return place{strings.TrimPrefix(p.file, dir+"/inv/"), p.line} }
	for host, want := range map[string]place{
		"192.0.2.1": {"hosts.yml", 3}, "192.0.2.2": {"hosts.yml", 6}, "192.0.2.3": {"hosts.yml", 7},
		"192.0.2.4": {"z.json", 4}, "192.0.2.5": {}, "192.0.2.6": {"plain", 5},
	} {
		if got := short(s.host(host)); got != want {
			t.Errorf("host %s at %v, wanted %v", host, got, want)
		}
	}
	for _, tt := range []struct {
		host, field string
		want        place
	}{
		{"192.0.2.1", "host_id", place{"more/b.yaml", 5}},
		{"192.0.2.1", "hostname", place{"hosts.yml", 5}},
		{"192.0.2.1", "uplink", place{"more/b.yaml", 4}},
		{"192.0.2.2", "host_id", place{"hosts.yml", 6}},
		{"192.0.2.3", "host_id", place{}},
		{"192.0.2.9", "host_id", place{}},
	} {
		if got, _ := s.ownVariable(tt.host, tt.field); short(got) != tt.want {
			t.Errorf("%s of %s at %v, wanted %v", tt.field, tt.host, got, tt.want)
		}
	}
}

func TestSourcesThatAreRefused(t *testing.T) {
	tests := []struct {
		name, file, content string
		want                []string
	}{
		{"host twice", "h.yml", "all:\n  hosts:\n    192.0.2.1: {a: 1}\n    192.0.2.1:\n      host_id: 1\n      host_id: 2\n",
			[]string{"h.yml:4: 192.0.2.1: found it again, first in line 3, wanted each key once",
				"h.yml:6: 192.0.2.1: host_id: found it again, first in line 5, wanted each key once"}},
		{"group twice", "h.yml", "a:\n  vars: {}\na:\n", []string{"h.yml:3: a: found it again, first in line 1, wanted each key once"}},
		{"host in two groups", "h.yml", "a: {hosts: {x: }}\nb: {hosts: {x: }}\n", nil},
		{"tags", "h.yml", "all:\n  vars:\n    a: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      3132\n    b: !unsafe '{{ x }}'\n    c: !own [1]\n", nil},
		{"merge keys", "h.yml", "all:\n  vars: &v {a: 1}\n  hosts:\n    x:\n      <<: *v\n      <<: *v\n      a: 2\n", nil},
		{"alias to itself", "h.yml", "all: &a\n  children:\n    b: *a\n    c:\n      children: *a\n", nil},
		{"aliases of aliases", "h.yml", bomb(), nil},
		{"whole file in a vault", "h.yml", "$ANSIBLE_VAULT;1.1;AES256\n3132\n", nil},
		{"script with an ending", "h.yml", "#!/bin/sh\necho [\n", nil},
		{"INI", "hosts", "web ansible_host=[\n", nil},
		{"INI group", "hosts", "[web]\na b: [\n", nil},
		{"neither", "hosts.inv", "all:\n  [\n", nil},
		{"YAML without an ending", "hosts", "---\nall:\n  a: [\n", []string{"hosts:3: found …"}},
		{"two documents", "h.yml", "a: 1\n---\nb: 2\n", []string{"h.yml:2: found a second YAML document, wanted one document a file"}},
		{"tab", "h.yml", "all:\n  hosts:\n\t  x:\n", []string{"h.yml:3: found a tab in the indentation, wanted spaces"}},
		{"empty", "h.yml", "", nil},
		{"a string", "h.yml", "hello", nil},
		{"a list", "h.yml", "- a\n- {b: 1, b: 2}\n", []string{"h.yml:2: b: found it again, first in line 2, wanted each key once"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			var problems collection
			readSources([]string{write(t, dir, tt.file, tt.content)}, &problems)
			var got []string
			for _, p := range problems.list {
				got = append(got, strings.TrimPrefix(p.Error(), dir+"/"))
			}
			wantLines(t, got, tt.want)
		})
	}
}

// bomb returns YAML that is small until its aliases are followed.
func bomb() string {
	var b strings.Builder
	b.WriteString("g0: &g0 {hosts: {x: }}\n")
	for i := 1; i < 60; i++ {
		last := string(rune('0'+(i-1)/10)) + string(rune('0'+(i-1)%10))
		if i == 1 {
			last = "0"
		}
		this := string(rune('0'+i/10)) + string(rune('0'+i%10))
		b.WriteString("g" + this + ": &g" + this + " {children: {a: *g" + last + ", b: *g" + last + "}}\n")
	}
	return b.String()
}

// TestBrokenFilesAreJudged feeds what takes the YAML parser long: without a bound
// on the search for the line it would take hours.
func TestBrokenFilesAreJudged(t *testing.T) {
	for name, content := range map[string]string{
		"braces":   strings.Repeat("{\n", 9000),
		"brackets": strings.Repeat("[", 100000),
		"keys":     strings.Repeat("a: [x,\n", 9000),
		"sound":    strings.Repeat("- {a: b}\n", 50000) + "- [\n",
		"quotes":   strings.Repeat("- 'a\n", 50001),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, problem := parseYAML("h.yml", []byte(content))
			if problem == nil {
				t.Error("found no problem")
			}
			t.Logf("%v after %v", problem, time.Since(start))
		})
	}
}

func FuzzSources(f *testing.F) {
	f.Add([]byte(threeHosts))
	f.Add([]byte(bomb()))
	f.Add([]byte("all: &a\n  vars: {x: !vault y}\n  children: {b: *a}\n"))
	f.Add([]byte("[web]\nx y=1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var problems collection
		s := readSources(nil, &problems)
		looksLikeYAML(data)
		s.decode("h.yml", data)
		s.literals()
		s.iniLiterals("h.yml", data)
		s.ownVariable("x", "host_id")
		s.groupVariable("host_id")
		lines := 1 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r") +
			strings.Count(string(data), "\u0085") + strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029")
		for _, p := range problems.list {
			if p.Line < 0 || p.Line > lines || p.Found == "" || p.Want == "" {
				t.Errorf("%+v of %d lines", p, lines)
			}
		}
	})
}
