package healing

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/mesh"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// TestAnAgentAnswersInItsNamespace: the real agent, in the gateway's namespace, tells another
// one's how it is, also after it has begun anew.
func TestAnAgentAnswersInItsNamespace(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	one, two := network.Ranges{}.DirectGateway(), network.Ranges{}.IntrawireAddress(2)
	netnstest.Namespace(t, spec.Namespace)
	for _, address := range []netip.Addr{one, two} {
		netnstest.Run(t, spec.Namespace, "ip", "address", "add", address.String()+"/32", "dev", "lo")
	}
	var conn *net.UDPConn
	err := netns.Do(spec.Namespace, func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(two, spec.MeshUDPPort)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	// There is no gateway here by which the agent has its host's own address.
	at := netip.AddrPortFrom(one, spec.MeshUDPPort)
	asks := &mesh.Service{Socket: conn, Log: log, Address: func(uint16) netip.AddrPort { return at },
		ID: func(from netip.AddrPort) uint16 {
			if from == at {
				return 1
			}
			return 0
		},
		View: func() mesh.View {
			return mesh.View{Self: report.Host{HostID: 2}, Targets: []mesh.Target{{ID: 1, Way: report.Way{To: 1, State: report.Up}}}}
		}}
	go asks.Serve()
	defer asks.Close()
	document, own := plantest.Crowd(3)
	self, _ := document.Host(1)
	for _, version := range []string{"first", "second"} {
		c := Config{Log: quiet(), PrivateKey: func(network.Key) (network.Key, error) { return own, nil }, Names: nobody{}, About: func() (string, []string) { return version, nil }}
		h, err := start(context.Background(), c, netns.Inode(spec.Namespace), &store.Change{HostID: 1, Document: document}, self)
		if err != nil {
			t.Fatal(err)
		}
		m, err := asks.Ask(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if found := m.Hosts[0]; found.Answer != report.Answered || found.Version != version || found.Generation != document.Generation() || len(found.Ways) != 2 {
			t.Errorf("found %+v, wanted what the %s agent says", found, version)
		}
		h.Stop()
		time.Sleep(1100 * time.Millisecond) // what was said is said again for a second
	}
}
