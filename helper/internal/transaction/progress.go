package transaction

import (
	"context"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// The way back begins when nobody confirms, or when a change hangs; not because there is
// much to do. So its clock begins again while steps get done. A single step has as long as
// an operator has to confirm, or its own limit if that is longer.

// clock is that of the way back, as far as this process has started it.
type clock struct {
	timeout time.Duration // 0: it does not run
	rings   time.Time
}

func (h *Host) now() time.Time {
	if h.Now == nil {
		return time.Now()
	}
	return h.Now()
}

// startClock starts the clock of a change that may stay unconfirmed for so long.
func (h *Host) startClock(ctx context.Context, timeout time.Duration) error {
	err := h.wind(ctx, timeout)
	if err == nil {
		h.clock.timeout = timeout
	}
	return err
}

// wind has the way back begin after a time, from now on.
func (h *Host) wind(ctx context.Context, after time.Duration) error {
	now := h.now()
	err := h.Alarm.Arm(ctx, after)
	if err == nil {
		h.clock.rings = now.Add(after)
	}
	return err
}

// progressed says that something got done and that the next thing may take so long; 0: as
// long as anything. Winding the clock starts processes, so a quarter of its time may be
// over before it is wound again.
func (h *Host) progressed(ctx context.Context, next time.Duration) {
	if h.Progress != nil {
		h.Progress(next)
	}
	h.windFor(ctx, max(h.clock.timeout, next), next)
}

// windFor winds the clock, if it runs, unless there is as much time as wanted or a little
// less, but at least so much.
func (h *Host) windFor(ctx context.Context, want, least time.Duration) {
	left := h.clock.rings.Sub(h.now())
	if h.clock.timeout > 0 && (left < max(want-h.clock.timeout/4, least) || left > want) {
		h.windAgain(ctx, want)
	}
}

// carriedOutNow gives the operator the time that there is to confirm, all of it.
func (h *Host) carriedOutNow(ctx context.Context) {
	h.windFor(ctx, h.clock.timeout, 0)
	h.clock.timeout = 0
}

func (h *Host) windAgain(ctx context.Context, after time.Duration) {
	if err := h.wind(ctx, after); err != nil { // it rings when it was to before
		h.Log.Warn("the rollback timer cannot be restarted", "error", err)
	}
}

// reconciler is Reconciler, which tells of what gets done.
func (h *Host) reconciler(facts *spec.Facts, booting bool) *reconcile.Reconciler {
	r := h.Reconciler(facts, booting)
	r.Progress = h.progressed
	return r
}
