package wireguard

import (
	"sort"

	"golang.zx2c4.com/wireguard/wgctrl"
)

// Listening returns the names of the WireGuard interfaces of the host's own network
// namespace that listen on a UDP port.
func Listening(port uint16) ([]string, error) {
	client, err := wgctrl.New()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	devices, err := client.Devices()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range devices {
		if d.ListenPort == int(port) {
			names = append(names, d.Name)
		}
	}
	sort.Strings(names)
	return names, nil
}
