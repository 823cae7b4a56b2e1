package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

func change(serial int64) *Change {
	d := plantest.Document(plantest.Host(1), plantest.Host(uint16(serial)+1))
	d.Serial = serial
	return &Change{HostID: 1, Document: d}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names lists the files of the store.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestEmptyStore(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "state"))
	confirmed, err := s.Confirmed()
	pending, err2 := s.Pending()
	facts, err3 := s.Facts()
	applied, err4 := s.Applied()
	if confirmed != nil || pending != nil || facts != nil || applied != nil || errors.Join(err, err2, err3, err4) != nil {
		t.Errorf("%v %v %v %v: %v", confirmed, pending, facts, applied, errors.Join(err, err2, err3, err4))
	}
	if err := s.Confirm(); err == nil || err.Error() != "nothing waits for confirmation" {
		t.Errorf("error %v", err)
	}
	must(t, s.DropPending())
	must(t, s.SetApplied(nil))
}

func TestLifeOfAChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := New(dir)
	must(t, s.SetPending(change(1)))
	if pending, err := s.Pending(); pending != nil || err != nil {
		t.Errorf("without facts %v waits, %v", pending, err)
	}
	must(t, s.SetFacts(plantest.Facts(spec.Ifupdown)))
	if pending, err := s.Pending(); err != nil || pending.Generation() != change(1).Generation() {
		t.Errorf("%v waits, %v", pending, err)
	}
	must(t, s.DropPending())
	if got := names(t, dir); got != "" {
		t.Errorf("after the first change was dropped: %s", got)
	}
	must(t, s.SetPending(change(1)))
	must(t, s.SetFacts(plantest.Facts()))
	must(t, s.Confirm())
	if got := names(t, dir); got != "confirmed.json facts.copy.json facts.json" {
		t.Errorf("after the first change was confirmed: %s", got)
	}
	must(t, s.SetPending(change(2)))
	must(t, s.DropPending())
	if confirmed, err := s.Confirmed(); err != nil || confirmed.Generation() != change(1).Generation() {
		t.Errorf("after the second change was dropped: %v, %v", confirmed, err)
	}
	must(t, s.SetPending(change(2)))
	must(t, s.Confirm())
	if confirmed, err := s.Confirmed(); err != nil || confirmed.Generation() != change(2).Generation() {
		t.Errorf("after the second change was confirmed: %v, %v", confirmed, err)
	}
	must(t, s.SetPending(&Change{Down: true}))
	must(t, s.Confirm())
	if got := names(t, dir); got != "facts.copy.json facts.json pending.json" {
		t.Errorf("after the removal was confirmed: %s", got)
	}
	must(t, s.Forget())
	if got := names(t, dir); got != "" {
		t.Errorf("in the end: %s", got)
	}
}

func TestFactsComeBackAsTheyWere(t *testing.T) {
	s := New(t.TempDir())
	f := plantest.Facts(spec.Ifupdown, spec.NetworkManager)
	f.ResolvConf = spec.File{Path: spec.ResolvConfPath, Target: "../run/x", Content: "nameserver 192.0.2.53\n"}
	must(t, s.SetFacts(f))
	got, err := s.Facts()
	must(t, err)
	want, err := plan.Build(plantest.Document(plantest.Host(1)), 1, *f)
	must(t, err)
	again, err := plan.Build(plantest.Document(plantest.Host(1)), 1, *got)
	must(t, err)
	if a, b := text(want), text(again); a != b {
		t.Errorf("found\n%s\nwanted\n%s", b, a)
	}
}

func text(h *spec.Host) string {
	var b bytes.Buffer
	for _, r := range h.Routes {
		b.WriteString(r.NS + r.To.String() + r.Via.String() + "\n")
	}
	for _, l := range h.Links {
		b.WriteString(l.Name + l.MAC.String() + "\n")
	}
	for _, f := range append(h.Files, plan.Without(spec.Facts{}).Files...) {
		b.WriteString(f.Path + f.Content + f.Target + f.Mode.String() + "\n")
	}
	return b.String()
}

func TestApplied(t *testing.T) {
	s := New(t.TempDir())
	must(t, s.SetApplied(&Applied{Change: *change(1), Complete: true}))
	a, err := s.Applied()
	if err != nil || !a.Complete || a.HostID != 1 || a.Generation() != change(1).Generation() {
		t.Errorf("%+v, %v", a, err)
	}
	must(t, s.SetApplied(nil))
	if a, err := s.Applied(); a != nil || err != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestSelf: this host as the document has it, and none where there is no document.
func TestSelf(t *testing.T) {
	if self, ok := change(2).Self(); !ok || self.ID != 1 {
		t.Errorf("%+v, %v", self, ok)
	}
	stranger := change(2)
	stranger.HostID = 9
	for _, c := range []*Change{nil, {Down: true}, {}, stranger} {
		if self, ok := c.Self(); ok || self.ID != 0 {
			t.Errorf("%+v: %+v", c, self)
		}
	}
}

// TestGenerationIsComputedOnce for what was read, all copies of it and all who ask at once;
// a copy that got another document has another one.
func TestGenerationIsComputedOnce(t *testing.T) {
	s := New(t.TempDir())
	must(t, s.SetConfirmed(change(1)))
	read, err := s.Confirmed()
	must(t, err)
	again, err := s.Confirmed()
	must(t, err)
	made := NewChange(1, change(1).Document, "")
	copied := *made
	var all sync.WaitGroup
	for _, c := range []*Change{read, again, made, &copied} {
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				if got, want := c.Generation(), change(1).Generation(); got != want {
					t.Errorf("found %s, wanted %s", got, want)
				}
			}()
		}
	}
	all.Wait()
	for _, c := range []*Change{read, again, made, &copied} {
		if n := testing.AllocsPerRun(10, func() { c.Generation() }); n > 0 {
			t.Errorf("it was computed again, with %v allocations", n)
		}
	}
	copied.Document = change(2).Document
	if got, want := copied.Generation(), change(2).Generation(); got != want || made.Same(&copied) {
		t.Errorf("with another document: found %s, wanted %s", got, want)
	}
}

func TestCorruptFiles(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	must(t, s.SetFacts(plantest.Facts()))
	must(t, os.WriteFile(filepath.Join(dir, factsFile), nil, 0o600))
	if facts, err := s.Facts(); err != nil || facts.Uplink != plantest.Facts().Uplink {
		t.Errorf("with a copy of damaged facts: %+v, %v", facts, err)
	}
	must(t, s.SetFacts(plantest.Facts()))
	must(t, os.Remove(filepath.Join(dir, factsCopy)))
	for name, read := range map[string]func() error{
		confirmedFile: func() error { _, err := s.Confirmed(); return err },
		pendingFile:   func() error { _, err := s.Pending(); return err },
		factsFile:     func() error { _, err := s.Facts(); return err },
		appliedFile:   func() error { _, err := s.Applied(); return err },
	} {
		path := filepath.Join(dir, name)
		good, _ := os.ReadFile(path)
		for _, bad := range []string{"", "{", `{"host_id":1,`, "[]", `{"host_id":"x","uplink":1}`} {
			must(t, os.WriteFile(path, []byte(bad), 0o600))
			if err := read(); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
				t.Errorf("%s with %q: error %v", name, bad, err)
			}
		}
		must(t, os.Remove(path))
		if good != nil {
			must(t, os.WriteFile(path, good, 0o600))
		}
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := New(dir)
	must(t, s.SetFacts(plantest.Facts()))
	must(t, s.SetPending(change(1)))
	public, err := s.Keys().Create()
	must(t, err)
	for path, want := range map[string]fs.FileMode{
		dir: 0o700, filepath.Join(dir, factsFile): 0o600, filepath.Join(dir, pendingFile): 0o600,
		filepath.Join(dir, "keys"): 0o700, s.Keys().path(public): 0o600,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %o, wanted %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "", "second, longer"} {
		must(t, WriteFile(path, []byte(content), 0o640))
		data, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(data) != content || info.Mode().Perm() != 0o640 {
			t.Errorf("%q, %v, %v", data, info, err)
		}
	}
	if err := WriteFile(filepath.Join(dir, "missing", "file"), nil, 0o600); err == nil {
		t.Error("wrote into a missing directory")
	}
	// What fails leaves the old content and nothing else.
	must(t, os.MkdirAll(filepath.Join(dir, "directory", "full"), 0o755))
	if err := WriteFile(filepath.Join(dir, "directory"), []byte("x"), 0o600); err == nil {
		t.Error("replaced a directory")
	}
	if got := names(t, dir); got != "directory file" {
		t.Errorf("left behind: %s", got)
	}
	// A link is replaced, not followed.
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	must(t, WriteFile(filepath.Join(dir, "link"), []byte("x"), 0o600))
	if data, _ := os.ReadFile(path); string(data) != "second, longer" {
		t.Errorf("followed the link: %q", data)
	}
}

// brokenDisk fails at one of its calls, counted from 1.
type brokenDisk struct {
	disk
	left int
}

var errDisk = errors.New("no space left on device")

func (b *brokenDisk) broken() bool { b.left--; return b.left == 0 }

func (b *brokenDisk) WriteFile(path string, data []byte, mode fs.FileMode) error {
	if b.broken() {
		return errDisk
	}
	return b.disk.WriteFile(path, data, mode)
}

func (b *brokenDisk) Rename(from, to string) error {
	if b.broken() {
		return errDisk
	}
	return b.disk.Rename(from, to)
}

func (b *brokenDisk) Remove(path string) error {
	if b.broken() {
		return errDisk
	}
	return b.disk.Remove(path)
}

// TestDiskErrors holds that each error is told, and that doing it again ends
// where doing it once does.
func TestDiskErrors(t *testing.T) {
	acts := map[string]func(*Store) error{
		"confirm": (*Store).Confirm, "drop": (*Store).DropPending, "forget": (*Store).Forget,
		"set": func(s *Store) error { return s.SetConfirmed(change(3)) },
		"key": func(s *Store) error { _, err := s.Keys().Create(); return err },
	}
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			for at := 1; ; at++ {
				dir := t.TempDir()
				s := New(dir)
				must(t, s.SetPending(change(2)))
				must(t, s.SetFacts(plantest.Facts()))
				must(t, s.SetConfirmed(change(1)))
				d := &brokenDisk{left: at}
				err := act(On(dir, d))
				if d.left > 0 {
					must(t, err)
					return
				}
				if !errors.Is(err, errDisk) {
					t.Fatalf("error %v at call %d", err, at)
				}
				must(t, act(s))
			}
		})
	}
}

func TestKeys(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "state"))
	k := s.Keys()
	if newest, err := k.Newest(); err != nil || !newest.IsZero() {
		t.Errorf("%v, %v", newest, err)
	}
	if _, err := k.PrivateKey(network.Key{1}); err == nil || err.Error() != "public key "+(network.Key{1}).String()+": this host has no private key for it" {
		t.Errorf("error %v", err)
	}
	first, err := k.Create()
	must(t, err)
	must(t, os.Chtimes(k.path(first), ago, ago))
	second, err := k.Create()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.dir, "keys", "README"), nil, 0o600))
	if newest, err := k.Newest(); err != nil || newest != second {
		t.Errorf("newest %v, %v, wanted %v", newest, err, second)
	}
	if private, err := k.PrivateKey(first); err != nil || private.IsZero() || private == first {
		t.Errorf("%v", err)
	}
	data, err := os.ReadFile(k.path(second))
	must(t, err)
	must(t, os.WriteFile(k.path(first), data, 0o600))
	if _, err := k.PrivateKey(first); err == nil || !strings.HasSuffix(err.Error(), "the private key in it belongs to another public key") {
		t.Errorf("error %v", err)
	}
	must(t, os.WriteFile(k.path(first), []byte("x\n"), 0o600))
	if _, err := k.PrivateKey(first); err == nil || !strings.HasSuffix(err.Error(), "not 32 bytes of base64") {
		t.Errorf("error %v", err)
	}
	must(t, k.Prune(first, second))
	if all, err := k.list(); err != nil || len(all) != 2 {
		t.Errorf("%v, %v, wanted both keys", all, err)
	}
	must(t, k.Prune(second))
	if _, err := k.PrivateKey(second); err != nil {
		t.Error(err)
	}
	if got := names(t, filepath.Join(s.dir, "keys")); strings.Count(got, keySuffix) != 1 {
		t.Errorf("left: %s", got)
	}
}

var ago = time.Now().Add(-time.Hour)
