// Package client makes what an administrator's WireGuard client needs besides its
// keys: an address and a configuration that wg-quick(8) and the WireGuard apps take.
// It is pure.
package client

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"mobula/helper/internal/network"
)

// FreeAddress returns the lowest extrawire address that no client has. The first
// one is left out: it looks like the address of the network.
func FreeAddress(ranges network.Ranges, clients []network.Client) (netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, c := range clients {
		taken[c.Address] = true
	}
	for a := ranges.Extrawire().Addr().Next(); ranges.Extrawire().Contains(a); a = a.Next() {
		if !taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("found no free address in %s", ranges.Extrawire())
}

// maxFileName is how long the name of a configuration may be: wg-quick(8) makes it
// the name of an interface, and the apps take no longer one.
const maxFileName = 15

var fileName = regexp.MustCompile(`^[a-zA-Z0-9_=+.-]+$`)

// CheckName tells why files cannot be called by the name of a client. Up to nine
// entries are told apart by a suffix of two bytes.
func CheckName(name string) error {
	if len(name) > maxFileName-2 || !fileName.MatchString(name) {
		return fmt.Errorf("found %q, wanted 1..%d letters, digits or -: WireGuard's apps take no other name", name, maxFileName-2)
	}
	return nil
}

// Domain returns the part after the first label that most of the hosts' names
// share: where a client's name belongs.
func Domain(d *network.Document) string {
	count := map[string]int{}
	best := ""
	for _, h := range d.Hosts {
		_, domain, _ := strings.Cut(h.Hostname, ".")
		count[domain]++
		if count[domain] > count[best] {
			best = domain
		}
	}
	return best
}

// entry returns a host by which a client comes in.
func entry(d *network.Document, name string) (network.Host, error) {
	for _, h := range d.Hosts {
		if name == h.Name || name == h.Hostname || name == strings.SplitN(h.Hostname, ".", 2)[0] {
			if h.PublicKey.IsZero() {
				return h, fmt.Errorf("entry: host %s has no key yet; deploy it first", name)
			}
			if h.IsUnreached() {
				return h, fmt.Errorf("entry: host %s has no endpoint, wanted one that a client can send to", name)
			}
			return h, nil
		}
	}
	return network.Host{}, fmt.Errorf("entry: found %q, wanted a host of the network", name)
}

// maxEntries is how many hosts a client gets configurations for by default.
const maxEntries = 3

// Entries returns the named hosts; without names the first ones that have a key.
func Entries(d *network.Document, names []string) ([]network.Host, error) {
	var hosts []network.Host
	var problems []error
	for _, name := range names {
		h, err := entry(d, name)
		if err != nil {
			problems = append(problems, err)
		}
		hosts = append(hosts, h)
	}
	if len(names) > 9 {
		problems = append(problems, fmt.Errorf("entry: found %d hosts, wanted at most 9", len(names)))
	}
	if len(names) == 0 {
		for _, h := range d.Hosts {
			if !h.PublicKey.IsZero() && !h.IsUnreached() && len(hosts) < maxEntries {
				hosts = append(hosts, h)
			}
		}
		if len(hosts) == 0 {
			problems = append(problems, errors.New("found no host with a key and an endpoint in the network document, wanted one: deploy first"))
		}
	}
	return hosts, errors.Join(problems...)
}

// maxMTU is what wg-quick(8) takes where it knows nothing better: WireGuard over IPv6
// and an uplink of 1500 bytes. Administrators come in by networks that nobody knows.
const maxMTU = 1420

// Config returns the configuration of a client that comes in by one host. It has one
// peer only: AllowedIPs of two would exclude each other, and the apps forget comments.
// The label is for who reads it. Without a private key there is a line to fill in.
func Config(d *network.Document, label string, c network.Client, private network.Key, entry network.Host) string {
	mtu := d.MTUs().Wire
	if mtu > maxMTU {
		mtu = maxMTU
	}
	key := private.String()
	if private.IsZero() {
		key = "<the private key of " + c.PublicKey.String() + ">"
	}
	var s strings.Builder
	fmt.Fprintf(&s, "# %s, by %s\n[Interface]\nPrivateKey = %s\nAddress = %s/32\n", label, entry.Hostname, key, c.Address)
	fmt.Fprintf(&s, "DNS = %s\nMTU = %d\n\n", d.GatewayAddress(entry.ID), mtu)
	first := network.OtherEndpoint{Endpoint: entry.Endpoint, Name: entry.EndpointName}
	if !first.Endpoint.IsValid() {
		first = entry.Others()[0]
	}
	at := first.Endpoint.String()
	if first.Name != "" && !isPrivate(d, first.Name) {
		at = fmt.Sprintf("%s:%d", first.Name, first.Endpoint.Port())
	}
	fmt.Fprintf(&s, "[Peer]\nPublicKey = %s\nEndpoint = %s\nAllowedIPs = %s, %s\nPersistentKeepalive = 25\n",
		entry.PublicKey, at, d.Wire(), d.Access())
	return s.String()
}

// isPrivate reports that a name stands for an address inside where the client looks,
// which is no way in.
func isPrivate(d *network.Document, name string) bool {
	return slices.ContainsFunc(d.PrivateNames(), func(n network.NameAddress) bool { return n.Name == strings.ToLower(name) })
}
