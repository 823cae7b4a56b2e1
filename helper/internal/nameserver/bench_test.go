package nameserver

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

func benchmark(b *testing.B, m *dns.Msg) {
	upstream := startResolver(b, answering("www.example.org. 3000 CNAME x.example.org.", "x.example.org. 3000 A 192.0.2.1"))
	s, _ := offline(Config{}, upstream)
	d := new(network.Document)
	for id := uint16(1); id <= 3000; id++ {
		d.Hosts = append(d.Hosts, network.Host{ID: id, Hostname: fmt.Sprintf("host%d.example.com", id)})
	}
	s.SetZone(d)
	exchange(b, s, m, false)
	packet, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if out, _ := s.answer(packet, inside, false); out == nil {
			b.Fatal("no answer at once")
		}
	}
}

func BenchmarkPrivateName(b *testing.B) { benchmark(b, asking("host1234.example.com.", dns.TypeA)) }

func BenchmarkPrivateReverse(b *testing.B) {
	benchmark(b, asking("210.132.31.10.in-addr.arpa.", dns.TypePTR))
}

func BenchmarkPrivateNoData(b *testing.B) {
	benchmark(b, asking("host1234.example.com.", dns.TypeAAAA))
}

func BenchmarkCacheHit(b *testing.B) {
	benchmark(b, asking("www.example.org.", dns.TypeA).SetEdns0(1232, false))
}

// BenchmarkUDP asks over a socket, one question after the other.
func BenchmarkUDP(b *testing.B) {
	s := start(b, Config{})
	conn, err := dns.Dial("udp", s.address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	m := asking("alice.example.com.", dns.TypeA)
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		conn.WriteMsg(m)
		if _, err := conn.ReadMsg(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUDPClients asks over sockets, many clients at once.
func BenchmarkUDPClients(b *testing.B) {
	s := start(b, Config{})
	packet, _ := asking("alice.example.com.", dns.TypeA).Pack()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("udp", s.address)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		buffer := make([]byte, 512)
		for pb.Next() {
			conn.Write(packet)
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := conn.Read(buffer); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
