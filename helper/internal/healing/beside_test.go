package healing

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// TestDirectProbesShareThePort: a direct request to the port where WireGuard listens is
// echoed from there, and whoever holds the port gets what is its own.
func TestDirectProbesShareThePort(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, spec.Namespace)
	netnstest.Run(t, spec.Namespace, "ip", "address", "add", network.Ranges{}.DirectGateway().String()+"/32", "dev", "lo")
	document, own := plantest.Crowd(2)
	document.Hosts[0].WireGuardPort = 7 // to which a router forwards the endpoint's
	self, _ := document.Host(1)
	other, _ := document.Host(2)
	open := func(port uint16) (c *net.UDPConn) {
		err := netns.Do(spec.Namespace, func() (err error) {
			c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	wireGuard, peer := open(self.ListenPort()), open(0)
	c := Config{Log: quiet(), PrivateKey: func(network.Key) (network.Key, error) { return own, nil }, Names: nobody{}}
	h, err := start(context.Background(), c, netns.Inode(spec.Namespace), &store.Change{HostID: 1, Document: document}, self)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	secret, err := probe.NewSecret(own, other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), self.ListenPort())
	buf := make([]byte, probe.MaxSize)
	for i, size := range []int{probe.DirectSize, 1472, probe.MaxSize} {
		request := probe.Direct{Type: probe.Request, From: 2, To: 1, Sequence: uint32(i + 1), Session: 7, Size: size}
		if _, err := peer.WriteToUDPAddrPort(request.Append(nil, &secret), to); err != nil {
			t.Fatal(err)
		}
		n, from, err := peer.ReadFromUDPAddrPort(buf)
		if err != nil || from != to {
			t.Fatalf("%d bytes: found an answer from %v, %v, wanted one from %v", size, from, err, to)
		}
		echo, err := probe.ParseDirect(buf[:n], 2, func(uint16) []probe.Secret { return []probe.Secret{secret} })
		if err != nil || echo.Type != probe.Echo || echo.Size != size || echo.Sequence != request.Sequence {
			t.Errorf("%d bytes: found %+v, %v, wanted an echo", size, echo, err)
		}
		if n, _, err := wireGuard.ReadFromUDPAddrPort(buf); n != size || err != nil {
			t.Errorf("%d bytes: WireGuard's socket found %d, %v", size, n, err)
		}
	}
}
