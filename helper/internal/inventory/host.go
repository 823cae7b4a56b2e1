package inventory

import (
	"time"

	"mobula/helper/internal/network"
)

// Defaults of host variables.
const (
	DefaultWireGuardPort  = 51820
	DefaultUnderlayMTU    = 1500 // bytes, until the host reported its own
	DefaultConfirmTimeout = 120 * time.Second
)

// Bounds of confirm_timeout.
const (
	MinConfirmTimeout = 30 * time.Second
	MaxConfirmTimeout = time.Hour
)

// HostSettings is what the deploy of one host needs beyond the document.
type HostSettings struct {
	// ConfirmTimeout is how long the host waits for confirmation before it goes
	// back, in whole seconds.
	ConfirmTimeout time.Duration
}

// rawInventory is what the playbook makes of Ansible's host variables.
type rawInventory struct {
	Hosts []rawHost `json:"hosts"`
}

type rawHost struct {
	Name string `json:"name"`
	// Connection is Ansible's connection plugin; empty: not known.
	Connection string `json:"connection"`
	// Vars has the values of Mobula's variables.
	Vars map[string]any `json:"vars"`
	// OtherVars are the names of all other variables.
	OtherVars []string `json:"other_vars"`
}

// variables are the host variables, in the order in which they are documented.
var variables = []struct {
	name string
	// read takes over a value, which is neither absent nor null, and returns
	// what is wanted instead of it, "" if it is good.
	read func(h *host, value any) (want string)
}{
	{"host_id", (*host).readHostID},
	{"hostname", (*host).readHostname},
	{"endpoint", (*host).readEndpoint},
	{"endpoints", (*host).readEndpoints},
	{"wireguard_port", (*host).readWireGuardPort},
	{"uplink", (*host).readUplink},
	{"uplink_mode", (*host).readUplinkMode},
	{"open_firewall", (*host).readOpenFirewall},
	{"resolver", (*host).readResolver},
	{"access_address", (*host).readAccessAddress},
	{"upstream_dns", (*host).readUpstreamDNS},
	{"publish", (*host).readPublish},
	{"underlay_mtu", (*host).readUnderlayMTU},
	{"confirm_timeout", (*host).readConfirmTimeout},
	{"preshared_keys", (*host).readPresharedKeys},
	{"metrics", (*host).readMetrics},
	{"metrics_per_peer", (*host).readMetricsPerPeer},
	{"map_for_guests", (*host).readMapForGuests},
	{"mobula_packages", (*host).readPackages},
	{wireNetwork, (*host).readWireNetwork},
	{accessNetwork, (*host).readAccessNetwork},
}

func variableNames() []string {
	names := make([]string, len(variables))
	for i, v := range variables {
		names[i] = v.name
	}
	return names
}

// host is a host while it is read.
type host struct {
	network.Host
	places      []reach // of the endpoints, the first of which relays use; nil: not readable, or unreached
	unreached   bool    // endpoint: none
	plural      bool    // they came as endpoints
	port        uint16  // on which WireGuard listens; 0: not readable
	underlayMTU int     // bytes; 0: not set
	mode        string  // uplink_mode; "": not set
	resolver    string  // "": not set
	settings    HostSettings
	// networks are wire_network and access_network as they were read; nil: not set.
	networks [2]any
	// bad are the fields about which everything is said already.
	bad map[string]bool
}

// readHost takes over all variables of a host and calls report for each that is
// not as it should be.
func readHost(raw rawHost, report func(field, found, want string)) *host {
	h := &host{
		Host:     network.Host{Name: raw.Name},
		port:     DefaultWireGuardPort,
		settings: HostSettings{ConfirmTimeout: DefaultConfirmTimeout},
		bad:      map[string]bool{},
	}
	complain := func(field, found, want string) {
		h.bad[field] = true
		report(field, found, want)
	}
	for _, v := range variables {
		if value := raw.Vars[v.name]; value != nil {
			if want := v.read(h, value); want != "" {
				complain(v.name, shown(value), want)
			}
		}
	}
	if !sshPlugins[raw.Connection] {
		complain("ansible_connection", shown(raw.Connection), "ssh: a change is confirmed over a new SSH connection, which shows that you still get in (a host reaches itself by SSH, too)")
	}
	if raw.Vars["host_id"] == nil {
		complain("host_id", "nothing", wantHostID)
	}
	if raw.Vars["endpoint"] == nil && raw.Vars["endpoints"] == nil {
		if want := h.readInventoryName(); want != "" {
			complain("endpoint", "nothing and the inventory name "+shown(raw.Name), want)
		}
	}
	return h
}

// meaningless takes out what has no meaning in the host's uplink_mode, and names it.
func (h *host) meaningless() (fields []string) {
	if !h.SharedUplink {
		if h.OpenFirewall {
			fields, h.OpenFirewall = append(fields, "open_firewall"), false
		}
		if h.resolver == resolverHost {
			fields = append(fields, "resolver")
		}
		h.GatewayResolver = false // it is the gateway's anyway
		return fields
	}
	if h.Uplink != "" {
		fields, h.Uplink = append(fields, "uplink"), ""
	}
	if h.Publish != nil {
		fields, h.Publish = append(fields, "publish"), nil
	}
	return fields
}

// sshPlugins are Ansible's connection plugins that come in by SSH.
var sshPlugins = setOf("", "smart", "ssh", "ansible.builtin.ssh", "paramiko", "paramiko_ssh", "ansible.builtin.paramiko_ssh",
	"libssh", "ansible.netcommon.libssh")
