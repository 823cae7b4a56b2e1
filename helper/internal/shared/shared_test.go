package shared

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestQuestion: who asks while somebody does is told the same, and so is who asks soon after.
func TestQuestion(t *testing.T) {
	var q Question[int]
	asked := 0 // one at a time
	begun, end := make(chan struct{}, 1), make(chan struct{})
	ask := func() (int, error) {
		asked++
		begun <- struct{}{}
		<-end
		return asked, nil
	}
	impatient, cancel := context.WithCancel(context.Background())
	cancel()
	if n, err := q.Ask(impatient, time.Hour, ask); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("who waits no longer: found %d and %v, wanted nothing and %v", n, err, context.Canceled)
	}
	<-begun
	close(end)
	for i := 0; i < 3; i++ {
		if n, err := q.Ask(context.Background(), time.Hour, ask); n != 1 || err != nil {
			t.Errorf("who asks soon: found %d and %v, wanted the first answer", n, err)
		}
	}
	if n, err := q.Ask(context.Background(), -1, ask); n != 2 || err != nil {
		t.Errorf("who asks later: found %d and %v, wanted a new answer", n, err)
	}
	<-begun
	failed := errors.New("nobody knows")
	if _, err := q.Ask(context.Background(), -1, func() (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("found %v, wanted %v", err, failed)
	}
}
