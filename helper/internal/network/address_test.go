package network

import (
	"fmt"
	"testing"
)

func TestAddresses(t *testing.T) {
	cases := []struct {
		id                         uint16
		intrawire, gateway, access string
		mac                        string // of the gateway
	}{
		{1, "10.30.0.1", "10.31.0.1", "10.31.128.1", "02:6d:6f:01:00:01"},
		{255, "10.30.0.255", "10.31.0.255", "10.31.128.255", "02:6d:6f:01:00:ff"},
		{256, "10.30.1.0", "10.31.1.0", "10.31.129.0", "02:6d:6f:01:01:00"},
		{32767, "10.30.127.255", "10.31.127.255", "10.31.255.255", "02:6d:6f:01:7f:ff"},
	}
	var r Ranges
	for _, c := range cases {
		t.Run(fmt.Sprint(c.id), func(t *testing.T) {
			for _, pair := range [][2]string{
				{r.IntrawireAddress(c.id).String(), c.intrawire}, {r.GatewayAddress(c.id).String(), c.gateway},
				{r.AccessAddress(c.id).String(), c.access}, {MAC(RoleGateway, c.id).String(), c.mac},
			} {
				if pair[0] != pair[1] {
					t.Errorf("found %s, wanted %s", pair[0], pair[1])
				}
			}
		})
	}
}

func TestAddressesStayInTheirNetworks(t *testing.T) {
	var r Ranges
	taken := map[string]uint16{}
	for id := uint16(MinHostID); id <= MaxHostID; id++ {
		if !r.Intrawire().Contains(r.IntrawireAddress(id)) || r.Extrawire().Contains(r.IntrawireAddress(id)) ||
			!r.Access().Contains(r.GatewayAddress(id)) || !r.Access().Contains(r.AccessAddress(id)) || r.IntrawireAddress(id) == r.DirectGateway() {
			t.Fatalf("host %d: an address is outside its network", id)
		}
		for _, a := range []string{r.IntrawireAddress(id).String(), r.GatewayAddress(id).String(), r.AccessAddress(id).String(),
			MAC(RoleGateway, id).String(), MAC(RoleAccess, id).String(), MAC(RoleUplinkGateway, id).String()} {
			if other := taken[a]; other != 0 {
				t.Fatalf("hosts %d and %d both have %s", other, id, a)
			}
			taken[a] = id
		}
	}
}

func TestMTUs(t *testing.T) {
	for _, c := range []struct {
		underlay     int
		ipv6         bool
		wire, access int
	}{
		{1500, false, 1440, 1386}, {9000, false, 8940, 8886}, {MinUnderlayMTU, false, 1334, 1280}, {1420, false, 1360, 1306},
		{1500, true, 1420, 1366}, {MinUnderlayMTU + IPv6MoreBytes, true, 1334, 1280},
	} {
		if got := MTUsOver(c.underlay, c.ipv6); got != (MTUs{c.underlay, c.wire, c.access}) {
			t.Errorf("underlay %d: found %+v, wanted %d and %d", c.underlay, got, c.wire, c.access)
		}
	}
}
