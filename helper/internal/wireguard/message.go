package wireguard

import "golang.zx2c4.com/wireguard/wgctrl/wgtypes"

// maxPeersInMessage is how many peers wgctrl sends in one message. From one more
// on it sends each in a message of its own, and of those about one key only the
// first says more than its allowed IPs: a peer that is removed and added again
// would come back without endpoint, preshared key and keepalive. (buildBatches
// in its internal/wglinux/configure_linux.go.)
const maxPeersInMessage = 32

// messages splits a configuration into such as wgctrl leaves whole. What is said
// of one peer in a row stays together; so nothing is sent to it, or taken from
// it, in between. The first message says what is the device's. What says nothing
// takes no message.
func messages(c wgtypes.Config) []wgtypes.Config {
	if c.PrivateKey == nil && c.ListenPort == nil && len(c.Peers) == 0 {
		return nil
	}
	first := c
	first.Peers = nil
	all := []wgtypes.Config{first}
	for rest := c.Peers; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].PublicKey == rest[0].PublicKey {
			n++
		}
		last := &all[len(all)-1]
		if len(last.Peers) > 0 && len(last.Peers)+n > maxPeersInMessage {
			all = append(all, wgtypes.Config{})
			last = &all[len(all)-1]
		}
		last.Peers = append(last.Peers, rest[:n]...)
		rest = rest[n:]
	}
	return all
}
