package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mobula/helper/internal/plan"
)

// pause lets a change stand still before one of its steps, for tests that
// interrupt it there: the hidden flag --pause-before N, and nothing else, asks
// for it. The zero pause never does.
type pause struct {
	before int // number of the step, from 1; 0: none
	taken  int
}

// pausePath holds "NUMBER STEP\n" while a change stands still. Whoever removes
// it lets the change go on.
func pausePath() string { return filepath.Join(plan.RunDir, "paused") }

// flag defines the flag that asks for it.
func (p *pause) flag(c *call) {
	c.flags.IntVar(&p.before, "pause-before", 0, "stand still before this step, from 1, of those that 'plan --json' lists; for tests")
	_ = c.flags.MarkHidden("pause-before")
}

// step is transaction.Host.Before.
func (p *pause) step(ctx context.Context, name string) error {
	if p.taken++; p.taken != p.before {
		return nil
	}
	if err := os.WriteFile(pausePath(), []byte(fmt.Sprintf("%d %s\n", p.taken, name)), 0o600); err != nil {
		return err
	}
	for fileExists(pausePath()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
