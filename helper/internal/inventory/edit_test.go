package inventory

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mobula/helper/internal/network"
)

func testClient(n int) network.Client {
	return network.Client{Address: netip.AddrFrom4([4]byte{10, 30, 128, byte(n)}), PublicKey: testKey(n), Name: fmt.Sprintf("c%d.example.com", n)}
}

const line9 = "10.30.128.9/32: {name: c9.example.com, public_key: 'KEY9'}"

// keys stands in for keys, which are long.
func keys(s string) string {
	for n := 1; n < 10; n++ {
		s = strings.ReplaceAll(s, fmt.Sprint("KEY", n), testKey(n).String())
	}
	return s
}

// TestAddClient: every byte that was there stays.
func TestAddClient(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"no file", "", "extra_wires:\n  " + line9 + "\n"},
		{"comments only", "# mine\n", "# mine\nextra_wires:\n  " + line9 + "\n"},
		{"nothing yet", "extra_wires:\n  # none\n", "extra_wires:\n  " + line9 + "\n  # none\n"},
		{"braces", "extra_wires: {}  # none\n", "extra_wires:  # none\n  " + line9 + "\n"},
		{"null", "extra_wires: ~\n", "extra_wires:\n  " + line9 + "\n"},
		{"plain form, comments, no end of line", "# a\nextra_wires:\n    # b\n    10.30.128.1/32: 'KEY1' # c\n\n    # d\n    10.30.128.3/32: KEY3",
			"# a\nextra_wires:\n    # b\n    10.30.128.1/32: 'KEY1' # c\n\n    # d\n    10.30.128.3/32: KEY3\n    " + line9 + "\n"},
		{"named, on several lines", "extra_wires:\n  10.30.128.2/32:\n    name: x.example.com\n    public_key: KEY2\n# end\n",
			"extra_wires:\n  10.30.128.2/32:\n    name: x.example.com\n    public_key: KEY2\n  " + line9 + "\n# end\n"},
		{"CRLF", "extra_wires:\r\n  10.30.128.1/32: KEY1\r\n", "extra_wires:\r\n  10.30.128.1/32: KEY1\r\n  " + line9 + "\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AddClient("f.yml", []byte(keys(c.before)), testClient(9))
			if err != nil || string(got) != keys(c.after) {
				t.Errorf("error %v, got\n%s\nwanted\n%s", err, got, keys(c.after))
			}
		})
	}
}

func TestRemoveClient(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"the last one", "extra_wires:\n  # mine\n  10.30.128.9/32: KEY9 # old\n# end\n", "extra_wires:\n  # mine\n# end\n"},
		{"several lines", "extra_wires:\n  10.30.128.9/32:\n    public_key: KEY9\n    name: a.b\n  10.30.128.1/32: KEY1\n", "extra_wires:\n  10.30.128.1/32: KEY1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := RemoveClient("f.yml", []byte(keys(c.before)), testClient(9).Address)
			if err != nil || string(got) != keys(c.after) {
				t.Errorf("error %v, got\n%s\nwanted\n%s", err, got, keys(c.after))
			}
		})
	}
}

func TestReplaceClientKey(t *testing.T) {
	const before = "# KEY9 stays here\nextra_wires:\n  10.30.128.1/32: KEY1\n  10.30.128.9/32: {public_key: 'KEY9', name: a.b} # phone\n"
	got, err := ReplaceClientKey("f.yml", []byte(keys(before)), testClient(9).Address, testKey(5))
	want := strings.Replace(before, "'KEY9'", "'KEY5'", 1)
	if err != nil || string(got) != keys(want) {
		t.Errorf("error %v, got\n%s\nwanted\n%s", err, got, keys(want))
	}
}

// TestEditRefuses: what cannot be edited line by line stays as it was, and so does
// what is wrong already.
func TestEditRefuses(t *testing.T) {
	for _, c := range []struct{ name, before, want string }{
		{"flow style", "extra_wires: {10.30.128.1/32: KEY1}\n", "f.yml: found it written in a way that cannot be edited"},
		{"broken", "extra_wires: [\n", "f.yml:"},
		{"a line that only YAML sees end", "# one\r# two\n", "f.yml: found it written in a way that cannot be edited"},
		{"taken", "extra_wires:\n  10.30.128.9/32: KEY1\n", "f.yml: found it written in a way"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AddClient("f.yml", []byte(keys(c.before)), testClient(9))
			if err == nil || got != nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error %v, got\n%s", err, got)
			}
		})
	}
	if _, err := RemoveClient("f.yml", nil, testClient(9).Address); err == nil {
		t.Error("removed a client that is not there")
	}
}

func TestNamedClients(t *testing.T) {
	_, clients, err := readExtra(keys("extra_wires:\n  10.30.128.9/32: {name: c9.example.com, public_key: KEY9}\n"))
	if err != nil || len(clients) != 1 || clients[0] != testClient(9) {
		t.Errorf("got %v, %v", clients, err)
	}
	_, _, err = readExtra(keys("extra_wires:\n  10.30.128.1/32: {name: phone, public_key: KEY1}\n  10.30.128.2/32: {name: a.b}\n  10.30.128.3/32: {nam: a.b, public_key: KEY3}\n"))
	for _, want := range []string{
		`f.yml:2: 10.30.128.1/32: name: found "phone", wanted a fully qualified name such as laptop.example.com`,
		`f.yml:3: 10.30.128.2/32: key: found nothing, wanted public_key: a WireGuard public key`,
		`f.yml:4: 10.30.128.3/32: found the unknown key "nam", wanted "name" (did you mean that?)`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

// FuzzEdit: whatever the file, an edit gives what was asked for or nothing, and
// taking the client out again gives the same clients as before.
func FuzzEdit(f *testing.F) {
	f.Add(keys("extra_wires:\n  10.30.128.1/32: KEY1\n"))
	f.Add("extra_wires: {}\n")
	f.Add("# x\r\nextra_wires:\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		before, err := clientsOf("f.yml", []byte(text))
		if err != nil {
			return
		}
		added, err := AddClient("f.yml", []byte(text), testClient(9))
		if err != nil {
			return
		}
		removed, err := RemoveClient("f.yml", added, testClient(9).Address)
		if err != nil {
			t.Fatalf("cannot take out what was put in: %v\n%q", err, added)
		}
		after, err := clientsOf("f.yml", removed)
		if err != nil || !same(before, after) {
			t.Fatalf("%v, then %v: %v\n%q\n%q", before, after, err, text, removed)
		}
	})
}
