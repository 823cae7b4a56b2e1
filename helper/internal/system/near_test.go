package system

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// connections are lines of /proc/net/tcp and tcp6 (kernel 6.1, little-endian): one that
// waits, one that stands with 10.31.5.9, twice, one that is closed with 10.30.0.7, one with
// 10.77.0.9, and one of a socket for both families with 10.30.0.8.
const (
	fourConnections = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15731 1 0000000000000000 100 0 0 10 0
   1: 0A02000A:0016 09051F0A:C3F2 01 00000000:00000000 02:0009AB47 00000000     0        0 17771 4 0000000000000000 20 4 31 10 -1
   2: 0A02000A:0016 09051F0A:C3F4 01 00000000:00000000 02:0009AB47 00000000     0        0 17772 4 0000000000000000 20 4 31 10 -1
   3: 0A02000A:0050 07001E0A:C3F2 06 00000000:00000000 03:000016D0 00000000     0        0 0 3 0000000000000000
   4: 0A02000A:0016 09004D0A:C3F2 01 00000000:00000000 02:0009AB47 00000000     0        0 17773 4 0000000000000000 20 4 31 10 -1
`
	sixConnections = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000A02000A:01BB 0000000000000000FFFF000008001E0A:C3F2 01 00000000:00000000 02:0009AB47 00000000    33        0 17774 4 0000000000000000 20 4 31 10 -1
`
)

func TestNear(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"tcp": fourConnections, "tcp6": sixConnections} {
		if err := os.WriteFile(filepath.Join(proc, "net", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	resolvers := []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("10.31.0.2")}
	const wire, access = ", wanted 10.30.0.0/16 to be free (the variable wire_network names another network for all hosts; uninstall those first that are deployed already)", ", wanted 10.31.0.0/16 to be free (the variable access_network names another network for all hosts; uninstall those first that are deployed already)"
	const connections = "found a TCP connection with 10.31.5.9" + access + "\nfound a TCP connection with 10.30.0.8" + wire
	moved, shared := &spec.Facts{Resolvers: resolvers}, &spec.Facts{Resolvers: resolvers, Shared: &spec.Shared{}}
	others := network.Host{UpstreamDNS: resolvers[:1]}
	for name, c := range map[string]struct {
		ranges network.Ranges
		self   network.Host
		facts  *spec.Facts
		want   string
	}{
		"moved":                          {network.Ranges{}, network.Host{}, moved, "found the resolver 10.31.0.2" + access + "\n" + connections},
		"shared":                         {network.Ranges{}, others, shared, "found the resolver 10.31.0.2" + access + "\n" + connections},
		"moved, other resolvers":         {network.Ranges{}, others, moved, connections},
		"networks that nobody near uses": {network.NewRanges(10<<8|98, 172<<8|20), network.Host{}, shared, ""},
	} {
		got := ""
		if err := near(proc, c.ranges, c.self, c.facts); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: found\n%s\nwanted\n%s", name, got, c.want)
		}
	}
	if err := near(t.TempDir(), network.Ranges{}, network.Host{}, &spec.Facts{}); err != nil {
		t.Errorf("without the files: %v", err)
	}
}
