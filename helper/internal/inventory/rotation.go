package inventory

import (
	"fmt"
	"strings"

	"mobula/helper/internal/network"
)

// Phase is how far a rotation of all hosts' keys is. Each is a deploy that all hosts have
// confirmed before the next begins, so that peers accept a key before it is used, and until
// nobody uses it any more.
type Phase string

// The phases.
const (
	NoRotation Phase = ""         // every other deploy
	Announce   Phase = "announce" // peers learn the new keys
	Switch     Phase = "switch"   // hosts use them
	Forget     Phase = "forget"   // peers forget the old ones
)

// Reported is what one host said in this run.
type Reported struct {
	// PublicKey is the key that the host uses, or would use; zero: none yet.
	PublicKey network.Key `json:"public_key"`
	// MadeKey is the one that it was asked to make in this run; zero: it was not, or failed.
	MadeKey network.Key `json:"made_key"`
	// UnderlayMTU is the MTU in bytes of the host's uplink; 0: not known.
	UnderlayMTU int `json:"underlay_mtu,omitempty"`
	// UplinkMode is that of the host, see network.UplinkMode; "": it did not say.
	UplinkMode string `json:"uplink_mode,omitempty"`
	// NetworkMTU is the underlay MTU in bytes of the document that the host has
	// confirmed; 0: none.
	NetworkMTU int `json:"network_mtu,omitempty"`
}

// next returns what to keep of a host of which this was kept before (zero: nothing) and
// which said this now (zero: it was not reached, or left out), and whether it said any
// key. If so, nothing of before counts: a rotation that was interrupted ends
// with the key that the host uses. Otherwise its peers go on to accept what they did.
func (p Phase) next(kept HostKey, said Reported) (h HostKey, replaced bool) {
	h = HostKey{PublicKey: said.PublicKey, UnderlayMTU: said.UnderlayMTU, UplinkMode: said.UplinkMode}
	uses, made := said.PublicKey, said.MadeKey
	switch {
	case made.IsZero() || made == uses:
	case uses.IsZero() || p == NoRotation || p == Forget:
		h.PublicKey = made
	case p == Announce:
		h.AlsoKey = made
	case p == Switch:
		h.PublicKey, h.AlsoKey = made, uses
	}
	if h.PublicKey.IsZero() {
		return kept, false
	}
	return h, true
}

// standing is how all hosts' keys are before a phase.
var standing = map[Phase]string{
	Announce: "No key was changed.",
	Switch:   "The rotation stops before any new key is in use.",
	Forget:   "The rotation stops before any old key is forgotten; peers accept both keys of every host.",
}

// begins refuses a phase unless all hosts are here: those who are missing could not
// be told the keys.
func (p Phase) begins(all, here []string) error {
	var missing []string
	present := setOf(here...)
	for _, name := range all {
		if !present[name] {
			missing = append(missing, name)
		}
	}
	if p == NoRotation || len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s rotate_keys needs every host of the inventory. Not reached, or left out by --limit: %s. "+
		"Bring them back, or take them out of the inventory, and rotate again; a deploy without rotate_keys leaves every host with the key that it uses now.",
		standing[p], strings.Join(missing, ", "))
}
