package system

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// unreadDir has a file for each who has not read yet what was changed: nobody else
// knows it of a network manager, nor of the drop-ins of other units than ours, once a
// change was interrupted between a file and its reading. A reboot makes all read, and
// empties it.
const unreadDir = spec.RunDir + "/unread"

// lateNote ends the names of those for what may be read only with the NIC in its place.
const lateNote = ".late"

// unreadFirst notes who has to read a file again and then changes it.
func (s *System) unreadFirst(path string, step reconcile.Step, do func() error) func(context.Context) error {
	who := readBy(path)
	if who == "" {
		return func(context.Context) error { return do() }
	}
	note := who
	if step == reconcile.StepResolver && who != "systemd" {
		note += lateNote
	}
	return func(context.Context) error {
		if err := s.noteUnread(note); err != nil {
			return err
		}
		return do()
	}
}

func (s *System) noteUnread(name string) error {
	note := filepath.Join(s.at(unreadDir), name)
	err := os.WriteFile(note, nil, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(note), 0o700); err == nil {
			err = os.WriteFile(note, nil, 0o600)
		}
	}
	return err
}

// hasRead forgets the notes.
func (s *System) hasRead(who string) error {
	for _, note := range []string{who, who + lateNote} {
		if err := os.Remove(filepath.Join(s.at(unreadDir), note)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// rereading are the operations by which those read again who were not told, where the
// planned ones do not see to it.
func (s *System) rereading(units unitStates, want *spec.Host, planned []reconcile.Operation) (ops []reconcile.Operation) {
	unread := reloads{}
	notes, _ := os.ReadDir(s.at(unreadDir)) // none: it is made with the first note
	for _, note := range notes {
		who, late := strings.CutSuffix(note.Name(), lateNote)
		switch {
		case !s.mayRead(who):
		case late:
			unread[reload{who, reconcile.StepResolver}] = true
		default:
			unread[reload{who, reconcile.StepFiles}] = true
		}
	}
	// Of its units it knows itself; what somebody else changed counts, too. A host that
	// boots has read all of that.
	if systemd := (reload{"systemd", reconcile.StepFiles}); !s.booting && !seenTo(systemd, planned) && units.stale() {
		unread[systemd] = true
	}
	for _, op := range s.reading(unread, reconcile.Change) {
		if !seenTo(reload{op.Object, op.Step}, planned) {
			ops = append(ops, s.awaited(op, want))
		}
	}
	return ops
}

// seenTo reports that planned operations have somebody read in time.
func seenTo(r reload, planned []reconcile.Operation) bool {
	for _, op := range planned {
		inTime := op.Step == r.step || op.Verb == reconcile.Remove && (r.step == reconcile.StepResolver || r.who == "systemd")
		if op.Object == r.who && inTime {
			return true
		}
	}
	return false
}

// awaited waits for NetworkManager when it may have the NIC again.
func (s *System) awaited(op reconcile.Operation, want *spec.Host) reconcile.Operation {
	read := op.Do
	if op.Object != "NetworkManager" || op.Verb != reconcile.Remove && op.Step != reconcile.StepResolver {
		return op
	}
	op.Do = func(ctx context.Context) error {
		err := read(ctx)
		if err == nil {
			s.takenBack(ctx, want)
		}
		return err
	}
	return op
}
