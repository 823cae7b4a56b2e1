package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/network"
)

// testTime is now, in tests.
var testTime = time.Unix(1700000000, 0)

// fakeResolver answers from a map, and with an error for all other names.
type fakeResolver map[string][]string

func (f fakeResolver) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, a := range f[host] {
		if a := netip.MustParseAddr(a); (a.Is4() || a.Is4In6()) == (network == "ip4") {
			list = append(list, a)
		}
	}
	if list == nil { // as net.Resolver says it
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return list, nil
}

// halfResolver has an error of the moment for IPv4.
type halfResolver struct{ fakeResolver }

func (r halfResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if network == "ip4" {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	return r.fakeResolver.LookupNetIP(ctx, network, host)
}

// testKey returns a key that is different for each n in 1..65535.
func testKey(n int) network.Key { return network.Key{0: byte(n), 1: byte(n >> 8), 31: 1} }

// write makes a file in the test's folder and returns its path.
func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

type vars = map[string]any

// one is the resolved inventory of 192.0.2.1 with the given variables, and valid
// ones where it does not say otherwise.
func one(changes vars) []byte {
	all := vars{"host_id": 1, "hostname": "alice.example.com"}
	for name, value := range changes {
		all[name] = value
	}
	return resolvedHosts(vars{"name": "192.0.2.1", "vars": all, "other_vars": []string{"ntp_server"}})
}

func resolvedHosts(hosts ...vars) []byte {
	data, err := json.Marshal(vars{"hosts": hosts})
	if err != nil {
		panic(err)
	}
	return data
}

// member is the n-th host with its required variables.
func member(n int, other ...string) vars {
	return vars{
		"name":       fmt.Sprintf("192.0.2.%d", n),
		"vars":       vars{"host_id": n, "hostname": fmt.Sprintf("h%d.example.com", n)},
		"other_vars": other,
	}
}

// mustFail returns the problems of a Compile, one a line, with the folder of the
// files taken out.
func mustFail(t *testing.T, dir string, in Input) []string {
	t.Helper()
	out, err := Compile(context.Background(), in)
	var problems Problems
	if !errors.As(err, &problems) || out != nil {
		t.Fatalf("Compile = %v, %v, wanted problems", out, err)
	}
	return strings.Split(strings.ReplaceAll(problems.Error(), dir+"/", ""), "\n")
}

func mustCompile(t testing.TB, in Input) *Compiled {
	t.Helper()
	if in.Now.IsZero() {
		in.Now = testTime
	}
	out, err := Compile(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantLines compares lines; a wanted one may end in … for anything.
func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	matches := len(got) == len(want)
	for i := 0; matches && i < len(got); i++ {
		start, open := strings.CutSuffix(want[i], "…")
		matches = got[i] == want[i] || open && strings.HasPrefix(got[i], start)
	}
	if !matches {
		t.Errorf("got:\n  %s\nwanted:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// waitingResolver answers nothing until its context ends.
type waitingResolver struct{}

func (waitingResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
