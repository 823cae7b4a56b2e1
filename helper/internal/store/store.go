// Package store keeps on the host's disk what must survive a reboot: the
// confirmed and the pending change, what the host was before, and its keys.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Store is a directory that only root may read.
type Store struct {
	dir  string
	disk Disk
	mu   sync.Mutex
	read map[string]reading // by the file's name
}

// reading is what a file was when it was read last, and what it said: a file with the same
// bytes says the same.
type reading struct {
	data  []byte
	value any
}

// Disk changes files. A change is there as a whole or not at all, also after a
// power cut.
type Disk interface {
	WriteFile(path string, data []byte, mode fs.FileMode) error
	Rename(from, to string) error
	// Remove takes a missing file for removed.
	Remove(path string) error
}

// New returns the store in dir, which is made when something is first kept.
func New(dir string) *Store { return On(dir, disk{}) }

// On is New with another disk.
func On(dir string, d Disk) *Store { return &Store{dir: dir, disk: d, read: map[string]reading{}} }

// Change is a document that a host was told to have.
type Change struct {
	HostID uint16 `json:"host_id"`
	// Down takes Mobula off the host; there is no document then.
	Down     bool              `json:"down,omitempty"`
	Document *network.Document `json:"document,omitempty"`
	// SSHPorts are the ports of the host's SSH that the change publishes; nil: those
	// of the facts.
	SSHPorts []uint16 `json:"ssh_ports"`
	// Helper is the ID of the program that made the change, see spec.ProgramPath:
	// only that one may plan it. "": one that did not say, see transaction.
	Helper string `json:"helper,omitempty"`

	digest *digest // nil: the document may still be changed
}

// digest is the generation of a document that nobody changes any more, computed once for all
// copies of the change.
type digest struct {
	of         *network.Document
	once       sync.Once
	generation string
}

// NewChange returns one that tells a host to have the document, which is not to be changed
// any more.
func NewChange(hostID uint16, document *network.Document, helper string) *Change {
	c := &Change{HostID: hostID, Document: document, Helper: helper}
	c.seal()
	return c
}

// seal has the generation computed once.
func (c *Change) seal() { c.digest = &digest{of: c.Document} }

// Validate refuses what no host was ever told to have, so that a damaged file
// is an error that says so, and never a plan. Its document was validated when it was read.
func (c *Change) Validate() error {
	switch {
	case c.Helper != "" && !spec.IsProgramID(c.Helper):
		return fmt.Errorf("helper: found %q, wanted the ID of a program", c.Helper)
	case c.Down && c.Document == nil:
		return nil
	case c.Down || c.Document == nil:
		return errors.New("found a change with both or neither of 'down' and a document, wanted one of them")
	}
	if _, ok := c.Self(); !ok {
		return fmt.Errorf("host_id %d: not in the network document", c.HostID)
	}
	return nil
}

// Self returns this host as the document has it; false: it is not in there, or there is none.
func (c *Change) Self() (network.Host, bool) {
	if c == nil || c.Document == nil {
		return network.Host{}, false
	}
	return c.Document.Host(c.HostID)
}

// Generation returns the document's generation, "none" for a host without.
func (c *Change) Generation() string {
	if c == nil || c.Document == nil {
		return "none"
	}
	d := c.digest
	if d == nil || d.of != c.Document { // a copy may have got another document
		return c.Document.Generation()
	}
	d.once.Do(func() { d.generation = d.of.Generation() })
	return d.generation
}

// Same reports that both tell the same host to have the same, by the same program.
func (c *Change) Same(other *Change) bool {
	return c.Helper == other.Helper && c.Down == other.Down && c.HostID == other.HostID && c.Generation() == other.Generation()
}

// Applied is the change that the running host was given last. It belongs into a
// store that a reboot empties.
type Applied struct {
	Change
	// Complete tells that it was carried out to the end.
	Complete bool `json:"complete"`
}

const (
	appliedFile   = "applied.json"
	confirmedFile = "confirmed.json"
	pendingFile   = "pending.json"
	factsFile     = "facts.json"
	// factsCopy stands in for damaged facts: without them nobody knows the NIC's
	// addresses, as its own network manager was told to leave it alone.
	factsCopy = "facts.copy.json"
)

// Confirmed returns the last confirmed change, which boot builds; nil if none.
func (s *Store) Confirmed() (*Change, error) { return read[Change](s, confirmedFile) }

// Pending returns the change that waits for confirmation; nil if none. Without
// facts there is none: it had not begun, or it is gone but for its note.
func (s *Store) Pending() (*Change, error) {
	facts, err := s.Facts()
	if err != nil || facts == nil {
		return nil, err
	}
	return read[Change](s, pendingFile)
}

// Facts returns what the host was before its first change; nil if not known.
func (s *Store) Facts() (*spec.Facts, error) {
	facts, err := read[spec.Facts](s, factsFile)
	if err == nil {
		return facts, nil
	}
	if same, copyErr := read[spec.Facts](s, factsCopy); copyErr == nil && same != nil {
		return same, nil
	}
	return nil, err
}

// SetFacts keeps what the host was, twice.
func (s *Store) SetFacts(f *spec.Facts) error {
	if err := s.write(factsCopy, f); err != nil {
		return err
	}
	return s.write(factsFile, f)
}

// SetPending notes a change before it begins.
func (s *Store) SetPending(c *Change) error { return s.write(pendingFile, c) }

// SetConfirmed makes c the change that boot builds.
func (s *Store) SetConfirmed(c *Change) error { return s.write(confirmedFile, c) }

// Applied returns the change that the running host was given last; nil if none.
func (s *Store) Applied() (*Applied, error) { return read[Applied](s, appliedFile) }

// SetApplied notes what the running host was given; nil: nothing.
func (s *Store) SetApplied(a *Applied) error {
	if a == nil {
		return s.remove(appliedFile)
	}
	return s.write(appliedFile, a)
}

// Confirm makes the pending change the confirmed one. A confirmed Down is one
// that waits while nothing is confirmed, until Forget.
func (s *Store) Confirm() error {
	pending, err := s.Pending()
	switch {
	case err != nil:
		return err
	case pending == nil:
		return errors.New("nothing waits for confirmation")
	case pending.Down:
		return s.remove(confirmedFile)
	}
	return s.disk.Rename(s.path(pendingFile), s.path(confirmedFile))
}

// DropPending forgets the pending change. If nothing was ever confirmed, the
// facts go too: the host is one that Mobula has not changed.
func (s *Store) DropPending() error {
	confirmed, err := s.Confirmed()
	if err == nil && confirmed == nil {
		return s.Forget()
	}
	return errors.Join(err, s.remove(pendingFile))
}

// Forget leaves nothing but the keys.
func (s *Store) Forget() error {
	for _, name := range []string{confirmedFile, factsFile, factsCopy, pendingFile} {
		if err := s.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// read returns nil for a missing file. Documents in what it returns are not to be changed.
func read[T any](s *Store, name string) (*T, error) {
	path := s.path(name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, known := s.read[name].value.(*T); known && bytes.Equal(s.read[name].data, data) {
		value := *last
		return &value, nil
	}
	value, err := decode[T](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if change, ok := any(value).(interface{ seal() }); ok { // large, and all but its document is the reader's own
		change.seal()
		kept := *value
		s.read[name] = reading{data, &kept}
	}
	return value, nil
}

// decode takes only what validates, if there is something to validate.
func decode[T any](data []byte) (*T, error) {
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	if v, ok := any(&value).(interface{ Validate() error }); ok {
		return &value, v.Validate()
	}
	return &value, nil
}

func (s *Store) write(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return s.disk.WriteFile(s.path(name), data, 0o600)
}

func (s *Store) remove(name string) error { return s.disk.Remove(s.path(name)) }

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// disk is the real one.
type disk struct{}

func (disk) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return WriteFile(path, data, mode)
}

func (disk) Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func (disk) Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// WriteFile replaces path in one step: after a power cut it holds either the
// old or the new bytes. The directory must exist.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // fails after the rename, as it should
	_, err = temporary.Write(data)
	if err == nil {
		err = temporary.Chmod(mode)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
