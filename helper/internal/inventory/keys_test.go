package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

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
	want := publicKeysHeader + `serial: 1700000000
generation: "1234567890123456"
wireguard_pubkeys:
  192.0.2.9: {public_key: 'CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=', also_key: 'YwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='}
  192.0.2.10: {host_id: 10, public_key: 'CgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=', underlay_mtu: 1500}
  "1e3": {host_id: 2, public_key: 'AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='}
  "a \"b\\ <é": {host_id: 3, public_key: 'AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='}
  "yes": {host_id: 1, public_key: 'AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE='}
`
	if got := string(keys.Encode()); got != want {
		t.Errorf("got:\n%s\nwanted:\n%s", got, want)
	}
	path := t.TempDir() + "/keys.yml"
	for i, wantChanged := range []bool{true, false} {
		if changed, err := keys.Write(path); err != nil || changed != wantChanged {
			t.Errorf("write %d: %v, %v", i, changed, err)
		}
	}
	if read, err := ReadPublicKeys(path); err != nil || !reflect.DeepEqual(read, keys) {
		t.Errorf("read %+v, %v", read, err)
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
	if changed, err := keys.Write(link); !changed || err != nil {
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
	if _, err := keys.Write(dir + "/none/keys.yml"); err == nil {
		t.Error("no error without the folder")
	}
}

func TestPublicKeysFileThatIsCorrupt(t *testing.T) {
	good := testKey(1).String()
	tests := []struct{ name, content, want string }{
		{"cut short", "wireguard_pubkeys:\n  192.0.2.1: {host_id: 1, pub\n", "keys.yml:2: found …"},
		{"unknown key", "pubkeys: {}\n", `keys.yml:1: found the unknown key "pubkeys", …`},
		{"no key", "wireguard_pubkeys:\n  192.0.2.1: {host_id: 1}\n", "keys.yml:2: 192.0.2.1: public_key: found nothing, …"},
		{"bad key", "wireguard_pubkeys:\n  192.0.2.1: {public_key: x}\n", `keys.yml:2: 192.0.2.1: public_key: found "x", …`},
		{"bad other key", "wireguard_pubkeys:\n  192.0.2.1: {public_key: " + good + ", also_key: x}\n", `keys.yml:2: 192.0.2.1: also_key: found "x", …`},
		{"bad ID", "wireguard_pubkeys:\n  192.0.2.1: {host_id: 32768, public_key: " + good + "}\n", "keys.yml:2: 192.0.2.1: host_id: found 32768, wanted an integer in 1..32767 …"},
		{"bad MTU", "wireguard_pubkeys:\n  192.0.2.1: {underlay_mtu: big, public_key: " + good + "}\n", `keys.yml:2: 192.0.2.1: underlay_mtu: found "big", …`},
		{"key alone", "wireguard_pubkeys:\n  192.0.2.1: " + good + "\n", "keys.yml:2: wireguard_pubkeys: found …"},
		{"misspelled", "wireguard_pubkeys:\n  192.0.2.1: {public_kei: x, public_key: " + good + "}\n", `keys.yml:2: 192.0.2.1: found the unknown key "public_kei", wanted "public_key" …`},
		{"serial", "serial: now\n", `keys.yml:1: serial: found "now", wanted seconds since 1970 …`},
		{"host twice", "wireguard_pubkeys:\n  a.b: {public_key: " + good + "}\n  a.b: {public_key: " + good + "}\n", "keys.yml:3: a.b: found it again, …"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := ReadPublicKeys(write(t, dir, "keys.yml", tt.content))
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
	keys.Merge(map[string]HostKey{
		"changes": {HostID: 7, PublicKey: testKey(22), UnderlayMTU: 1400}, "comes": {PublicKey: testKey(5)}, "stranger": {PublicKey: testKey(6)}, "silent": {},
	}, []string{"stays", "changes", "comes", "silent", "new"})
	want := map[string]HostKey{
		"stays": {PublicKey: testKey(1)}, "changes": {HostID: 7, PublicKey: testKey(22), UnderlayMTU: 1400}, "comes": {PublicKey: testKey(5)}, "silent": {PublicKey: testKey(4), AlsoKey: testKey(14)},
	}
	if !reflect.DeepEqual(keys.Hosts, want) {
		t.Errorf("got %v", keys.Hosts)
	}
}

// FuzzPublicKeys looks for a file that is read and then written differently from
// what was read, and for names that do not survive.
func FuzzPublicKeys(f *testing.F) {
	f.Add([]byte("serial: 7\ngeneration: x\nwireguard_pubkeys:\n  192.0.2.1: {host_id: 1, public_key: '"+testKey(1).String()+"', underlay_mtu: 1500}\n"), "a b")
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		keys, err := decodePublicKeys(content)
		if err != nil {
			return
		}
		if isInventoryName(name) {
			keys.Hosts[name] = HostKey{HostID: network.MaxHostID, PublicKey: testKey(9)}
		}
		again, err := decodePublicKeys(keys.Encode())
		if err != nil || !reflect.DeepEqual(again, keys) {
			t.Fatalf("%+v became %+v, %v", keys, again, err)
		}
	})
}

func decodePublicKeys(content []byte) (*PublicKeys, error) {
	var problems collection
	f := &strictFile{"keys.yml", &problems, map[subject]place{}}
	return f.decodeKeys(f.decode(content, publicKeysFields...)), problems.err()
}
