package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// truncating answers every question with a bare header and the TC bit, so that
// it is asked again over TCP.
func truncating(conn net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		const optBytes = 11
		out := append([]byte(nil), b[:n-optBytes]...)
		binary.BigEndian.PutUint16(out[2:], 0x8380)
		binary.BigEndian.PutUint16(out[10:], 0)
		conn.WriteTo(out, from)
	}
}

// TestAResolverThatHangsOverTCP: a guest can ask for names whose servers answer
// nothing but "ask over TCP", and never there. The agent's unit has 64 tasks.
func TestAResolverThatHangsOverTCP(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, spec.Namespace)
	change := &store.Change{HostID: 1, Document: &network.Document{Hosts: []network.Host{{ID: 1, Hostname: "a.example.com"}}}}
	address := change.Document.GatewayAddress(1)
	for _, a := range listensAt(change) {
		netnstest.Run(t, spec.Namespace, "ip", "address", "add", a.String()+"/32", "dev", "lo")
	}
	resolver := netnstest.Deaf(t, spec.Namespace, 53)
	var upstream net.PacketConn
	err := netns.Do(spec.Namespace, func() (err error) {
		upstream, err = net.ListenPacket("udp4", resolver.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go truncating(upstream)

	a := &Agent{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	change.Document.Hosts[0].UpstreamDNS = []netip.Addr{resolver.Addr()}
	service, err := a.startDNS(context.Background(), change, address)
	if err != nil {
		t.Fatal(err)
	}
	defer service.stop()
	client, err := netns.Dial(context.Background(), spec.Namespace, "udp", netip.AddrPortFrom(address, 53).String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const questions, mostThreads = 120, 40
	before := netnstest.Threads(t)
	began := time.Now()
	for i := 0; i < questions; i++ {
		question := append([]byte{0, byte(i), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4}, fmt.Sprintf("q%03d\x00\x00\x01\x00\x01", i)...)
		if _, err := client.Write(question); err != nil {
			t.Fatal(err)
		}
	}
	threads := make(chan int)
	done := make(chan struct{})
	go func() {
		most := 0
		for {
			most = max(most, netnstest.Threads(t))
			select {
			case <-done:
				threads <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	client.SetReadDeadline(began.Add(20 * time.Second))
	answer := make([]byte, 512)
	for i := 0; i < questions; i++ {
		n, err := client.Read(answer)
		if err != nil || n < 12 || answer[3]&15 != 2 {
			t.Fatalf("answer %d after %v: found %x, %v, wanted SERVFAIL", i, time.Since(began), answer[:n], err)
		}
	}
	close(done)
	if most := <-threads; most > mostThreads {
		t.Errorf("found %d threads, %d before, wanted at most %d", most, before, mostThreads)
	}
}

// TestDNSInOtherRanges: a gateway in other ranges answers these, and nobody else.
func TestDNSInOtherRanges(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, spec.Namespace)
	ranges := plantest.OtherRanges()
	for _, a := range []netip.Addr{ranges.GatewayAddress(1), ranges.DirectGateway(), ranges.AccessAddress(1), ranges.IntrawireAddress(1), network.Ranges{}.AccessAddress(1)} {
		netnstest.Run(t, spec.Namespace, "ip", "address", "add", a.String()+"/32", "dev", "lo")
	}
	a := &Agent{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Facts: func() (*spec.Facts, error) { return nil, nil }}
	document := &network.Document{Ranges: ranges, Hosts: []network.Host{{ID: 1, Hostname: "a.example.com"}}}
	service := a.serveDNS(context.Background(), nil, &store.Change{HostID: 1, Document: document})
	if service == nil {
		t.Fatal("it does not start")
	}
	defer service.stop()
	ask := func(from netip.Addr) (answer []byte) {
		err := netns.Do(spec.Namespace, func() error {
			c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(ranges.GatewayAddress(1), 53)))
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x03com\x00\x00\x01\x00\x01")); err != nil {
				return err
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			answer = make([]byte, 512)
			n, _ := c.Read(answer)
			answer = answer[:n]
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for _, from := range []netip.Addr{ranges.AccessAddress(1), ranges.IntrawireAddress(1)} {
		if got := ask(from); !bytes.HasSuffix(got, ranges.AccessAddress(1).AsSlice()) {
			t.Errorf("%s got %q", from, got)
		}
	}
	if got := ask(network.Ranges{}.AccessAddress(1)); len(got) > 0 {
		t.Errorf("an address in the default ranges got %q", got)
	}
}

// TestResolversOfAHostThatKeepsThem: they change with the host's network. One whose NIC
// has moved keeps those that it had.
func TestResolversOfAHostThatKeepsThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	had, now := netip.MustParseAddr("192.0.2.53"), []netip.Addr{netip.MustParseAddr("198.51.100.53")}
	a := &Agent{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Resolvers: func(network.Ranges) []netip.Addr { return now }, ResolverFiles: []string{path},
		Facts: func() (*spec.Facts, error) { return &spec.Facts{Resolvers: []netip.Addr{had}}, nil }}
	hostOf := func(shared bool) *store.Change {
		return &store.Change{HostID: 1, Document: &network.Document{Hosts: []network.Host{{ID: 1, SharedUplink: shared}}}}
	}
	ask := func(shared bool) string { return fmt.Sprint(a.upstreams(hostOf(shared))) }
	if got := ask(true); got != "[198.51.100.53:53]" {
		t.Errorf("found %s, wanted those of now", got)
	}
	if got := ask(false); got != "[192.0.2.53:53]" {
		t.Errorf("found %s of a host whose NIC has moved, wanted those that it had", got)
	}
	before := a.resolverFiles(hostOf(true))
	if err := os.WriteFile(path, []byte("nameserver 198.51.100.54\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(before, a.resolverFiles(hostOf(true))) {
		t.Error("nobody notices that the file is another one")
	}
	if files := a.resolverFiles(hostOf(false)); files != nil {
		t.Errorf("looks at %v on a host whose NIC has moved", files)
	}
	now = nil // for a moment there are none
	if got := ask(true); got != "[192.0.2.53:53]" {
		t.Errorf("found %s, wanted the last ones that are known", got)
	}
}
