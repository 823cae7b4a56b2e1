package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Save keeps the state of all hosts, memory included, under a name. All are paused together,
// so that they agree about their connections. Down forgets it.
func (l *Lab) Save(name string) error {
	err := l.EachHost((*Host).Pause)
	if err == nil {
		err = l.EachHost(func(h *Host) error { return h.Save(name) })
	}
	return errors.Join(err, l.EachHost((*Host).Resume))
}

// Restore takes all hosts back to what Save kept, in seconds, with the present time on their
// clocks. A host without power gets it back. Faults on the paths stay.
func (l *Lab) Restore(ctx context.Context, name string) error {
	if err := l.EachHost(func(h *Host) error { return h.load(ctx, name) }); err != nil {
		return err
	}
	if err := l.EachHost((*Host).Resume); err != nil {
		return err
	}
	return l.EachHost(func(h *Host) error { return h.setClock(ctx) })
}

// Save is Lab.Save for one host. Its connections to others end when it is restored alone.
func (h *Host) Save(name string) error { return h.hmp("savevm " + name) }

// Restore is Lab.Restore for one host.
func (h *Host) Restore(ctx context.Context, name string) error {
	if err := h.load(ctx, name); err != nil {
		return err
	}
	if err := h.Resume(); err != nil {
		return err
	}
	return h.setClock(ctx)
}

// load leaves the host paused in the state that was saved. It takes another process for that:
// the processor's time stamp counter does not go back within one, so the host would find that
// all of the time since then has gone by at once, and its watchdogs would strike.
func (h *Host) load(ctx context.Context, name string) error {
	if err := h.quit(); err != nil {
		return err
	}
	if err := h.Start(); err != nil {
		return err
	}
	for h.Pause() != nil { // just started: the monitor is not there yet
		if !h.Running() {
			return errors.New("has no power")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return h.hmp("loadvm " + name)
}

// quit ends the process of a machine. If it can, it leaves its disk image in order.
func (h *Host) quit() error {
	if h.Running() && h.qmp("quit", nil) == nil {
		ends(h.pidFile())
	}
	return h.PowerOff()
}

func (h *Host) setClock(ctx context.Context) error {
	_, err := h.Console(ctx, fmt.Sprintf("date -s @%.3f >/dev/null", float64(time.Now().UnixMilli())/1000))
	return err
}
