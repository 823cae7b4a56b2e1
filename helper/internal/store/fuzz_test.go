package store

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// FuzzState takes arbitrary bytes for each of the store's files. What is taken
// out of them must be what was once put in: a valid document with this host in
// it, facts from which a plan follows that touches nothing outside its places,
// and the same again after it is written.
func FuzzState(f *testing.F) {
	bad := make([]*spec.Facts, 3)
	for i := range bad {
		bad[i] = plantest.Facts(spec.Ifupdown)
	}
	bad[0].Uplink, bad[1].ResolvConf.Path, bad[2].Addresses = "../../tmp", "/etc/passwd", nil
	for _, value := range []any{
		change(1), &Change{Down: true}, &Change{HostID: 1}, &Applied{Change: *change(2), Complete: true},
		plantest.Facts(spec.Ifupdown, spec.Networkd, spec.NetworkManager),
		bad[0], bad[1], bad[2],
	} {
		data, err := json.Marshal(value)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("null"))
	f.Add([]byte(`{"host_id":1,"document":{"format":1,"serial":1,"underlay_mtu":1500,"hosts":[{"id":1},{"id":1}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decode[Change](data); err == nil {
			same(t, c)
			checkChange(t, c)
		}
		if a, err := decode[Applied](data); err == nil {
			same(t, a)
			checkChange(t, &a.Change)
		}
		if facts, err := decode[spec.Facts](data); err == nil {
			same(t, facts)
			checkFacts(t, facts)
		}
	})
}

// same writes a value and reads it back.
func same[T any](t *testing.T, value *T) {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode[T](data)
	if err != nil {
		t.Fatalf("%v in what was written: %s", err, data)
	}
	if second, _ := json.Marshal(again); string(second) != string(data) {
		t.Fatalf("written as %s, then as %s", data, second)
	}
}

func checkChange(t *testing.T, c *Change) {
	t.Helper()
	c.Generation()
	if c.Down {
		return
	}
	if problems := c.Document.Validate(); len(problems) > 0 {
		t.Fatalf("a document was taken that is not valid: %v", problems)
	}
	self, ok := c.Self()
	if !ok {
		t.Fatalf("host %d was taken and is not in its document", c.HostID)
	}
	if _, err := plan.Build(c.Document, c.HostID, *plantest.Facts()); err != nil && self.PublicKey != (network.Key{}) {
		t.Fatal(err)
	}
}

// checkFacts plans with the facts: links have names that the kernel takes, and
// files are where Mobula's belong.
func checkFacts(t *testing.T, facts *spec.Facts) {
	t.Helper()
	host, err := plan.Build(plantest.Document(plantest.Host(1), plantest.Host(2)), 1, *facts)
	if err != nil {
		t.Fatal(err)
	}
	before := plan.Without(*facts)
	for _, l := range append(host.Links, before.Links...) {
		if l.Name == "" || len(l.Name) > 15 || strings.ContainsAny(l.Name, "/ \n") {
			t.Fatalf("found the link %q", l.Name)
		}
	}
	paths := spec.OwnedFiles(facts.Uplink)
	for _, file := range append(host.Files, before.Files...) {
		paths = append(paths, file.Path)
	}
	for _, path := range paths {
		if filepath.Clean(path) != path || !strings.HasPrefix(path, "/etc/systemd/") && !strings.HasPrefix(path, "/etc/NetworkManager/") && path != spec.ResolvConfPath && path != spec.DhcpcdConf {
			t.Fatalf("found the file %q", path)
		}
	}
	for _, a := range append(host.Addresses, before.Addresses...) {
		if !a.Prefix.IsValid() {
			t.Fatalf("found the address %v of %s", a.Prefix, a.Link)
		}
	}
	if reflect.DeepEqual(before, &spec.Host{}) {
		t.Fatal("nothing would be left of the host")
	}
}
