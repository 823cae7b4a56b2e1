package vswitch

import (
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// dropped is table 30: where every frame that broke a pin ends, one counter a
// pin and origin, so that reading them costs the same in any network.
func (p *pipeline) dropped() {
	for pin := PinMulticastSource; pin <= lastPin; pin++ {
		broke := register(pinRegister, uint32(pin))
		p.addDrop(100, on{broke}, pin, OriginGuest)
		p.addDrop(200, on{broke, port(tunnelPort)}, pin, OriginTunnel)
		p.addDrop(200, on{broke, port(localPort)}, pin, OriginGateway)
	}
}

func (p *pipeline) addDrop(priority int, matches on, pin Pin, origin Origin) {
	f := p.add(tableDropped, priority, matches, []string{"drop"})
	f.cookie = cookieTag | classDropped | uint64(pin)<<36 | uint64(origin)<<32
}

// drop notes the broken pin and ends the frame.
func drop(pin Pin) []string {
	return []string{load(uint32(pin), pinRegister), resubmitTo(tableDropped)}
}

// from matches what a remote host sent through the tunnel. WireGuard has made
// sure that the outer source address is the sender's.
func from(r spec.Remote) string { return "tun_src=" + r.Address.String() }

func mac(role network.Role, id uint16) string {
	return "dl_src=" + network.MAC(role, id).String()
}

// anyMAC matches the addresses that a role has on any host.
func anyMAC(role network.Role) string { return "dl_src=" + anyHost(role) }

func anyHost(role network.Role) string {
	return network.MAC(role, 0).String() + "/ff:ff:ff:ff:00:00"
}
