// Package templates embeds what the helper renders on a host: systemd units,
// drop-ins for the host's network managers and the rulesets of the gateway and the host.
package templates

import "embed"

// FS holds the templates, in the syntax of text/template.
//
//go:embed systemd managers firewall.nft doorway.nft relays.nft
var FS embed.FS

// Exposure bounds what 'systemd-analyze security' says of each unit: 0 may do
// nothing, 10 everything. docs/security.md says what a unit needs and why.
var Exposure = map[string]float64{
	"mobula-agent.service":    2.3,
	"mobula-network.service":  3.9,
	"mobula-ovsdb.service":    0.7,
	"mobula-repair.service":   4.2,
	"mobula-vswitchd.service": 2.0,
}
