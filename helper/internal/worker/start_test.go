package worker

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/store"
	"mobula/helper/internal/transaction"
)

// world is a host with a systemd: changes make operations, or do not, and are carried out,
// or fail.
type world struct {
	t       *testing.T
	store   *store.Store
	ops     []reconcile.Operation
	waiting error
	fails   error
	steps   []string // that carrying out has
	kept    int
	began   int // units
	ended   chan error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, store: store.New(t.TempDir()), ops: []reconcile.Operation{{Verb: reconcile.Add, Object: "link", Reconnects: true}}, ended: make(chan error, 1)}
}

func (w *world) Waiting(context.Context, *store.Change) error { return w.waiting }
func (w *world) Plan(context.Context, *store.Change, transaction.Options) (*transaction.Plan, error) {
	return &transaction.Plan{Operations: w.ops}, nil
}
func (w *world) Keep(context.Context, *transaction.Plan) error { w.kept++; return nil }

// Apply implements Carrier.
func (w *world) Apply(context.Context, *store.Change, transaction.Options) ([]reconcile.Operation, error) {
	if _, err := Lock(context.Background(), "confirm", 0); !strings.Contains(err.Error(), "'mobula apply'") {
		w.t.Errorf("while the change is carried out: found %v, wanted that it holds the lock", err)
	}
	return w.ops, w.fails
}

func (w *world) starter() Starter {
	return Starter{Host: w, Store: w.store,
		Settle: func(context.Context) (string, error) { return "", nil },
		Active: func(context.Context, string) bool { return false },
		Start: func(_ context.Context, unit string, most time.Duration, _ string, args ...string) error {
			w.began++
			if unit != "mobula-apply" || most != time.Minute+Standstill || !slices.Equal(args, []string{"apply", "--worker"}) {
				w.t.Errorf("started %s %v for %v", unit, args, most)
			}
			go func() { w.ended <- w.work(context.Background()) }()
			return nil
		}}
}

func (w *world) work(ctx context.Context) error {
	return Work(ctx, quiet(), func(before func(context.Context, string) error, _ func(context.Context) error) Carrier {
		for _, step := range w.steps {
			if err := before(ctx, step); err != nil {
				w.t.Error(err)
			}
		}
		return w
	})
}

func change() Staged {
	return Staged{Change: store.Change{HostID: 1, Document: plantest.Document(plantest.Host(1), plantest.Host(2))}, Timeout: time.Minute}
}

func inactive(context.Context, string) bool { return false }

// TestUnchangedHostNeedsNoWorker: what makes no difference is kept at once.
func TestUnchangedHostNeedsNoWorker(t *testing.T) {
	if !netnstest.Alone(t) { // with a /run of its own
		return
	}
	w := newWorld(t)
	w.ops = nil
	o, err := w.starter().Apply(context.Background(), change(), "one", false)
	if err != nil || o.Changed || o.Confirm || w.kept != 1 || w.began != 0 || Locked() {
		t.Errorf("found %+v, %v, kept %d times, %d workers, locked %v", o, err, w.kept, w.began, Locked())
	}
}

// TestWorkerCarriesOut: the worker takes the lock from who started it, and what comes out
// of it is told. The files are those that other versions write and read.
func TestWorkerCarriesOut(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w, s := newWorld(t), change()
	o, err := w.starter().Apply(context.Background(), s, "one", false)
	if err != nil || !o.Changed || !o.Confirm || !o.Done || !o.Reconnect || w.began != 1 || w.kept != 0 {
		t.Fatalf("found %+v, %v, %d workers, kept %d times", o, err, w.began, w.kept)
	}
	if err := <-w.ended; err != nil || Locked() {
		t.Errorf("the worker: %v, locked %v", err, Locked())
	}
	staged, _ := os.ReadFile("/run/mobula/staged.json")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(staged, &fields); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if found := strings.Join(names, " "); found != "allow_alone allow_older change rebuild timeout waiting" || string(fields["timeout"]) != "60000000000" {
		t.Errorf("staged: found %s with the timeout %s", found, fields["timeout"])
	}
	if read, err := readStaged(); err != nil || !slices.Contains(read.Waiting, os.Getpid()) {
		t.Errorf("the answer passes through %v, %v; wanted this process among them", read.Waiting, err)
	}
	want := `{"changed":false,"generation":"` + s.Change.Generation() + `","operations":null,"interrupted_peers":0,"names":null,"reconnect":false,"confirm":false,"done":true}`
	if result, _ := os.ReadFile("/run/mobula/result.json"); string(result) != want {
		t.Errorf("result: found %s, wanted %s", result, want)
	}
	if attempt, _ := os.ReadFile("/run/mobula/attempt"); string(attempt) != "one" {
		t.Errorf("attempt: found %q", attempt)
	}
	if err := Finished(context.Background(), inactive); err != nil {
		t.Errorf("a change that can be confirmed: %v", err)
	}
}

// TestFailedAttemptIsNotRepeated: who asks again after the connection broke hears why, and
// nothing is done; another attempt is one.
func TestFailedAttemptIsNotRepeated(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w := newWorld(t)
	w.fails = errors.New("no such device")
	apply := func(attempt string) string {
		_, err := w.starter().Apply(context.Background(), change(), attempt, false)
		if err == nil {
			t.Fatal("found no error")
		}
		return err.Error()
	}
	if found := apply("one"); found != "no such device\n'journalctl -u mobula-apply' tells more" {
		t.Errorf("found %q", found)
	}
	<-w.ended
	if err := Finished(context.Background(), inactive); err == nil || !strings.Contains(err.Error(), "the host was rolled back: no such device") {
		t.Errorf("confirming it: %v", err)
	}
	if found := apply("one"); found != "the change was rolled back: no such device; deploy again" || w.began != 1 {
		t.Errorf("once more: found %q, %d workers", found, w.began)
	}
	if apply("two"); w.began != 2 {
		t.Errorf("another attempt: %d workers", w.began)
	}
	<-w.ended
}

// TestWhoHasToTryAgain: nothing is changed, and the error says that later it may be.
func TestWhoHasToTryAgain(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	ctx, w := context.Background(), newWorld(t)
	w.waiting = transaction.ErrWaiting
	var busy Busy
	if _, err := w.starter().Apply(ctx, change(), "", false); !errors.As(err, &busy) || !errors.Is(err, transaction.ErrWaiting) {
		t.Errorf("another change waits: %v", err)
	}
	unlock, err := Lock(ctx, "apply", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(ctx, "key", 0); !errors.As(err, &busy) || !strings.HasPrefix(err.Error(), "this host is being changed by 'mobula apply' (process ") {
		t.Errorf("somebody has the lock: %v", err)
	}
	unlock()
	if err := stage(change()); err != nil {
		t.Fatal(err)
	}
	if err := Finished(ctx, func(context.Context, string) bool { return true }); !errors.As(err, &busy) {
		t.Errorf("confirming what has not begun: %v", err)
	}
	if err := Finished(ctx, inactive); err == nil || errors.As(err, &busy) {
		t.Errorf("confirming what was broken off: %v", err)
	}
	if Forget(); Finished(ctx, inactive) != nil {
		t.Error("nothing is staged, and cannot be confirmed")
	}
	if w.began != 0 {
		t.Errorf("%d workers", w.began)
	}
}

// TestSameChangeIsJoined: who asks for what the worker carries out waits for that.
func TestSameChangeIsJoined(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w := newWorld(t)
	s := w.starter()
	s.Active = func(context.Context, string) bool { return true }
	if err := os.MkdirAll("/run/mobula", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := stage(change()); err != nil {
		t.Fatal(err)
	}
	if err := writeResult(Outcome{Reconnect: true}); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Apply(context.Background(), change(), "", true); err != nil || !o.Changed || o.Done || w.began != 0 {
		t.Errorf("found %+v, %v, %d workers", o, err, w.began)
	}
}

// TestPause stands still before the step of that number, of which telling the result is the
// last, until the file goes.
func TestPause(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w, s := newWorld(t), change()
	w.steps, s.PauseBefore = []string{"one"}, 2
	if err := os.MkdirAll("/run/mobula", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := stage(s); err != nil {
		t.Fatal(err)
	}
	go func() { w.ended <- w.work(context.Background()) }()
	var paused []byte
	for len(paused) == 0 {
		time.Sleep(time.Millisecond)
		paused, _ = os.ReadFile("/run/mobula/paused")
	}
	if _, err := readResult(); string(paused) != "2 leave the result\n" || err == nil {
		t.Errorf("standing still before %q with the result %v", paused, err)
	}
	if err := os.Remove("/run/mobula/paused"); err != nil {
		t.Fatal(err)
	}
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
	if result, err := readResult(); err != nil || !result.Done {
		t.Errorf("found %+v, %v", result, err)
	}
}
