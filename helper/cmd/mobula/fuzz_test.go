package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/store"
)

// FuzzInput takes arbitrary bytes for what compile and check read from standard
// input: the inventory, and what hosts reported, each of which may be hostile.
// What comes out is a valid document with no key but those reported.
func FuzzInput(f *testing.F) {
	const one = `{"name":"192.0.2.1","vars":{"host_id":1,"hostname":"alice.example.com"},"other_vars":[]}`
	key := plantest.Key(1).String()
	f.Add([]byte(`{"inventory":{"hosts":[` + one + `]}}`))
	f.Add([]byte(`{"inventory":{"hosts":[` + one + `]},"collected":{"192.0.2.1":{"public_key":"` + key + `","underlay_mtu":1500}}}`))
	f.Add([]byte(`{"inventory":{"hosts":[` + one + `]},"collected":{"192.0.2.1":{"public_key":"","underlay_mtu":-1},"192.0.2.9":{"host_id":7}}}`))
	f.Add([]byte(`{"inventory":null,"collected":null}{}`))
	other := strings.NewReplacer("192.0.2.1", "192.0.2.2", "alice", "bob").Replace(one)
	f.Add([]byte(`{"inventory":{"hosts":[` + one + "," + other + `]}}`)) // one ID
	other = strings.Replace(other, `"host_id":1`, `"host_id":2`, 1)
	f.Add([]byte(`{"inventory":{"hosts":[` + one + "," + other + `]},"collected":{"192.0.2.1":{"public_key":"` + key + `"},"192.0.2.2":{"public_key":"` + key + `"}}}`)) // one key
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parseInput(data)
		if err != nil {
			return
		}
		compiled, err := inventory.Compile(context.Background(), inventory.Input{Resolved: in.Inventory, Collected: in.Collected, Now: time.Unix(1, 0)})
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		if _, err := network.Parse(compiled.Document.Encode()); err != nil {
			t.Fatal(err)
		}
		for _, h := range compiled.Document.Hosts {
			if h.PublicKey != in.Collected[h.Name].PublicKey {
				t.Fatalf("%s: found key %s, wanted the one that it reported", h.Name, h.PublicKey)
			}
		}
		for _, w := range compiled.Warnings {
			if w.String() == "" {
				t.Fatal("a warning without a word")
			}
		}
	})
}

// FuzzHandedOver takes arbitrary bytes for what apply and its worker hand each
// other in files.
func FuzzHandedOver(f *testing.F) {
	change := store.Change{HostID: 1, Document: plantest.Document(plantest.Host(1), plantest.Host(2))}
	for _, value := range []any{
		staged{Change: change, Timeout: time.Minute, Waiting: []int{1, 2}, Older: true},
		staged{Change: store.Change{Down: true}, Rebuild: true},
		outcome{Changed: true, Generation: change.Generation(), Operations: []string{"+ link"}, Done: true, Error: "x"},
	} {
		data, err := json.Marshal(value)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := parseStaged(data); err == nil {
			if !s.Change.Down && len(s.Change.Document.Validate()) > 0 {
				t.Fatalf("a change was taken that is not valid: %v", s.Change.Document.Validate())
			}
			wantSame(t, s, parseStaged)
		}
		if o, err := parseOutcome(data); err == nil {
			wantSame(t, *o, func(data []byte) (outcome, error) {
				o, err := parseOutcome(data)
				return *o, err
			})
		}
	})
}

// wantSame writes a value and reads it back.
func wantSame[T any](t *testing.T, value T, parse func([]byte) (T, error)) {
	t.Helper()
	written, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(written)
	if err != nil {
		t.Fatalf("%v in what was written: %s", err, written)
	}
	if second, _ := json.Marshal(again); string(second) != string(written) {
		t.Fatalf("written as %s, then as %s", written, second)
	}
}
