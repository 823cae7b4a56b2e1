package web

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sort"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

// inside gives the network names, and three clients: one was heard by bob, one by carol, and
// one that has no name by nobody.
func (n *network) inside() {
	address := netip.MustParseAddr
	var names []report.Name
	for _, h := range n.mesh.Hosts {
		names = append(names, report.Name{Name: h.Name + ".example.com", Address: netip.AddrFrom4([4]byte{10, 31, 128, byte(h.HostID)}), Of: "host"})
	}
	names = append(names, report.Name{Name: "git.example.com", Address: address("10.31.200.4"), Of: "extra"},
		report.Name{Name: "laptop.example.com", Address: address("10.30.128.1"), Of: "client"}, report.Name{Name: "phone.example.com", Address: address("10.30.128.3"), Of: "client"})
	sort.Slice(names, func(a, b int) bool { return names[a].Name < names[b].Name })
	ago := func(d time.Duration) *time.Time { at := time.Now().UTC().Truncate(time.Second).Add(-d); return &at }
	n.mesh.Names = report.NewNames(names)
	n.mesh.Clients = report.NewClients([]report.Client{
		{Name: "laptop.example.com", Address: address("10.30.128.1"), HostID: 2, LastHandshake: ago(74 * time.Second)}, {Address: address("10.30.128.2")},
		{Name: "phone.example.com", Address: address("10.30.128.3"), HostID: 3, LastHandshake: ago(26 * time.Hour)}}, nil)
}

// TestGuestsAreNotToldOfClients: who is on the access network gets all but them, in no way,
// and whoever else asks at the same time is told.
func TestGuestsAreNotToldOfClients(t *testing.T) {
	n := wellNetwork(2)
	n.guests = netip.MustParsePrefix("127.0.0.0/30") // those to listen at other addresses of loopback
	address := serve(t, n, time.Minute)
	ask := func(from string) string {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
		reply, err := client.Get("http://" + address + "/status.json")
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		if err != nil || reply.StatusCode != 200 {
			t.Fatalf("found %s %s, %v", reply.Status, body, err)
		}
		return string(body)
	}
	for i := 0; i < 2; i++ {
		guest, host := ask("127.0.0.1"), ask("127.0.1.1")
		for _, secret := range []string{"10.30.128.", "laptop", `"clients"`, `"last_handshake"`} {
			if strings.Contains(guest, secret) || !strings.Contains(host, secret) {
				t.Errorf("%s: a guest is told %s, a host %s", secret, guest, host)
			}
		}
		for _, said := range []string{`"git.example.com"`, `"alice"`} {
			if !strings.Contains(guest, said) || !strings.Contains(host, said) {
				t.Errorf("%s: a guest is told %s, a host %s", said, guest, host)
			}
		}
	}
	if found := n.asked.Load(); found != 1 {
		t.Errorf("the hosts were asked %d times, wanted once", found)
	}
}

// BenchmarkSaying is what an answer costs that is made once for all who look: of 3,000 hosts
// that are well, with as many names and clients as are told.
func BenchmarkSaying(b *testing.B) {
	n := wellNetwork(5)
	for id := uint16(6); id <= 3000; id++ {
		n.mesh.Hosts = append(n.mesh.Hosts, report.Host{HostID: id, Name: fmt.Sprintf("host-%d.example", id), Answer: report.Answered, Generation: n.mesh.Generation, Version: "v1-2-gabcdef, ID 0123456789ab", Direct: 2999})
	}
	var names []report.Name
	var clients []report.Client
	now := time.Now().UTC().Truncate(time.Second)
	for i := 0; i < report.MaxNames; i++ {
		a := netip.AddrFrom4([4]byte{10, 31, byte(128 + i>>8), byte(i)})
		names = append(names, report.Name{Name: fmt.Sprintf("name-%d.example.com", i), Address: a, Of: "host"})
		clients = append(clients, report.Client{Name: fmt.Sprintf("client-%d.example.com", i), Address: a, HostID: uint16(i%3000 + 1), LastHandshake: &now})
	}
	for _, inside := range []bool{false, true} {
		b.Run(fmt.Sprintf("names and clients: %v", inside), func(b *testing.B) {
			if n.mesh.Names, n.mesh.Clients = nil, nil; inside {
				n.mesh.Names, n.mesh.Clients = report.NewNames(names), report.NewClients(clients, nil)
			}
			for i := 0; i < b.N; i++ {
				said, err := saying(&n.mesh)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(said)), "bytes")
			}
		})
	}
}
