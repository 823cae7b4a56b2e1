package inventory

import (
	"bytes"
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
		{"braces of another style", "'extra_wires' :   { }\n", "'extra_wires' :\n  " + line9 + "\n"},
		{"null in capitals", "extra_wires: NULL # none\n", "extra_wires: # none\n  " + line9 + "\n"},
		{"the beginning and end of a document", "---\nextra_wires: {}\n...\n", "---\nextra_wires:\n  " + line9 + "\n...\n"},
		{"indented", "  extra_wires:\n", "  extra_wires:\n    " + line9 + "\n"},
		{"a byte order mark", "\ufeff# ä\nextra_wires:\n  \"10.30.128.1/32\": \"KEY1\"\n", "\ufeff# ä\nextra_wires:\n  \"10.30.128.1/32\": \"KEY1\"\n  " + line9 + "\n"},
		{"CRLF, no end of line", "# a\r\nextra_wires:\r\n  10.30.128.1/32: KEY1", "# a\r\nextra_wires:\r\n  10.30.128.1/32: KEY1\r\n  " + line9 + "\r\n"},
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

// TestReplaceClientKey: only the key itself is another one, however it is written and
// whatever comments say.
func TestReplaceClientKey(t *testing.T) {
	for _, entry := range []string{
		"10.30.128.9/32: KEY9 # KEY9",
		`10.30.128.9/32: "KEY9"`,
		"10.30.128.9/32: {public_key: 'KEY9', name: a.b} # phone",
		"10.30.128.9/32: # KEY9 is mine\n    # KEY9, too\n    public_key: KEY9\n    name: a.b",
	} {
		before := keys("# KEY9 stays here\nextra_wires:\n  10.30.128.1/32: KEY1\n  " + entry + "\n# end\n")
		got, err := ReplaceClientKey("f.yml", []byte(before), testClient(9).Address, testKey(5))
		key9, key5 := testKey(9).String(), testKey(5).String()
		if n := strings.Count(before, key9); err != nil || strings.Count(string(got), key9) != n-1 || strings.ReplaceAll(string(got), key5, key9) != before {
			t.Errorf("error %v, got\n%s\nof\n%s", err, got, before)
		}
	}
}

// TestEditRefuses: what cannot be edited line by line stays as it was, and so does
// what is wrong already.
func TestEditRefuses(t *testing.T) {
	for _, c := range []struct{ name, before, want string }{
		{"flow style", "# one\nextra_wires: {10.30.128.1/32: KEY1}\n", "f.yml:2: found it written in a way that cannot be edited"},
		{"a key on two lines", "extra_wires:\n  10.30.128.1/32: >-\n    KEY1\n", "f.yml:1: found it written in a way that cannot be edited"},
		{"not UTF-8", "# \xff\n", "f.yml:1: found the byte 0xff, wanted UTF-8"},
		{"broken", "extra_wires: [\n", "f.yml:"},
		{"a line that only YAML sees end", "# one\r# two\n", "f.yml:1: found it written in a way that cannot be edited"},
		{"a byte order mark twice", "\ufeff\ufeff\n", "f.yml:1: found a byte order mark (U+FEFF), wanted at most one, and at the beginning of the file"},
		{"a byte order mark inside", "extra_wires:\n# ä\ufeff\n\ufeff  10.30.128.1/32: KEY1\n", "f.yml:3: found a byte order mark"},
		{"taken", "extra_wires:\n  10.30.128.9/32: KEY1\n", "f.yml:1: found it written in a way"},
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

// FuzzEdit: whatever the file, an edit gives what was asked for or nothing, another
// key and the old one again give the same bytes, and taking the client out again
// gives the same clients as before.
func FuzzEdit(f *testing.F) {
	f.Add(keys("extra_wires:\n  10.30.128.1/32: KEY1\n"))
	f.Add("extra_wires: {}\n")
	f.Add("# x\r\nextra_wires:\r\n")
	f.Add("\ufeff\ufeff\n")
	f.Add(keys("\ufeffextra_wires:\n  10.30.128.1/32: # KEY1\n    {name: a.b, public_key: \"KEY1\"}\n"))
	f.Fuzz(func(t *testing.T, text string) {
		before, err := clientsOf("f.yml", []byte(text))
		if err != nil {
			return
		}
		added, err := AddClient("f.yml", []byte(text), testClient(9))
		if err != nil {
			return
		}
		for _, c := range append(before, testClient(9)) {
			other, err := ReplaceClientKey("f.yml", added, c.Address, testKey(8))
			if err != nil { // written in another way, by the operator
				continue
			}
			if again, err := ReplaceClientKey("f.yml", other, c.Address, c.PublicKey); err != nil || !bytes.Equal(again, added) {
				t.Fatalf("another key of %s and back: %v\n%q\n%q", c.Address, err, added, again)
			}
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
