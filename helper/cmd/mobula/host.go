package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/hostnames"
	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/packetfilter"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/vswitch"
	"mobula/helper/internal/wireguard"
)

const documentFormat = network.FormatVersion

// host wires the hands of this host together.
func (c *call) host() *transaction.Host {
	kept, ofHost := store.New(plan.StateDir), c.ofHost()
	return &transaction.Host{
		Store: kept, Alarm: system.Alarm{Program: ofHost.Self()}, Programs: ofHost, Survey: survey, Ways: links.Ways, ResolvConf: system.ResolvConf, SSHPorts: system.SSHPorts, Run: store.New(plan.RunDir), Log: c.log,
		Reconciler: func(facts *plan.Facts, booting bool) *reconcile.Reconciler {
			return &reconcile.Reconciler{Log: c.log, Subjects: []reconcile.Subject{
				system.New(facts.NICThatMoves(), booting),
				links.New(links.Netlink{}),
				wireguard.New(plan.Namespace, plan.WireLink, kept.Keys()),
				firewall.New(plan.Namespace, plan.RunDir),
				firewall.NewDoorway(plan.RunDir),
				packetfilter.NewOpener(plan.StateDir),
				relaying(),
				hostnames.New(packetfilter.Run, store.WriteFile),
				vswitch.New(vswitch.Options{RunDir: plan.OVSDir}),
			}}
		},
	}
}

// relaying is the hand for what a host that keeps its NIC sends on.
func relaying() *firewall.Relaying { return firewall.NewRelaying(plan.RunDir, links.Onward) }

// survey finds what a host is, as far as it matters to a host of which a document with
// these ranges says this; known are the facts of the other way outside, if Mobula is on the host already.
func survey(ctx context.Context, ranges network.Ranges, self network.Host, known *plan.Facts) (facts *plan.Facts, err error) {
	switch {
	case self.SharedUplink && known != nil:
		ways, err := links.Ways()
		if err != nil {
			return nil, err
		}
		return known.Stays(ways)
	case self.SharedUplink:
		facts, err = links.SurveyShared(ranges)
	default:
		facts, err = links.Survey(ranges, self.Uplink, known != nil)
	}
	if facts == nil {
		return nil, err
	}
	if known != nil {
		ways, waysErr := links.Ways()
		facts, err = facts.Moves(known, ways.Router), errors.Join(err, waysErr)
	}
	err = errors.Join(err, system.Survey(ctx, ranges, facts))
	if known == nil {
		err = errors.Join(err, system.Near(ranges, self, facts))
	}
	return facts, err
}

// root refuses to go on without the privileges that the kernel will ask for.
func root() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("found user ID %d, wanted root (0): network namespaces, interfaces and WireGuard need it", os.Geteuid())
	}
	return nil
}

func lockPath() string { return filepath.Join(plan.RunDir, "lock") }

// holder is who holds the lock.
type holder struct {
	Doing string    `json:"doing"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// heldBy is the error of who does not get the lock.
type heldBy struct{ holder }

func (by heldBy) Error() string {
	return fmt.Sprintf("this host is being changed by 'mobula %s' (process %d) since %s; try again when it is done",
		by.Doing, by.PID, by.Since.Format(time.TimeOnly))
}

// lockAfterRepair is lock for a change: it gives a repair, which takes its time on
// a busy host and ends by itself, up to repairPatience more.
func lockAfterRepair(ctx context.Context, doing string, patience time.Duration) (unlock func(), err error) {
	unlock, err = lock(ctx, doing, patience)
	var by heldBy
	if errors.As(err, &by) && by.Doing == "repair" {
		return lock(ctx, doing, repairPatience)
	}
	return unlock, err
}

// lock makes sure that one process at a time changes the host. It waits for at
// most patience. The lock goes with the process, however it ends.
func lock(ctx context.Context, doing string, patience time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(plan.RunDir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			var by heldBy
			_ = json.NewDecoder(file).Decode(&by.holder) // tells who, if it can
			file.Close()
			return nil, exitError{exitBusy, by}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if data, err := json.Marshal(holder{doing, os.Getpid(), time.Now()}); err == nil {
		_ = file.Truncate(0) // only for the reader of the message above
		_, _ = file.WriteAt(data, 0)
	}
	return func() { file.Close() }, nil
}

// evict ends whoever holds the lock, so that a helper that hangs cannot keep the
// way back from its work. A boot has a limit of its own, set by systemd, and ends
// with the host reachable.
func evict(log *slog.Logger) error {
	data, err := os.ReadFile(lockPath())
	if err != nil {
		return err
	}
	var who holder
	if err := json.Unmarshal(data, &who); err != nil {
		return fmt.Errorf("%s: %w", lockPath(), err)
	}
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", who.PID))
	program = strings.TrimSuffix(program, " (deleted)")
	if who.Doing == "boot" || program != plan.Helper && plan.ProgramID(program) == "" {
		return nil // or it has just ended
	}
	log.Warn("ending what hangs and holds the lock", "doing", who.Doing, "process", who.PID, "since", who.Since)
	return syscall.Kill(who.PID, syscall.SIGKILL)
}

// readDocument reads and validates a network document; "-" is standard input.
func (c *call) readDocument(path string) (*network.Document, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(c.stdin)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	return network.Parse(data)
}

// readChange returns the change that the flags name; without a document it is
// the one that the host has confirmed.
func (c *call) readChange(h *transaction.Host, path string, hostID uint16) (*store.Change, error) {
	if path == "" {
		confirmed, err := h.Store.Confirmed()
		if err == nil && confirmed == nil {
			err = exitError{exitUsage, errors.New("this host has no network document yet: name one with --document")}
		}
		if err == nil {
			confirmed.Helper = h.Programs.Self()
		}
		return confirmed, err
	}
	document, err := c.readDocument(path)
	if err != nil {
		return nil, err
	}
	if hostID == 0 {
		confirmed, err := h.Store.Confirmed()
		if err != nil {
			return nil, err
		}
		if confirmed == nil {
			return nil, exitError{exitUsage, errors.New("--host-id: wanted the ID of this host in the document")}
		}
		hostID = confirmed.HostID
	}
	return &store.Change{HostID: hostID, Document: document, Helper: h.Programs.Self()}, nil
}

// outcome is what plan and apply report.
type outcome struct {
	Changed     bool     `json:"changed"`
	Generation  string   `json:"generation"`
	Operations  []string `json:"operations"`
	Interrupted int      `json:"interrupted_peers"`
	// Names are the private names that come, go or move. DNS answers from the
	// document, so no operation shows them.
	Names []string `json:"names"`
	// Reconnect tells that SSH connections to the public address end, because
	// the NIC moves.
	Reconnect bool `json:"reconnect"`
	// Confirm tells that the change has to be confirmed.
	Confirm bool `json:"confirm"`
	// Done tells that the change was carried out and waits for confirmation.
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
	Steps *steps `json:"steps,omitempty"`
}

// steps are what apply and confirm would do, in this order. Both can be
// interrupted before each.
type steps struct {
	Apply   []string `json:"apply"`
	Confirm []string `json:"confirm"`
}

func newSteps(h *transaction.Host, change *store.Change, ops []reconcile.Operation) *steps {
	apply, confirm := h.Steps(change, ops)
	return &steps{append(apply, stepResult), confirm}
}

// newOutcome tells what ops make of the confirmed change, which may be none.
func newOutcome(confirmed, change *store.Change, ops []reconcile.Operation) outcome {
	o := outcome{Changed: len(ops) > 0, Generation: change.Generation(), Operations: []string{}, Names: []string{}, Interrupted: reconcile.Interrupted(ops)}
	if confirmed != nil && confirmed.Document != nil && change.Document != nil {
		o.Names = append(o.Names, network.NameChanges(confirmed.Document, change.Document)...)
	}
	for _, op := range ops {
		o.Operations = append(o.Operations, op.String())
		o.Reconnect = o.Reconnect || op.Reconnects
	}
	return o
}

func (c *call) printOutcome(o outcome, asJSON bool) error {
	if asJSON {
		return c.printJSON(o)
	}
	for _, line := range append(o.Operations, o.Names...) {
		fmt.Fprintln(c.stdout, line)
	}
	if !o.Changed && len(o.Names) > 0 {
		fmt.Fprintf(c.stdout, "nothing but names, DNS takes them from generation %s\n", o.Generation)
		return nil
	}
	if !o.Changed {
		fmt.Fprintf(c.stdout, "nothing to do, the host has generation %s\n", o.Generation)
		return nil
	}
	fmt.Fprintf(c.stdout, "%d changes to generation %s, %d peers interrupted\n", len(o.Operations), o.Generation, o.Interrupted)
	return nil
}
