package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"mobula/helper/internal/network"
	"mobula/helper/internal/wireguard"
)

// Keys holds the host's private WireGuard keys, one a file named after the
// public key in hexadecimal. There is more than one only while keys rotate: the
// network document says which is in use.
type Keys struct {
	dir  string
	disk Disk
}

// Keys returns the store's keys.
func (s *Store) Keys() *Keys { return &Keys{s.path("keys"), s.disk} }

const keySuffix = ".key"

func (k *Keys) path(public network.Key) string {
	return filepath.Join(k.dir, hex.EncodeToString(public[:])+keySuffix)
}

// PrivateKey returns the private half of a public key of this host.
func (k *Keys) PrivateKey(public network.Key) (network.Key, error) {
	data, err := os.ReadFile(k.path(public))
	if errors.Is(err, fs.ErrNotExist) {
		return network.Key{}, fmt.Errorf("public key %s: this host has no private key for it", public)
	}
	if err != nil {
		return network.Key{}, err
	}
	private, err := network.ParseKey(strings.TrimSpace(string(data)))
	if err != nil {
		return network.Key{}, fmt.Errorf("%s: %w", k.path(public), err)
	}
	if wireguard.PublicKey(private) != public {
		return network.Key{}, fmt.Errorf("%s: the private key in it belongs to another public key", k.path(public))
	}
	return private, nil
}

// Create makes a new key and returns its public half.
func (k *Keys) Create() (network.Key, error) {
	private, err := wireguard.GenerateKey()
	if err != nil {
		return network.Key{}, err
	}
	public := wireguard.PublicKey(private)
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return network.Key{}, err
	}
	return public, k.disk.WriteFile(k.path(public), []byte(private.String()+"\n"), 0o600)
}

// Newest returns the public half of the key that was made last; the zero Key if
// there is none.
func (k *Keys) Newest() (network.Key, error) {
	all, err := k.list()
	if err != nil || len(all) == 0 {
		return network.Key{}, err
	}
	return all[len(all)-1], nil
}

// Prune deletes all keys but the given ones.
func (k *Keys) Prune(keep ...network.Key) error {
	kept := map[network.Key]bool{}
	for _, public := range keep {
		kept[public] = true
	}
	all, err := k.list()
	for _, public := range all {
		if !kept[public] {
			err = errors.Join(err, k.disk.Remove(k.path(public)))
		}
	}
	return err
}

// list returns the public keys, oldest first.
func (k *Keys) list() ([]network.Key, error) {
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	made := map[network.Key]int64{}
	var all []network.Key
	for _, entry := range entries {
		raw, err := hex.DecodeString(strings.TrimSuffix(entry.Name(), keySuffix))
		info, infoErr := entry.Info()
		if err != nil || infoErr != nil || len(raw) != len(network.Key{}) {
			continue // not a key of ours, or just deleted
		}
		public := network.Key(raw)
		made[public] = info.ModTime().UnixNano()
		all = append(all, public)
	}
	sort.Slice(all, func(i, j int) bool { return made[all[i]] < made[all[j]] })
	return all, nil
}
