package vswitch

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

// Station is a learned source address.
type Station struct {
	MAC  net.HardwareAddr
	VLAN uint16 // VID; 0: without a tag, or with a priority tag
	// Port is the local port behind which the station is, or "" if it is on
	// another host, whose intrawire address Remote is then.
	Port   string
	Remote netip.Addr
}

var (
	stationMAC    = regexp.MustCompile(`\bdl_dst=([0-9a-f:]+)`)
	stationVLAN   = regexp.MustCompile(`\b(?:dl_vlan|vlan_tci)=(0x[0-9a-f]+|[0-9]+)`)
	stationPort   = regexp.MustCompile(`load:(0x[0-9a-f]+|[0-9]+)->NXM_NX_REG1\[`)
	stationRemote = regexp.MustCompile(`load:(0x[0-9a-f]+|[0-9]+)->NXM_NX_REG2\[`)
)

func parseStation(f flowLine, b bridge) (Station, error) {
	number := func(pattern *regexp.Regexp, text string) uint64 {
		if m := pattern.FindStringSubmatch(text); m != nil {
			n, _ := strconv.ParseUint(m[1], 0, 32)
			return n
		}
		return 0
	}
	m := stationMAC.FindStringSubmatch(f.match)
	if m == nil {
		return Station{}, fmt.Errorf("learned flow %q: no destination address", f.match)
	}
	mac, err := net.ParseMAC(m[1])
	if err != nil {
		return Station{}, fmt.Errorf("learned flow %q: %w", f.match, err)
	}
	station := Station{MAC: mac, VLAN: uint16(number(stationVLAN, f.match) & 0xfff)}
	at := int(number(stationPort, f.actions))
	if at == tunnelPort {
		a := number(stationRemote, f.actions)
		station.Remote = netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
		return station, nil
	}
	station.Port = strconv.Itoa(at)
	for name, p := range b.ports {
		if p.OFPort == at {
			station.Port = name
		}
	}
	return station, nil
}
