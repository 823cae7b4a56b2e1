package agent

import (
	"mobula/helper/internal/spec"
	"mobula/helper/internal/watch"
)

// Relaying is by what a host that keeps its NIC relays.
type Relaying interface {
	// Stale reports that the host would send to others in other ways than relayed packets
	// take; false on hosts that do not relay so.
	Stale(*spec.Doorway) (bool, error)
	// Unable returns why the host relays for nobody; "": it relays.
	Unable() string
}

// relaysAt notices when what a host that keeps its NIC relays by is another.
type relaysAt struct {
	path string
	read watch.File
	// unable: the host relays for nobody.
	unable bool
}

// look reads only what is new.
func (r *relaysAt) look(relaying Relaying) (unable bool) {
	if now := watch.FileAt(r.path); relaying != nil && now != r.read {
		r.read, r.unable = now, relaying.Unable() != ""
	}
	return r.unable
}
