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

// PublicKeys is what the deployer learned from the hosts. Runs that do not contact
// all hosts rely on it. It is kept in two files: wireguard_pubkeys.yml has each
// host's public key and nothing else, for whoever needs the keys; mobula_state.yml
// has what else a deploy has to remember.
type PublicKeys struct {
	// Serial and Generation are those of the document that was compiled last;
	// 0 and "" if there was none.
	Serial     int64
	Generation string
	// Ranges are those of that document.
	Ranges network.Ranges
	// Hosts are what is kept of each host, by inventory name. Never nil when it
	// comes from ReadPublicKeys.
	Hosts map[string]HostKey
}

// KeyFiles are the paths of the two files; an empty path stands for no file.
type KeyFiles struct{ Keys, State string }

// HostKey is what is kept of one host.
type HostKey struct {
	// HostID is the ID the host had then; the inventory may have changed since.
	// 0: not known.
	HostID    uint16
	PublicKey network.Key
	// AlsoKey is another key of the host that the others accept while keys
	// rotate; zero: none.
	AlsoKey network.Key
	// UnderlayMTU is the MTU in bytes of the host's uplink; 0: not known.
	UnderlayMTU int
	// UplinkMode is that of the host, see network.UplinkMode; "": as of a host of which
	// this was never noted.
	UplinkMode string
}

// ReadPublicKeys reads both files. One that is missing or empty holds nothing. The
// error is a Problems.
func ReadPublicKeys(files KeyFiles) (*PublicKeys, error) {
	var problems collection
	keys := readKeys(files, &problems, map[subject]place{})
	return keys, problems.err()
}

// readKeys reads everything of the files that can be read.
func readKeys(files KeyFiles, problems *collection, places map[subject]place) *PublicKeys {
	before := len(problems.list)
	keysFile, stateFile := &strictFile{files.Keys, problems, places}, &strictFile{files.State, problems, places}
	keys := decodeKeys(keysFile, keysFile.root(), stateFile, stateFile.root())
	for i := before; i < len(problems.list); i++ {
		problems.list[i].Want += " (if the file cannot be repaired, remove it and deploy all hosts: they still have their keys)"
	}
	return keys
}

// decodeKeys takes the content of both files together.
func decodeKeys(keysFile *strictFile, keysRoot *yaml.Node, stateFile *strictFile, stateRoot *yaml.Node) *PublicKeys {
	state := stateFile.state(stateRoot, "hosts", (*strictFile).hostState)
	if isOneFile(keysRoot) {
		old := keysFile.state(keysRoot, "wireguard_pubkeys", (*strictFile).hostKey)
		old.Serial = max(old.Serial, state.Serial)
		return old
	}
	keys := &PublicKeys{Serial: state.Serial, Generation: state.Generation, Ranges: state.Ranges, Hosts: map[string]HostKey{}}
	for _, p := range keysFile.entries(keysRoot, "", "a mapping of hosts to WireGuard public keys") {
		name, isText := text(p.key)
		if !isText || !isInventoryName(name) {
			keysFile.add(p.key, "", "", describe(p.key), "an inventory name")
			continue
		}
		h := state.Hosts[name]
		h.PublicKey, _ = keysFile.publicKey(name, "key", p.value)
		keysFile.places[subject{name, "key"}] = place{keysFile.path, p.value.Line}
		if h.AlsoKey == h.PublicKey { // the files are of different deploys
			h.AlsoKey = network.Key{}
		}
		keys.Hosts[name] = h
	}
	return keys
}

// isOneFile reports that wireguard_pubkeys.yml is of the form in which it held the
// state, too. It is written in its new form with the next deploy.
func isOneFile(root *yaml.Node) bool {
	for _, p := range pairs(root) {
		if p.key.Value == "wireguard_pubkeys" && (p.value.Kind == yaml.MappingNode || isNull(p.value)) {
			return true
		}
	}
	return false
}

// state reads serial, generation and a table of hosts, whose entries entry reads.
func (f *strictFile) state(root *yaml.Node, table string, entry func(*strictFile, string, pair) HostKey) *PublicKeys {
	keys := &PublicKeys{Hosts: map[string]HostKey{}}
	top := f.top(root, table, "serial", "generation", wireNetwork, accessNetwork)
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
	keys.Ranges = network.NewRanges(f.slash16(wireNetwork, top[wireNetwork]), f.slash16(accessNetwork, top[accessNetwork]))
	for _, p := range f.entries(top[table], table, "a mapping of hosts") {
		name, isText := text(p.key)
		if !isText || !isInventoryName(name) || p.value.Kind != yaml.MappingNode {
			f.add(p.key, "", table, describe(p.key)+": "+describe(p.value), "an inventory name and a mapping")
			continue
		}
		keys.Hosts[name] = entry(f, name, p)
	}
	return keys
}

// slash16 reads a network; 0: none.
func (f *strictFile) slash16(field string, n *yaml.Node) network.Slash16 {
	if n == nil {
		return 0
	}
	is, err := network.ParseSlash16(n.Value)
	if err != nil {
		f.add(n, "", field, describe(n), network.WantSlash16)
	}
	return is
}

// hostState reads a host's entry in mobula_state.yml.
func (f *strictFile) hostState(name string, p pair) HostKey {
	return f.hostValues(name, f.known(p.value, name, "host_id", "also_key", "underlay_mtu", "uplink_mode"))
}

// hostKey reads a host's entry of the form with key and state in one.
func (f *strictFile) hostKey(name string, p pair) HostKey {
	values := f.known(p.value, name, "host_id", "public_key", "also_key", "underlay_mtu")
	h := f.hostValues(name, values)
	if n := values["public_key"]; n != nil {
		h.PublicKey, _ = f.publicKey(name, "public_key", n)
		f.places[subject{name, "key"}] = place{f.path, n.Line}
	} else {
		f.add(p.key, name, "public_key", "nothing", "a WireGuard public key (32 bytes of base64)")
	}
	return h
}

func (f *strictFile) hostValues(name string, values map[string]*yaml.Node) (h HostKey) {
	if n := values["host_id"]; n != nil {
		h.HostID = uint16(f.integer(name, "host_id", n, network.MinHostID, network.MaxHostID))
	}
	if n := values["underlay_mtu"]; n != nil {
		h.UnderlayMTU = f.integer(name, "underlay_mtu", n, 1, 1<<20)
		f.places[subject{name, "reported MTU"}] = place{f.path, n.Line}
	}
	if n := values["uplink_mode"]; n != nil {
		if h.UplinkMode = n.Value; n.Kind != yaml.ScalarNode || h.UplinkMode != network.UplinkMode(true) {
			f.add(n, name, "uplink_mode", describe(n), network.UplinkMode(true))
		}
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
// that are no longer in the inventory. The others stay. It returns those of which nothing
// stayed.
func (k *PublicKeys) Merge(p Phase, collected map[string]Reported, inventory []string) (replaced map[string]bool) {
	merged := make(map[string]HostKey, len(inventory))
	replaced = map[string]bool{}
	for _, name := range inventory {
		kept, known := k.Hosts[name]
		h, isNew := p.next(kept, collected[name])
		if isNew || known {
			merged[name] = h
		}
		if isNew {
			replaced[name] = true
		}
	}
	k.Hosts = merged
	return replaced
}

// Number gives the document its serial: the previous one if the network is the
// same, else now, and in any case more than the previous one.
func (k *PublicKeys) Number(d *network.Document, now time.Time) {
	generation := d.Generation()
	if generation != k.Generation || k.Serial == 0 {
		k.Serial = max(now.Unix(), k.Serial+1)
		k.Generation = generation
	}
	d.Serial, k.Ranges = k.Serial, d.Ranges
}

const keysHeader = `# Written by Mobula at every deploy: the hosts' WireGuard public keys, which are no
# secret. The private ones never leave their hosts. Keep it with the inventory; a
# deploy with --limit takes the keys of the other hosts from here.
`

const stateHeader = `# Written by Mobula at every deploy: what else the next one has to remember. Keep it
# beside wireguard_pubkeys.yml.
`

// EncodeKeys returns wireguard_pubkeys.yml: sorted, one host a line.
func (k *PublicKeys) EncodeKeys() []byte {
	var b bytes.Buffer
	b.WriteString(keysHeader)
	for _, name := range k.names() {
		fmt.Fprintf(&b, "%s: '%s'\n", hostKeyText(name), k.Hosts[name].PublicKey)
	}
	return b.Bytes()
}

// EncodeState returns mobula_state.yml: sorted, one host a line.
func (k *PublicKeys) EncodeState() []byte {
	var b bytes.Buffer
	b.WriteString(stateHeader)
	if k.Serial != 0 {
		fmt.Fprintf(&b, "serial: %d\n", k.Serial)
	}
	if k.Generation != "" {
		fmt.Fprintf(&b, "generation: %s\n", quoted(k.Generation))
	}
	if k.Ranges.WireNetwork != 0 {
		fmt.Fprintf(&b, "%s: %s\n", wireNetwork, k.Ranges.Wire())
	}
	if k.Ranges.AccessNetwork != 0 {
		fmt.Fprintf(&b, "%s: %s\n", accessNetwork, k.Ranges.Access())
	}
	b.WriteString("hosts:\n")
	for _, name := range k.names() {
		h := k.Hosts[name]
		var fields []string
		if h.HostID != 0 {
			fields = append(fields, fmt.Sprintf("host_id: %d", h.HostID))
		}
		if !h.AlsoKey.IsZero() {
			fields = append(fields, fmt.Sprintf("also_key: '%s'", h.AlsoKey))
		}
		if h.UnderlayMTU != 0 {
			fields = append(fields, fmt.Sprintf("underlay_mtu: %d", h.UnderlayMTU))
		}
		if h.UplinkMode == network.UplinkMode(true) { // not said of the others, as before there were two
			fields = append(fields, "uplink_mode: "+h.UplinkMode)
		}
		if len(fields) > 0 {
			fmt.Fprintf(&b, "  %s: {%s}\n", hostKeyText(name), strings.Join(fields, ", "))
		}
	}
	return b.Bytes()
}

// names are those of the hosts in the order of the files.
func (k *PublicKeys) names() []string {
	names := make([]string, 0, len(k.Hosts))
	for name := range k.Hosts {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return nameLess(names[i], names[j]) })
	return names
}

// hostKeyText is a host's name as the key of a mapping.
func hostKeyText(name string) string {
	if a, err := netip.ParseAddr(name); err == nil && a.Is4() {
		return name
	}
	return quoted(name)
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

// Write replaces the files whose content differs, each at once and with mode 0644,
// and reports whether it did. The keys come last: as long as they are of the old
// form, they hold the state as well.
func (k *PublicKeys) Write(files KeyFiles) (changed bool, err error) {
	for _, f := range []struct {
		path string
		data []byte
	}{{files.State, k.EncodeState()}, {files.Keys, k.EncodeKeys()}} {
		one, err := replace(f.path, f.data)
		if err != nil {
			return changed, err
		}
		changed = changed || one
	}
	return changed, nil
}

func replace(path string, data []byte) (changed bool, err error) {
	switch old, err := os.ReadFile(path); {
	case err == nil && bytes.Equal(old, data):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("comparing with what is kept: %w", err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // replace what a link points to, not the link
	}
	if err := writeAtomically(path, data); err != nil {
		return false, fmt.Errorf("keeping what the hosts reported: %w", err)
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
