package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mobula/helper/internal/store"
)

// clientFiles are the files of one client, which are called by the first label of its
// name. Another client's may be, too: laptop-2.conf belongs to laptop or to laptop-2.
type clientFiles struct {
	dir, short string
	address    netip.Addr
}

// oldSuffix is of configurations whose key counts until the next deploy.
const oldSuffix = ".old"

// config is the nth configuration.
func (f clientFiles) config(n int) string {
	if n == 1 {
		return filepath.Join(f.dir, f.short+".conf")
	}
	return filepath.Join(f.dir, fmt.Sprintf("%s-%d.conf", f.short, n))
}

func (f clientFiles) picture() string { return filepath.Join(f.dir, f.short+".png") }

// own returns the files that are known to be this client's: its configurations by the
// address in them, and the picture of the first.
func (f clientFiles) own() map[string][]byte {
	all := map[string][]byte{}
	for n := 1; n <= 9; n++ {
		for _, path := range []string{f.config(n), f.config(n) + oldSuffix} {
			if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), fmt.Sprintf("\nAddress = %s/32\n", f.address)) {
				all[path] = data
			}
		}
	}
	if picture, err := os.ReadFile(f.picture()); err == nil && all[f.config(1)] != nil {
		all[f.picture()] = picture
	}
	return all
}

// retire adds to the changes what becomes of the files that the client has: a
// configuration with the key that is in force stays under another name, all else goes. It
// refuses to replace a file that is not this client's.
func (f clientFiles) retire(changes map[string][]byte, inForce bool) error {
	own := f.own()
	for path, data := range own {
		isOld := strings.HasSuffix(path, oldSuffix)
		if inForce && strings.HasSuffix(path, ".conf") {
			changes[path+oldSuffix] = data
		}
		if _, changed := changes[path]; !changed && (inForce || !isOld) {
			changes[path] = nil
		}
	}
	var taken []error
	for path := range changes {
		if _, err := os.Lstat(path); err == nil && own[path] == nil {
			taken = append(taken, fmt.Errorf("%s: found a file that is not known to be of the client %s, wanted none; move it away, or name another folder with --dir", path, f.address))
		}
	}
	return errors.Join(taken...)
}

// lock has others wait who change the clients in the same folder. A file system that knows
// no locks goes without.
func (t *clientTask) lock() (unlock func()) {
	dir, err := os.Open(filepath.Dir(t.file))
	if err != nil {
		return func() {}
	}
	_ = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
	return func() { dir.Close() }
}

// write makes all changes of files or none, nil for one that goes, and then that of the
// clients: without it the keys are worth nothing.
func (t *clientTask) write(changes map[string][]byte, text []byte) (err error) {
	before := map[string][]byte{}
	for path := range changes {
		if before[path], err = os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(changes) > 0 {
		if err := os.MkdirAll(t.dir, 0o700); err != nil {
			return err
		}
	}
	defer func() {
		if err == nil {
			return
		}
		for path := range changes {
			err = errors.Join(err, put(path, before[path]))
		}
	}()
	for path, data := range changes {
		if err := put(path, data); err != nil {
			return err
		}
	}
	return t.writeClients(text)
}

// put replaces a file that holds a private key; nil: takes it away.
func put(path string, data []byte) error {
	if data != nil {
		return store.WriteFile(path, data, 0o600)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeClients replaces the file of the clients, wherever a link leads to it.
func (t *clientTask) writeClients(text []byte) error {
	path, mode := t.file, fs.FileMode(0o644)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	return store.WriteFile(path, text, mode)
}
