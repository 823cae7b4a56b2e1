package worker

import (
	"encoding/json"
	"testing"
	"time"

	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/store"
)

// FuzzHandedOver takes arbitrary bytes for what a command and its worker hand each
// other in files.
func FuzzHandedOver(f *testing.F) {
	change := store.Change{HostID: 1, Document: plantest.Document(plantest.Host(1), plantest.Host(2))}
	for _, value := range []any{
		Staged{Change: change, Timeout: time.Minute, Waiting: []int{1, 2}, Older: true},
		Staged{Change: store.Change{Down: true}, Rebuild: true},
		Outcome{Changed: true, Generation: change.Generation(), Operations: []string{"+ link"}, Done: true, Error: "x"},
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
			wantSame(t, *o, func(data []byte) (Outcome, error) {
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
