// Package shared asks once for all who want to know.
package shared

import (
	"context"
	"sync"
	"time"
)

// Question has an answer that is everybody's, and that nobody may change. The zero Question
// was never asked.
type Question[T any] struct {
	mu   sync.Mutex
	last *answer[T]
}

// answer is one that several may wait for.
type answer[T any] struct {
	done  chan struct{}
	ended time.Time // zero: not yet
	said  T
	err   error
}

// Ask returns what ask says, which is called in a goroutine of its own unless it is at work
// already, or has ended within the time given. Who is no longer interested waits no longer
// (the context's error); the others are told.
func (q *Question[T]) Ask(ctx context.Context, fresh time.Duration, ask func() (T, error)) (T, error) {
	q.mu.Lock()
	a := q.last
	if a == nil || !a.ended.IsZero() && time.Since(a.ended) > fresh {
		a = &answer[T]{done: make(chan struct{})}
		q.last = a
		go q.have(a, ask)
	}
	q.mu.Unlock()
	select {
	case <-a.done:
		return a.said, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (q *Question[T]) have(a *answer[T], ask func() (T, error)) {
	a.said, a.err = ask()
	q.mu.Lock()
	a.ended = time.Now()
	q.mu.Unlock()
	close(a.done)
}
