package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"mobula/helper/internal/network"
)

// PublicKeys is the content of wireguard_pubkeys.yml: what the deployer learned
// from the hosts. Runs that do not contact all hosts rely on it.
type PublicKeys struct {
	// Serial and Generation are those of the document that was compiled last;
	// 0 and "" if there was none.
	Serial     int64
	Generation string
	// Hosts are what each host reported, by inventory name. Never nil when it
	// comes from ReadPublicKeys.
	Hosts map[string]HostKey
}

// HostKey is what one host reported.
type HostKey struct {
	// HostID is the ID the host had then; the inventory may have changed since.
	// 0: not known.
	HostID    uint16      `json:"host_id,omitempty"`
	PublicKey network.Key `json:"public_key"`
	// AlsoKey is another key of the host that the others accept while keys
	// rotate; zero: none.
	AlsoKey network.Key `json:"also_key"`
	// UnderlayMTU is the MTU in bytes of the host's uplink; 0: not known.
	UnderlayMTU int `json:"underlay_mtu,omitempty"`
}

// ReadPublicKeys reads wireguard_pubkeys.yml. A missing or empty file holds no
// keys. The error is a Problems.
func ReadPublicKeys(path string) (*PublicKeys, error) {
	var problems collection
	f := &strictFile{path, &problems, map[subject]place{}}
	keys := f.publicKeys()
	return keys, problems.err()
}

// publicKeysFields are the keys at the top of the file.
var publicKeysFields = []string{"wireguard_pubkeys", "serial", "generation"}

// publicKeys reads everything of the file that can be read.
func (f *strictFile) publicKeys() *PublicKeys {
	before := len(f.problems.list)
	keys := f.decodeKeys(f.open(publicKeysFields...))
	for i := before; i < len(f.problems.list); i++ {
		f.problems.list[i].Want += " (if the file cannot be repaired, remove it and deploy all hosts: they still have their keys)"
	}
	return keys
}

func (f *strictFile) decodeKeys(top map[string]*yaml.Node) *PublicKeys {
	keys := &PublicKeys{Hosts: map[string]HostKey{}}
	if n := top["serial"]; n != nil {
		serial, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil || serial < 0 || n.Kind != yaml.ScalarNode {
			f.add(n, "", "serial", describe(n), "seconds since 1970")
		}
		keys.Serial = serial
	}
	if n := top["generation"]; n != nil {
		if keys.Generation = n.Value; !isInventoryName(n.Value) {
			f.add(n, "", "generation", describe(n), "the generation of a document")
		}
	}
	for _, p := range f.entries(top["wireguard_pubkeys"], "wireguard_pubkeys", "a mapping of hosts to keys") {
		name, isText := text(p.key)
		if !isText || !isInventoryName(name) || p.value.Kind != yaml.MappingNode {
			f.add(p.key, "", "wireguard_pubkeys", describe(p.key)+": "+describe(p.value), "an inventory name and a mapping")
			continue
		}
		keys.Hosts[name] = f.hostKey(name, p)
	}
	return keys
}

func (f *strictFile) hostKey(name string, p pair) HostKey {
	var h HostKey
	values := f.known(p.value, name, "host_id", "public_key", "also_key", "underlay_mtu")
	if n := values["host_id"]; n != nil {
		h.HostID = uint16(f.integer(name, "host_id", n, network.MinHostID, network.MaxHostID))
	}
	if n := values["underlay_mtu"]; n != nil {
		h.UnderlayMTU = f.integer(name, "underlay_mtu", n, 1, 1<<20)
		f.places[subject{name, "reported MTU"}] = place{f.path, n.Line}
	}
	if n := values["public_key"]; n != nil {
		h.PublicKey, _ = f.publicKey(name, "public_key", n)
		f.places[subject{name, "key"}] = place{f.path, n.Line}
	} else {
		f.add(p.key, name, "public_key", "nothing", "a WireGuard public key (32 bytes of base64)")
	}
	if n := values["also_key"]; n != nil {
		h.AlsoKey, _ = f.publicKey(name, "also_key", n)
	}
	return h
}

// integer reads an integer in low..high, 0 if it is none.
func (f *strictFile) integer(entry, field string, n *yaml.Node, low, high int) int {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || i < low || i > high {
		f.add(n, entry, field, describe(n), fmt.Sprintf("an integer in %d..%d", low, high))
		return 0
	}
	return i
}

// Merge takes over what the hosts contacted in this run reported and drops hosts
// that are no longer in the inventory. The others stay.
func (k *PublicKeys) Merge(collected map[string]HostKey, inventory []string) {
	merged := make(map[string]HostKey, len(inventory))
	for _, name := range inventory {
		if h, contacted := collected[name]; contacted && !h.PublicKey.IsZero() {
			merged[name] = h
		} else if h, known := k.Hosts[name]; known {
			merged[name] = h
		}
	}
	k.Hosts = merged
}

// Number gives the document its serial: the previous one if the network is the
// same, else now, and in any case more than the previous one.
func (k *PublicKeys) Number(d *network.Document, now time.Time) {
	generation := d.Generation()
	if generation != k.Generation || k.Serial == 0 {
		k.Serial = max(now.Unix(), k.Serial+1)
		k.Generation = generation
	}
	d.Serial = k.Serial
}

const publicKeysHeader = `# Written by Mobula at every deploy: what the hosts reported. Keep it with the
# inventory; a deploy with --limit takes the keys of the other hosts from here.
# Public keys are no secret. The private ones never leave their hosts.
`

// Encode returns the file: sorted, one host a line.
func (k *PublicKeys) Encode() []byte {
	var b bytes.Buffer
	b.WriteString(publicKeysHeader)
	if k.Serial != 0 {
		fmt.Fprintf(&b, "serial: %d\n", k.Serial)
	}
	if k.Generation != "" {
		fmt.Fprintf(&b, "generation: %s\n", quoted(k.Generation))
	}
	b.WriteString("wireguard_pubkeys:")
	if len(k.Hosts) == 0 {
		b.WriteString(" {}")
	}
	b.WriteString("\n")
	names := make([]string, 0, len(k.Hosts))
	for name := range k.Hosts {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return nameLess(names[i], names[j]) })
	for _, name := range names {
		h := k.Hosts[name]
		key := name
		if a, err := netip.ParseAddr(name); err != nil || !a.Is4() {
			key = quoted(name)
		}
		fmt.Fprintf(&b, "  %s: {", key)
		if h.HostID != 0 {
			fmt.Fprintf(&b, "host_id: %d, ", h.HostID)
		}
		fmt.Fprintf(&b, "public_key: '%s'", h.PublicKey)
		if !h.AlsoKey.IsZero() {
			fmt.Fprintf(&b, ", also_key: '%s'", h.AlsoKey)
		}
		if h.UnderlayMTU != 0 {
			fmt.Fprintf(&b, ", underlay_mtu: %d", h.UnderlayMTU)
		}
		b.WriteString("}\n")
	}
	return b.Bytes()
}

// quoted returns s, which can be printed, as a double-quoted YAML string.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// nameLess orders addresses by their value and before all other names.
func nameLess(a, b string) bool {
	addressA, errA := netip.ParseAddr(a)
	addressB, errB := netip.ParseAddr(b)
	switch {
	case errA == nil && errB == nil && addressA != addressB:
		return addressA.Less(addressB)
	case (errA == nil) != (errB == nil):
		return errA == nil
	}
	return a < b
}

// Write replaces the file at once, with mode 0644, if its content differs, and
// reports whether it did.
func (k *PublicKeys) Write(path string) (changed bool, err error) {
	data := k.Encode()
	switch old, err := os.ReadFile(path); {
	case err == nil && bytes.Equal(old, data):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("comparing the public keys: %w", err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // replace what a link points to, not the link
	}
	if err := writeAtomically(path, data); err != nil {
		return false, fmt.Errorf("writing the public keys: %w", err)
	}
	return true, nil
}

func writeAtomically(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
