package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
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
	f.Add([]byte(`{"inventory":{"hosts":[` + one + `]},"collected":{"192.0.2.1":{"public_key":"` + key + `","made_key":"` + plantest.Key(2).String() + `"}},"here":["192.0.2.1"]}`))
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
			said := in.Collected[h.Name]
			if h.PublicKey != said.PublicKey && h.PublicKey != said.MadeKey || !h.AlsoKey.IsZero() {
				t.Fatalf("%s: found keys %s, wanted the one that it reported", h.Name, h.Keys())
			}
		}
		for _, w := range compiled.Warnings {
			if w.String() == "" {
				t.Fatal("a warning without a word")
			}
		}
	})
}
