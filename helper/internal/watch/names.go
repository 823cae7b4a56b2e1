package watch

import (
	"context"
	"time"
)

// ownNamesInterval is how often the agent looks whether others changed where the host finds
// private names.
const ownNamesInterval = 250 * time.Millisecond

// watchNames notices when others change where the host finds private names, such as
// cloud-init, which writes /etc/hosts at each boot, and systemd-resolved, which begins
// after the boot unit. So the first look counts, too.
func (r *Repairer) watchNames(ctx context.Context) {
	ticker := time.NewTicker(ownNamesInterval)
	defer ticker.Stop()
	seen := map[string]File{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		paths := r.names
		r.mu.Unlock()
		for _, path := range paths {
			if now, before := FileAt(path), seen[path]; now != before {
				seen[path] = now
				r.because(path + " changed")
			}
		}
	}
}
