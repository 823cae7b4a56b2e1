// Package network holds the network document: one file, the same bytes on every
// host, that says what the whole network is. It is pure: it reads no files and
// knows no kernel.
package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sort"
)

// FormatVersion is the version of the document's format that this program writes.
// OldestFormat is the oldest that it reads: the one before, as soon as there is
// one, for a fleet is upgraded host by host.
const (
	FormatVersion = 1
	OldestFormat  = 1
)

// Document is a network as all its hosts see it. A Document that came out of
// Parse or Seal is valid and in canonical order.
type Document struct {
	Format int `json:"format"`
	// Serial rises with every change of the document, so that a host can refuse
	// an older one: seconds since 1970 at which the deployer first compiled it.
	Serial int64 `json:"serial"`
	// Ranges show where they are not the default.
	Ranges
	// UnderlayMTU is the smallest MTU in bytes of all uplinks.
	UnderlayMTU int      `json:"underlay_mtu"`
	Hosts       []Host   `json:"hosts"`
	Names       []Name   `json:"names,omitempty"`
	Clients     []Client `json:"clients,omitempty"`
}

// Host is one member.
type Host struct {
	ID uint16 `json:"id"`
	// Name is the inventory's name of the host.
	Name string `json:"name"`
	// Hostname is the host's fully qualified private name.
	Hostname string `json:"hostname"`
	// Endpoint is the underlay address (IPv4) and UDP port where the others send to the
	// host's WireGuard. Zero: there is none, as behind a NAT, or of IPv6 alone; the others
	// answer to where it comes from, and WireGuardPort says where it listens.
	Endpoint netip.AddrPort `json:"endpoint"`
	// EndpointName is the name by which the operator gave the endpoint, whose address
	// was Endpoint's when the deployer looked; the hosts look again. "": an address.
	EndpointName string `json:"endpoint_name,omitempty"`
	// OtherEndpoints are more of them, of IPv4, at which the host can be reached as well.
	OtherEndpoints []OtherEndpoint `json:"other_endpoints,omitempty"`
	// IPv6Endpoints are such of IPv6: only a host with SharedUplink has any. The version
	// before reads what it kept without them, and refuses one among OtherEndpoints.
	IPv6Endpoints []OtherEndpoint `json:"ipv6_endpoints,omitempty"`
	// WireGuardPort is the UDP port on which the host's WireGuard listens, where a
	// router in front of it forwards the endpoint's to another one; 0: the endpoint's.
	WireGuardPort uint16 `json:"wireguard_port,omitempty"`
	// PublicKey is zero until the host was deployed for the first time.
	PublicKey Key `json:"public_key"`
	// AlsoKey is another public key of the host that its peers accept while its
	// keys rotate; the host itself uses PublicKey. Zero: none.
	AlsoKey Key `json:"also_key"`
	// PresharedKeys: a pair of hosts that both say so has a preshared key.
	PresharedKeys bool `json:"preshared_keys,omitempty"`
	// Uplink is the interface to the outside; empty: that of the default route.
	Uplink string `json:"uplink,omitempty"`
	// SharedUplink leaves the NIC with the host, through which the gateway gets outside.
	SharedUplink bool `json:"shared_uplink,omitempty"`
	// OpenFirewall has the packet filters of a host with SharedUplink let pass what
	// Mobula needs.
	OpenFirewall bool `json:"open_firewall,omitempty"`
	// GatewayResolver has a host with SharedUplink look up all names by its gateway.
	GatewayResolver bool `json:"gateway_resolver,omitempty"`
	// MapForGuests shows the page of the network to whoever is on the access network.
	MapForGuests bool `json:"map_for_guests,omitempty"`
	// ManualAccess leaves veth_fac0 blank for the operator.
	ManualAccess bool `json:"manual_access,omitempty"`
	// UpstreamDNS replaces the resolvers the host had before the deploy.
	UpstreamDNS []netip.Addr `json:"upstream_dns,omitempty"`
	// Metrics has the agent answer Prometheus inside, MetricsPerPeer with series of each peer.
	Metrics        bool `json:"metrics,omitempty"`
	MetricsPerPeer bool `json:"metrics_per_peer,omitempty"`
	// Publish lists the host's ports that are reachable from outside.
	Publish []Port `json:"publish,omitempty"`
}

// MaxEndpoints is how many endpoints a host has at most: each is tried when it falls
// silent, one after the other.
const MaxEndpoints = 8

// OtherEndpoint is one more endpoint of a host.
type OtherEndpoint struct {
	Endpoint netip.AddrPort `json:"endpoint"`
	// Name is that by which the operator gave it, as Host.EndpointName; "": an address.
	Name string `json:"endpoint_name,omitempty"`
}

// Others returns all endpoints of the host but Endpoint, those of IPv4 first.
func (h Host) Others() []OtherEndpoint {
	return append(slices.Clone(h.OtherEndpoints), h.IPv6Endpoints...)
}

// Endpoints returns all endpoints of the host, Endpoint first; none: it has no endpoint.
func (h Host) Endpoints() []netip.AddrPort {
	var all []netip.AddrPort
	if h.Endpoint.IsValid() {
		all = append(all, h.Endpoint)
	}
	return append(all, h.OtherPlaces()...)
}

// OtherPlaces returns where Others are.
func (h Host) OtherPlaces() (all []netip.AddrPort) {
	for _, other := range h.Others() {
		all = append(all, other.Endpoint)
	}
	return all
}

// IsUnreached reports that nobody can send to the host first.
func (h Host) IsUnreached() bool { return len(h.Endpoints()) == 0 }

// IPv4Only returns the host without IPv6Endpoints, for those who do not speak it.
func (h Host) IPv4Only() Host {
	h.IPv6Endpoints = nil
	return h
}

// Keys returns the host's public keys, first the one that it uses.
func (h Host) Keys() []Key {
	var all []Key
	for _, k := range []Key{h.PublicKey, h.AlsoKey} {
		if !k.IsZero() {
			all = append(all, k)
		}
	}
	return all
}

// ListenPort returns the UDP port on which the host's WireGuard listens.
func (h Host) ListenPort() uint16 {
	if h.WireGuardPort != 0 {
		return h.WireGuardPort
	}
	return h.Endpoint.Port()
}

// MarshalJSON implements json.Marshaler: AlsoKey shows only where there is one.
func (h Host) MarshalJSON() ([]byte, error) {
	type plain Host
	shown := struct {
		plain
		AlsoKey *Key `json:"also_key,omitempty"`
	}{plain: plain(h)}
	if !h.AlsoKey.IsZero() {
		shown.AlsoKey = &h.AlsoKey
	}
	return json.Marshal(shown)
}

// Port is a transport port of the host.
type Port struct {
	Protocol string `json:"protocol"` // tcp or udp
	Number   uint16 `json:"port"`     // 1..65535
}

// String returns "tcp/443".
func (p Port) String() string { return fmt.Sprintf("%s/%d", p.Protocol, p.Number) }

// Name gives further private names to an address of the access network.
type Name struct {
	Address netip.Addr `json:"address"`
	Names   []string   `json:"names"`
}

// Client is an administrator's WireGuard client.
type Client struct {
	Address   netip.Addr `json:"address"`
	PublicKey Key        `json:"public_key"`
	// Name is the client's fully qualified private name; empty: none.
	Name string `json:"name,omitempty"`
}

// Key is a WireGuard (Curve25519) public key. The zero Key means there is none.
type Key [32]byte

// ParseKey reads standard base64 of exactly 32 bytes that are not all zero.
func ParseKey(s string) (Key, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(Key{}) {
		return Key{}, errors.New("not 32 bytes of base64")
	}
	if key := Key(b); !key.IsZero() {
		return key, nil
	}
	return Key{}, errors.New("all zero")
}

// IsZero reports that there is no key.
func (k Key) IsZero() bool { return k == Key{} }

// String returns base64, or "" for the zero Key.
func (k Key) String() string {
	if k.IsZero() {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k[:])
}

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. An empty text is the zero Key.
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k = Key{}
	if len(b) > 0 {
		*k, err = ParseKey(string(b))
	}
	return err
}

// Host returns the host with the given ID.
func (d *Document) Host(id uint16) (Host, bool) {
	i := sort.Search(len(d.Hosts), func(i int) bool { return d.Hosts[i].ID >= id })
	if i < len(d.Hosts) && d.Hosts[i].ID == id {
		return d.Hosts[i], true
	}
	return Host{}, false
}

// MTUs returns the MTUs that hold in the whole network: whichever way a packet takes, it
// fits.
func (d *Document) MTUs() MTUs { return MTUsOver(d.UnderlayMTU, d.HasIPv6()) }

// HasIPv6 reports that any host has an endpoint of IPv6, so that MTUs leave room for it.
func (d *Document) HasIPv6() bool {
	return slices.ContainsFunc(d.Hosts, func(h Host) bool { return len(h.IPv6Endpoints) > 0 })
}

// sortCanonically makes equal networks equal bytes.
func (d *Document) sortCanonically() {
	sort.Slice(d.Hosts, func(i, j int) bool { return d.Hosts[i].ID < d.Hosts[j].ID })
	sort.Slice(d.Names, func(i, j int) bool { return d.Names[i].Address.Less(d.Names[j].Address) })
	sort.Slice(d.Clients, func(i, j int) bool { return d.Clients[i].Address.Less(d.Clients[j].Address) })
}

// Encode returns the canonical bytes of the document: JSON, one host a line, so
// that two generations can be compared with diff(1).
func (d *Document) Encode() []byte {
	d.sortCanonically()
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"format\":%d,\"serial\":%d,\"underlay_mtu\":%d", d.Format, d.Serial, d.UnderlayMTU)
	encodeRanges(&b, d.Ranges)
	encodeList(&b, "hosts", d.Hosts)
	encodeList(&b, "names", d.Names)
	encodeList(&b, "clients", d.Clients)
	b.WriteString("}\n")
	return b.Bytes()
}

func encodeRanges(b *bytes.Buffer, r Ranges) {
	if r.WireNetwork != 0 {
		fmt.Fprintf(b, ",\"wire_network\":%q", r.Wire())
	}
	if r.AccessNetwork != 0 {
		fmt.Fprintf(b, ",\"access_network\":%q", r.Access())
	}
}

func encodeList[T any](b *bytes.Buffer, name string, list []T) {
	fmt.Fprintf(b, ",\n%q:[", name)
	for i, item := range list {
		line, err := json.Marshal(item)
		if err != nil { // no field of these types can fail
			panic(err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteByte(']')
}

// Generation identifies what the network is: hosts agree if and only if their
// generations are equal. It does not cover the serial, so that compiling the
// same network again gives the same generation.
func (d *Document) Generation() string {
	unnumbered := *d
	unnumbered.Serial = 0
	sum := sha256.Sum256(unnumbered.Encode())
	return hex.EncodeToString(sum[:8])
}

// Parse reads a document strictly and validates it, as it comes from the operator;
// its error lists everything that is wrong.
func Parse(data []byte) (*Document, error) { return parse(data, true, FormatVersion) }

// ParseStored reads what this host kept. A version after this one may have written
// it, with fields that this one does not know and the next format: for a host that
// goes back to this version, which then needs the serial and the keys. Only the
// version that wrote a document plans it.
func ParseStored(data []byte) (*Document, error) { return parse(data, false, FormatVersion+1) }

// UnmarshalJSON implements json.Unmarshaler as ParseStored, so that no part of a file is
// taken for a document that is none.
func (d *Document) UnmarshalJSON(data []byte) error {
	parsed, err := ParseStored(data)
	if err == nil {
		*d = *parsed
	}
	return err
}

func parse(data []byte, strict bool, newest int) (*Document, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if strict {
		decoder.DisallowUnknownFields()
	}
	type plain Document // without its UnmarshalJSON
	var read plain
	if err := decoder.Decode(&read); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("network document: cut short, wanted one whole JSON object")
		}
		return nil, fmt.Errorf("network document: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("network document: found more after the end of the JSON object")
	}
	d := Document(read)
	if d.Format < OldestFormat || d.Format > newest {
		return nil, fmt.Errorf("network document: format: found %d, wanted %s", d.Format, formats(OldestFormat, newest))
	}
	d.Ranges = NewRanges(d.WireNetwork, d.AccessNetwork)
	if problems := d.Validate(); len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = p
		}
		return nil, fmt.Errorf("network document: %w", errors.Join(errs...))
	}
	d.sortCanonically()
	return &d, nil
}

func formats(oldest, newest int) string {
	if oldest == newest {
		return fmt.Sprint(newest)
	}
	return fmt.Sprintf("%d..%d", oldest, newest)
}

// UplinkMode returns what uplink_mode is of a host with which the NIC stays (shared), or
// not.
func UplinkMode(shared bool) string {
	if shared {
		return "shared"
	}
	return "moved"
}
