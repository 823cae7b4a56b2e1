package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"mobula/helper/internal/network"
)

func TestPublicKeysFile(t *testing.T) {
	keys := &PublicKeys{Serial: 1700000000, Generation: "1234567890123456", Hosts: map[string]HostKey{
		"192.0.2.10": {HostID: 10, PublicKey: testKey(10), UnderlayMTU: 1500},
		"192.0.2.9":  {PublicKey: testKey(9), AlsoKey: testKey(99)},
		`a "b\ <é`:   {HostID: 3, PublicKey: testKey(3)},
		"yes":        {HostID: 1, PublicKey: testKey(1)},
		"1e3":        {HostID: 2, PublicKey: testKey(2)},
	}}
	wantKeys := keysHeader + `192.0.2.9: 'CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='
192.0.2.10: 'CgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='
"1e3": 'AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='
"a \"b\\ <é": 'AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='
"yes": 'AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='
`
	wantState := stateHeader + `serial: 1700000000
generation: "1234567890123456"
hosts:
  192.0.2.9: {also_key: 'YwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='}
  192.0.2.10: {host_id: 10, underlay_mtu: 1500}
  "1e3": {host_id: 2}
  "a \"b\\ <é": {host_id: 3}
  "yes": {host_id: 1}
`
	if got := string(keys.EncodeKeys()); got != wantKeys {
		t.Errorf("got:\n%s\nwanted:\n%s", got, wantKeys)
	}
	if got := string(keys.EncodeState()); got != wantState {
		t.Errorf("got:\n%s\nwanted:\n%s", got, wantState)
	}
	dir := t.TempDir()
	files := KeyFiles{dir + "/keys.yml", dir + "/state.yml"}
	for i, wantChanged := range []bool{true, false} {
		if changed, err := keys.Write(files); err != nil || changed != wantChanged {
			t.Errorf("write %d: %v, %v", i, changed, err)
		}
	}
	if read, err := ReadPublicKeys(files); err != nil || !reflect.DeepEqual(read, keys) {
		t.Errorf("read %+v, %v", read, err)
	}
	// Whoever needs the keys reads them as a plain mapping.
	var plain map[string]string
	if err := yaml.Unmarshal(keys.EncodeKeys(), &plain); err != nil || plain["192.0.2.10"] != testKey(10).String() || len(plain) != 5 {
		t.Errorf("read %v, %v", plain, err)
	}
}

// oneFile is wireguard_pubkeys.yml as it was when it held the state, too.
const oneFile = `# Written by Mobula at every deploy: what the hosts reported.
serial: 1700000000
generation: "1234567890123456"
wireguard_pubkeys:
  192.0.2.9: {public_key: 'CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=', also_key: 'YwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='}
  192.0.2.10: {host_id: 10, public_key: 'CgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=', underlay_mtu: 1500}
`

// TestOneFileBecomesTwo: nothing of the old form is lost, also where a write was
// interrupted between the two files, and where a run contacts no host at all.
func TestOneFileBecomesTwo(t *testing.T) {
	dir := t.TempDir()
	files := KeyFiles{write(t, dir, "keys.yml", oneFile), dir + "/state.yml"}
	keys, err := ReadPublicKeys(files)
	want := &PublicKeys{Serial: 1700000000, Generation: "1234567890123456", Hosts: map[string]HostKey{
		"192.0.2.9": {PublicKey: testKey(9), AlsoKey: testKey(99)}, "192.0.2.10": {HostID: 10, PublicKey: testKey(10), UnderlayMTU: 1500},
	}}
	if err != nil || !reflect.DeepEqual(keys, want) {
		t.Fatalf("read %+v, %v", keys, err)
	}
	write(t, dir, "state.yml", string(keys.EncodeState()))
	if keys, err = ReadPublicKeys(files); err != nil || !reflect.DeepEqual(keys, want) {
		t.Fatalf("read %+v, %v", keys, err)
	}
	if changed, err := keys.Write(files); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if keys, err = ReadPublicKeys(files); err != nil || !reflect.DeepEqual(keys, want) {
		t.Errorf("read %+v, %v", keys, err)
	}
	if got, _ := os.ReadFile(files.Keys); strings.Contains(string(got), "wireguard_pubkeys:") {
		t.Errorf("still of the old form:\n%s", got)
	}
	if empty, err := ReadPublicKeys(KeyFiles{Keys: write(t, dir, "empty.yml", "wireguard_pubkeys: {}\n")}); err != nil || len(empty.Hosts) != 0 {
		t.Errorf("read %+v, %v", empty, err)
	}
}

func TestPublicKeysFileIsReplacedAtOnce(t *testing.T) {
	dir := t.TempDir()
	real := write(t, dir, "elsewhere/real.yml", "wireguard_pubkeys: {}\n")
	link := filepath.Join(dir, "keys.yml")
	if err := errors.Join(os.Symlink(real, link), os.Chmod(real, 0o600)); err != nil {
		t.Fatal(err)
	}
	keys := &PublicKeys{Hosts: map[string]HostKey{}}
	if changed, err := keys.Write(KeyFiles{link, dir + "/state.yml"}); !changed || err != nil {
		t.Fatal(changed, err)
	}
	info, err := os.Lstat(real)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err = os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir + "/elsewhere"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := keys.Write(KeyFiles{dir + "/none/keys.yml", dir + "/none/state.yml"}); err == nil {
		t.Error("no error without the folder")
	}
}

func TestPublicKeysFileThatIsCorrupt(t *testing.T) {
	good := testKey(1).String()
	tests := []struct{ name, content, want string }{
		{"cut short", "wireguard_pubkeys:\n  192.0.2.1: {host_id: 1, pub\n", "keys.yml:2: found …"},
		{"not a key", "pubkeys: {}\n", "keys.yml:1: pubkeys: key: found a mapping, …"},
		{"not a mapping", "- a\n", "keys.yml:1: found a list, …"},
		{"a host twice", "a.b: " + good + "\na.b: " + good + "\n", "keys.yml:2: a.b: found it again, …"},
		{"no key", "wireguard_pubkeys:\n  192.0.2.1: {host_id: 1}\n", "keys.yml:2: 192.0.2.1: public_key: found nothing, …"},
		{"bad key", "wireguard_pubkeys:\n  192.0.2.1: {public_key: x}\n", `keys.yml:2: 192.0.2.1: public_key: found "x", …`},
		{"bad other key", "wireguard_pubkeys:\n  192.0.2.1: {public_key: " + good + ", also_key: x}\n", `keys.yml:2: 192.0.2.1: also_key: found "x", …`},
		{"bad ID", "wireguard_pubkeys:\n  192.0.2.1: {host_id: 32768, public_key: " + good + "}\n", "keys.yml:2: 192.0.2.1: host_id: found 32768, wanted an integer in 1..32767 …"},
		{"bad MTU", "wireguard_pubkeys:\n  192.0.2.1: {underlay_mtu: big, public_key: " + good + "}\n", `keys.yml:2: 192.0.2.1: underlay_mtu: found "big", …`},
		{"key alone", "wireguard_pubkeys:\n  192.0.2.1: " + good + "\n", "keys.yml:2: wireguard_pubkeys: found …"},
		{"misspelled", "wireguard_pubkeys:\n  192.0.2.1: {public_kei: x, public_key: " + good + "}\n", `keys.yml:2: 192.0.2.1: found the unknown key "public_kei", wanted "public_key" …`},
		{"serial", "wireguard_pubkeys: {}\nserial: now\n", `keys.yml:2: serial: found "now", wanted seconds since 1970 …`},
		{"host twice", "wireguard_pubkeys:\n  a.b: {public_key: " + good + "}\n  a.b: {public_key: " + good + "}\n", "keys.yml:3: a.b: found it again, …"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := ReadPublicKeys(KeyFiles{Keys: write(t, dir, "keys.yml", tt.content)})
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			got := strings.ReplaceAll(problems.Error(), dir+"/", "")
			wantLines(t, strings.Split(got, "\n"), []string{tt.want})
			if !strings.HasSuffix(got, "remove it and deploy all hosts: they still have their keys)") {
				t.Errorf("no way out in %s", got)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	keys := &PublicKeys{Hosts: map[string]HostKey{
		"stays": {PublicKey: testKey(1)}, "changes": {HostID: 2, PublicKey: testKey(2), AlsoKey: testKey(12)}, "goes": {PublicKey: testKey(3)}, "silent": {PublicKey: testKey(4), AlsoKey: testKey(14)},
	}}
	replaced := keys.Merge(NoRotation, map[string]Reported{
		"changes": {PublicKey: testKey(22), UnderlayMTU: 1400}, "comes": {PublicKey: testKey(5)}, "stranger": {PublicKey: testKey(6)}, "silent": {},
	}, []string{"stays", "changes", "comes", "silent", "new"})
	want := map[string]HostKey{
		"stays": {PublicKey: testKey(1)}, "changes": {PublicKey: testKey(22), UnderlayMTU: 1400}, "comes": {PublicKey: testKey(5)}, "silent": {PublicKey: testKey(4), AlsoKey: testKey(14)},
	}
	if !reflect.DeepEqual(keys.Hosts, want) || !reflect.DeepEqual(replaced, map[string]bool{"changes": true, "comes": true}) {
		t.Errorf("got %v, replaced %v", keys.Hosts, replaced)
	}
}

func TestStateFileThatIsCorrupt(t *testing.T) {
	for content, want := range map[string]string{
		"serial: [\n": "state.yml:1: found …", "hosts: {a.b: x}\n": "state.yml:1: hosts: found …", "hosts: {a.b: {also_key: x}}\n": `state.yml:1: a.b: also_key: found "x", …`,
		"hosts: {a.b: {public_key: x}}\n": `state.yml:1: a.b: found the unknown key "public_key", …`,
	} {
		dir := t.TempDir()
		_, err := ReadPublicKeys(KeyFiles{Keys: write(t, dir, "keys.yml", "a.b: "+testKey(1).String()+"\n"), State: write(t, dir, "state.yml", content)})
		if err == nil {
			t.Errorf("%q was read", content)
			continue
		}
		wantLines(t, strings.Split(strings.ReplaceAll(err.Error(), dir+"/", ""), "\n"), []string{want})
	}
}

// TestMTUOfMembersWhoseStateWasLost: a member whose own MTU is not known keeps the one
// with which the network works.
func TestMTUOfMembersWhoseStateWasLost(t *testing.T) {
	dir := t.TempDir()
	in := Input{Resolved: resolvedHosts(member(1), member(2)), KeyFiles: KeyFiles{Keys: write(t, dir, "keys.yml", "192.0.2.2: "+testKey(2).String()+"\n")}}
	for running, want := range map[int]int{0: DefaultUnderlayMTU, 1420: 1420, 9000: 8000, 70000: DefaultUnderlayMTU} {
		in.Collected = map[string]Reported{"192.0.2.1": {PublicKey: testKey(1), UnderlayMTU: 8000, NetworkMTU: running}}
		if out := mustCompile(t, in); out.Document.UnderlayMTU != want {
			t.Errorf("running with %d: %d, wanted %d", running, out.Document.UnderlayMTU, want)
		}
	}
}

// FuzzPublicKeys looks for files that are read and then written differently from
// what was read, and for names that do not survive.
func FuzzPublicKeys(f *testing.F) {
	f.Add([]byte(oneFile), "a b")
	f.Add([]byte("192.0.2.1: '"+testKey(1).String()+"'\n"), "a b")
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		keys, err := decodePublicKeys(content, nil)
		if err != nil {
			return
		}
		if isInventoryName(name) {
			keys.Hosts[name] = HostKey{HostID: network.MaxHostID, PublicKey: testKey(9)}
		}
		again, err := decodePublicKeys(keys.EncodeKeys(), keys.EncodeState())
		if err != nil || !reflect.DeepEqual(again, keys) {
			t.Fatalf("%+v became %+v, %v", keys, again, err)
		}
	})
}

func decodePublicKeys(keys, state []byte) (*PublicKeys, error) {
	var problems collection
	k, s := &strictFile{"keys.yml", &problems, map[subject]place{}}, &strictFile{"state.yml", &problems, map[subject]place{}}
	return decodeKeys(k, k.parse(keys), s, s.parse(state)), problems.err()
}

// TestHostsKeepTheirUplinkMode: where the inventory says none, that of the host counts; a
// host of which none was noted is of a time when there was one alone, unless it is new.
func TestHostsKeepTheirUplinkMode(t *testing.T) {
	dir := t.TempDir()
	files := KeyFiles{Keys: filepath.Join(dir, "keys.yml"), State: filepath.Join(dir, "state.yml")}
	key := func(mode string) *HostKey { return &HostKey{HostID: 1, PublicKey: testKey(1), UplinkMode: mode} }
	reported := func(mode string) *Reported { return &Reported{PublicKey: testKey(1), UplinkMode: mode} }
	for _, c := range []struct {
		name, said string
		noted      *HostKey  // in the files
		reported   *Reported // in this run
		want       bool
	}{
		{"new", "", nil, nil, true},
		{"new and told to move", "moved", nil, nil, false},
		{"older", "", key(""), nil, false},
		{"older and reported", "", key(""), reported("moved"), false},
		{"noted", "", key("shared"), nil, true},
		{"noted and reported as another", "", key("shared"), reported("moved"), false},
		{"lost and reported", "", nil, reported("shared"), true},
		{"told otherwise", "moved", key("shared"), nil, false},
	} {
		keys := &PublicKeys{Hosts: map[string]HostKey{}}
		if c.noted != nil {
			keys.Hosts["192.0.2.1"] = *c.noted
		}
		if _, err := keys.Write(files); err != nil {
			t.Fatal(err)
		}
		v := vars{}
		if c.said != "" {
			v["uplink_mode"] = c.said
		}
		in := Input{Resolved: one(v), KeyFiles: files}
		if c.reported != nil {
			in.Collected = map[string]Reported{"192.0.2.1": *c.reported}
		}
		out := mustCompile(t, in)
		if got := out.Document.Hosts[0].SharedUplink; got != c.want {
			t.Errorf("%s: stays: %v, wanted %v", c.name, got, c.want)
		}
		if _, err := out.PublicKeys.Write(files); err != nil {
			t.Fatal(err)
		}
		if c.noted != nil || c.reported != nil {
			if again := mustCompile(t, Input{Resolved: one(nil), KeyFiles: files}); again.Document.Hosts[0].SharedUplink != c.want {
				t.Errorf("%s: forgotten in the next run", c.name)
			}
		}
	}
}
