package transaction

import (
	"context"
	"errors"
	"testing"
	"time"
)

// slow is a world in which time passes at each step, and the clock of the way back rings.
type slow struct {
	*world
	now, rings time.Time
	wound      int
	// takes is how long a step takes.
	takes func(step string) time.Duration
}

var errCut = errors.New("the way back began")

func newSlow(t *testing.T, takes func(step string) time.Duration) *slow {
	s := &slow{world: newWorld(t), now: time.Unix(1_000_000, 0), takes: takes}
	s.host.Now = func() time.Time { return s.now }
	s.host.Alarm = slowAlarm{s.host.Alarm, s}
	s.host.Before = func(_ context.Context, step string) error { return s.pass(step) }
	return s
}

// pass lets a step take its time, at the end of which the way back may have begun.
func (s *slow) pass(step string) error {
	s.now = s.now.Add(s.takes(step))
	if s.armed && s.now.After(s.rings) {
		return errCut
	}
	return nil
}

type slowAlarm struct {
	Alarm
	s *slow
}

func (a slowAlarm) Arm(ctx context.Context, after time.Duration) error {
	err := a.Alarm.Arm(ctx, after)
	if err == nil {
		a.s.rings = a.s.now.Add(after)
		a.s.wound++
	}
	return err
}

// TestManySlowSteps: a change takes many times its confirm timeout, and is not cut. The
// operator then has the timeout to confirm it.
func TestManySlowSteps(t *testing.T) {
	s := newSlow(t, func(string) time.Duration { return 50 * time.Second })
	began := s.now
	change := s.document(1, nil, 2, 3, 4)
	ops, err := s.host.Apply(ctx, change, Options{ConfirmTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if took := s.now.Sub(began); took < 10*time.Minute {
		t.Fatalf("%d operations took %v only", len(ops), took)
	}
	if left := s.rings.Sub(s.now); left < 45*time.Second || left > time.Minute {
		t.Errorf("found %v left to confirm, wanted a minute", left)
	}
	s.host.Before = nil
	if _, err := s.host.Confirm(ctx, change.Generation()); err != nil {
		t.Fatal(err)
	}
}

// TestQuickSteps: winding the clock starts processes, and a change of many quick steps
// does it once.
func TestQuickSteps(t *testing.T) {
	s := newSlow(t, func(string) time.Duration { return 100 * time.Millisecond })
	if _, err := s.host.Apply(ctx, s.document(1, nil, 2, 3, 4), Options{ConfirmTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if s.wound != 1 {
		t.Errorf("wound %d times", s.wound)
	}
}

// TestAStepThatHangs: one step takes longer than it may, after many that took their time.
func TestAStepThatHangs(t *testing.T) {
	s := newSlow(t, func(step string) time.Duration {
		if step == "verify" {
			return 2 * time.Minute
		}
		return 50 * time.Second
	})
	before := s.String()
	_, err := s.host.Apply(ctx, s.document(1, nil, 2, 3, 4), Options{ConfirmTimeout: time.Minute})
	if !errors.Is(err, errCut) {
		t.Fatalf("found %v, wanted the way back to begin", err)
	}
	if got := s.String(); got != before || s.armed {
		t.Errorf("was not rolled back: armed %v, %s", s.armed, difference(got, before))
	}
}

// TestAStepWithALimit: a step that says how much it has to do has that time.
func TestAStepWithALimit(t *testing.T) {
	s := newSlow(t, func(string) time.Duration { return time.Second })
	s.host.clock.timeout, s.rings = time.Minute, s.now
	s.armed = true
	steps := []step{
		{name: "flows", limit: 10 * time.Minute, do: func(context.Context) error { return s.passed(9 * time.Minute) }},
		{name: "short", do: func(context.Context) error { return s.passed(44 * time.Second) }},
	}
	s.host.Before = nil
	if err := s.host.walk(ctx, steps); err != nil {
		t.Fatal(err)
	}
	if err := s.host.walk(ctx, steps[:1]); err != nil {
		t.Fatal(err)
	}
	if left := s.rings.Sub(s.now); left > time.Minute {
		t.Errorf("what hangs after such a step has %v, wanted the confirm timeout", left)
	}
	if err := s.host.walk(ctx, []step{{name: "flows", do: func(context.Context) error { return s.passed(9 * time.Minute) }}}); !errors.Is(err, errCut) {
		t.Errorf("without a limit: %v", err)
	}
}

func (s *slow) passed(time time.Duration) error {
	s.now = s.now.Add(time)
	if s.now.After(s.rings) {
		return errCut
	}
	return nil
}

// TestRollbackTellsOfProgress: whoever limits a rollback hears of all that gets done.
func TestRollbackTellsOfProgress(t *testing.T) {
	w := newWorld(t)
	if _, err := w.host.Apply(ctx, w.document(1, nil, 2, 3, 4), Options{ConfirmTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	w.restart() // as the timer starts it
	told := 0
	w.host.Progress = func(time.Duration) { told++ }
	if err := w.host.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if told < 30 {
		t.Errorf("told %d times", told)
	}
	if w.armed {
		t.Error("a rollback started the rollback timer")
	}
}
