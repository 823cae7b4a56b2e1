package healing

import (
	"net/netip"

	"mobula/helper/internal/network"
	"mobula/helper/internal/wireguard"
)

// Device is what the healer needs of WireGuard.
type Device interface {
	SetEndpoint(peer network.Key, endpoint netip.AddrPort) error
	ShakeAgain(seen []wireguard.PeerState) error
	GiveAllowedIPs(peer network.Key, ips []netip.Prefix) error
	Peers() ([]wireguard.PeerState, error)
}

// Socket is what the healer needs of a UDP socket.
type Socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

// beside is the socket for what goes to an address beside WireGuard; nil: this host does not
// speak to it.
func (h *Healer) beside(to netip.Addr) Answering {
	if to.Is6() {
		return h.below6
	}
	return h.below
}

// Answering is a socket that answers from where it was asked: only who reads does so.
type Answering interface {
	Socket
	Answer(b []byte, to netip.AddrPort) (int, error)
}
