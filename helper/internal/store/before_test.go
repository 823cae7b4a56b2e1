package store

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// copyState puts the state that the version before wrote into a store.
func copyState(t *testing.T, change func(name string, data []byte) []byte) *Store {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob("testdata/before/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), change(filepath.Base(path), data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return New(dir)
}

// readAll reads all state and plans with it.
func readAll(t *testing.T, s *Store) (confirmed, pending *Change, applied *Applied, facts *spec.Facts) {
	t.Helper()
	var err error
	if facts, err = s.Facts(); err != nil || facts == nil {
		t.Fatalf("facts: %v, %v", facts, err)
	}
	if confirmed, err = s.Confirmed(); err != nil || confirmed == nil {
		t.Fatalf("confirmed: %v, %v", confirmed, err)
	}
	if pending, err = s.Pending(); err != nil || pending == nil {
		t.Fatalf("pending: %v, %v", pending, err)
	}
	if applied, err = s.Applied(); err != nil || applied == nil || !applied.Complete {
		t.Fatalf("applied: %v, %v", applied, err)
	}
	for _, c := range []*Change{confirmed, pending, &applied.Change} {
		if _, err := plan.Build(c.Document, c.HostID, *facts); err != nil {
			t.Fatal(err)
		}
	}
	return confirmed, pending, applied, facts
}

// TestStateOfTheVersionBefore: what commit 4978688 wrote is read, and means what it
// meant. testdata/before is made by that commit and never written anew.
func TestStateOfTheVersionBefore(t *testing.T) {
	confirmed, pending, applied, facts := readAll(t, copyState(t, func(_ string, data []byte) []byte { return data }))
	if got := confirmed.Generation() + " " + pending.Generation(); got != generationsBefore {
		t.Errorf("found the generations %s, wanted %s", got, generationsBefore)
	}
	if confirmed.Helper != "" || confirmed.Document.Serial != 1795000000 || !applied.Same(confirmed) {
		t.Errorf("confirmed %+v, applied %+v", confirmed, applied)
	}
	self, _ := confirmed.Document.Host(1)
	if !self.PresharedKeys || self.AlsoKey != (network.Key{7, 7}) || len(self.Publish) != 2 || len(confirmed.Document.Clients) != 1 {
		t.Errorf("found %+v", self)
	}
	if want := plantest.Facts(spec.Ifupdown, spec.Networkd, spec.NetworkManager); facts.Uplink != want.Uplink || !reflect.DeepEqual(facts.Routes, want.Routes) || len(facts.Managers) != 3 {
		t.Errorf("found the facts %+v", facts)
	}
	data, err := os.ReadFile("testdata/before/network.json")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := network.Parse(data); err != nil || d.Generation() != confirmed.Generation() {
		t.Errorf("at the door: %v", err)
	}
}

// generationsBefore are those that the version before gave to the two documents.
const generationsBefore = "fc8ce2a0bf0b8c92 fbf94c8c762493b3"

// TestStateOfALaterVersion: fields that only a later version knows are ignored
// wherever they are, and the next format is read; from the operator neither is.
func TestStateOfALaterVersion(t *testing.T) {
	later := func(name string, data []byte) []byte {
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			t.Fatal(err)
		}
		more(value)
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.ReplaceAll(data, []byte(`"format":1`), []byte(`"format":2`))
	}
	confirmed, _, _, facts := readAll(t, copyState(t, later))
	if confirmed.Document.Format != 2 || confirmed.Document.Serial != 1795000000 || facts.MTU != 1500 {
		t.Errorf("confirmed %+v, facts %+v", confirmed.Document, facts)
	}
	data, err := os.ReadFile("testdata/before/network.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"unknown field": bytes.Replace(data, []byte(`"serial"`), []byte(`"later":1,"serial"`), 1),
		"found 2":       bytes.Replace(data, []byte(`"format":1`), []byte(`"format":2`), 1),
	} {
		if _, err := network.Parse(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("at the door: %v, wanted %q", err, name)
		}
	}
	for name, format := range map[string]string{"no format": "0", "one that cannot be known": "3"} {
		bad := bytes.Replace(data, []byte(`"format":1`), []byte(`"format":`+format), 1)
		if _, err := network.ParseStored(bad); err == nil {
			t.Errorf("%s was taken from the disk", name)
		}
	}
}

// more adds a field to each object, and a manager that nobody knows.
func more(value any) {
	switch v := value.(type) {
	case map[string]any:
		for _, one := range v {
			more(one)
		}
		if managers, ok := v["managers"].([]any); ok {
			v["managers"] = append(managers, "a later one")
		}
		v["a_later_field"] = map[string]any{"of": []int{1}}
	case []any:
		for _, one := range v {
			more(one)
		}
	}
}
