package system

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"mobula/helper/internal/spec"
)

// How long NetworkManager may take for the NIC, and how long it may not want it.
const (
	takingBack = 15 * time.Second
	wantsNot   = 3 * time.Second
)

// takenBack waits until NetworkManager has the NIC again after its drop-ins went. It
// flushes the NIC and gives it its addresses anew, a moment later than it says that it
// is connected (seen with 1.52). Where it does not, the look at the host that follows
// says what is missing.
func (s *System) takenBack(ctx context.Context, want *spec.Host) {
	for began := time.Now(); time.Since(began) < takingBack && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		out, err := s.Run(ctx, "nmcli", "--terse", "--get-values", "GENERAL.STATE", "device", "show", s.uplink)
		switch {
		case err != nil:
			return // it does not run, or the NIC is not there
		case strings.HasPrefix(out, "100 ") && s.hasAll(s.uplink, want.Addresses): // NM_DEVICE_STATE_ACTIVATED
			return
		case strings.HasPrefix(out, "10 ") && time.Since(began) > wantsNot: // NM_DEVICE_STATE_UNMANAGED
			return
		}
	}
}

// hasAll reports that the link has those of the IPv4 addresses that are to be on it.
func (s *System) hasAll(link string, wanted []spec.Address) bool {
	found, err := s.Addresses(link)
	has := map[netip.Prefix]bool{}
	for _, p := range found {
		has[p] = true
	}
	for _, a := range wanted {
		if a.NS == "" && a.Link == link && a.Prefix.Addr().Is4() && !has[a.Prefix] {
			return false
		}
	}
	return err == nil
}
