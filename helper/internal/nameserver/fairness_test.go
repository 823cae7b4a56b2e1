package nameserver

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// someSlow answers all names but those that begin with "slow".
func someSlow(w dns.ResponseWriter, m *dns.Msg) {
	if name := m.Question[0].Name; !strings.HasPrefix(name, "slow") {
		w.WriteMsg(answerWith(m, name+" 60 A 192.0.2.1"))
	}
}

// TestASlowQuestionHoldsUpNoOther: on one connection (RFC 7766 section 6.2.1.1).
func TestASlowQuestionHoldsUpNoOther(t *testing.T) {
	s := start(t, Config{Deadline: 2 * time.Second, MaxPendingPerSource: 3}, startResolver(t, someSlow))
	conn, err := dns.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	for i, name := range []string{"slow1.example.org.", "slow2.example.org.", "alice.example.com.", "quick.example.org."} {
		m := asking(name, dns.TypeA)
		m.Id = uint16(i + 1)
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	conn.Conn.(*net.TCPConn).CloseWrite() // the answers come all the same
	conn.SetReadDeadline(began.Add(6 * time.Second))
	read := func() *dns.Msg {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for i := 0; i < 2; i++ {
		if m := read(); len(m.Answer) != 1 || m.Id < 3 || time.Since(began) > time.Second {
			t.Fatalf("after %v: found %v, wanted what needs no waiting", time.Since(began), m)
		}
	}
	for i := 0; i < 2; i++ {
		if m := read(); m.Rcode != dns.RcodeServerFailure || m.Id > 2 {
			t.Errorf("found %v, wanted SERVFAIL for a slow name", m)
		}
	}
	if m, err := conn.ReadMsg(); err == nil {
		t.Errorf("found one answer more: %v", m)
	}
}

// TestConnectionsHaveBounds: questions on a connection count like those over UDP.
func TestConnectionsHaveBounds(t *testing.T) {
	s := start(t, Config{Deadline: time.Second, MaxPendingPerSource: 3}, startResolver(t, someSlow))
	conn, err := dns.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const questions = 20
	for i := 0; i < questions; i++ {
		conn.WriteMsg(asking(fmt.Sprintf("slow%d.example.org.", i), dns.TypeA))
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for i := 0; i < questions; i++ {
		if m, err := conn.ReadMsg(); err != nil || m.Rcode != dns.RcodeServerFailure {
			t.Fatalf("answer %d: found %v, %v", i, m, err)
		}
	}
	if got := s.Stats(); got.Overloaded != questions-3 || got.Forwarded != 3 {
		t.Errorf("found %+v, wanted 3 questions forwarded", got)
	}
}

// TestGreedySourcesLeaveRoom: four sources that ask for all they can get keep
// nobody from an answer, neither over UDP nor over TCP.
func TestGreedySourcesLeaveRoom(t *testing.T) {
	s := start(t, Config{Deadline: 20 * time.Second}, startResolver(t, someSlow))
	dial := func(source byte, transport string) *dns.Conn {
		local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, source}), 0)
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(local)}
		if transport == "tcp" {
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
		conn, err := d.Dial(transport, s.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &dns.Conn{Conn: conn}
	}
	for source := byte(11); source < 19; source++ {
		for i := 0; i < 16; i++ {
			dial(source, "tcp")
		}
	}
	for source := byte(11); source < 15; source++ {
		conn := dial(source, "udp")
		for i := 0; i < 200; i++ {
			conn.WriteMsg(asking(fmt.Sprintf("slow%d-%d.example.org.", source, i), dns.TypeA))
			if i%20 == 19 {
				time.Sleep(time.Millisecond) // the server's buffer is bounded, too
			}
		}
	}
	for end := time.Now().Add(15 * time.Second); s.Stats().Outstanding <= 300 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	// What they sent has been read: a full buffer of the kernel's would drop anybody's datagram.
	for same, last := 0, uint64(0); same < 5; time.Sleep(50 * time.Millisecond) {
		if n := s.Stats().Queries; n == last {
			same++
		} else {
			same, last = 0, n
		}
	}
	if n := s.Stats().Outstanding; n <= 300 {
		t.Fatalf("only %d questions wait: nobody is greedy", n)
	}
	for _, transport := range []string{"udp", "tcp"} {
		for _, name := range []string{"quick.example.org.", "alice.example.com."} {
			conn := dial(99, transport)
			conn.WriteMsg(asking(name, dns.TypeA))
			conn.SetReadDeadline(time.Now().Add(15 * time.Second))
			if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
				t.Errorf("%s over %s while others are greedy: found %v, %v", name, transport, m, err)
			}
		}
	}
}

func TestQuota(t *testing.T) {
	const total = 512
	for n := 1; n <= 100; n++ {
		q := newQuota(total, 128, nil)
		source := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 31, 1, byte(i)}) }
		for more := true; more; {
			more = false
			for i := 0; i < n; i++ {
				more = q.acquire(source(i)) || more
			}
		}
		share := min(total/(n+1), 128)
		for i := 0; i < n; i++ {
			if used := q.used[source(i)]; used < share || used > share+1 {
				t.Fatalf("%d greedy sources: one has %d, wanted %d", n, used, share)
			}
		}
		if !q.acquire(source(200)) {
			t.Fatalf("%d greedy sources leave no room", n)
		}
		q.release(source(200))
		for i := 0; i < n; i++ {
			for q.used[source(i)] > 0 {
				q.release(source(i))
			}
		}
		if q.all != 0 || len(q.used) != 0 {
			t.Fatalf("found %d and %v after all was released", q.all, q.used)
		}
	}
}

// TestInventedSourcesLeaveRoom: whoever asks from any number of addresses keeps no
// favored source from an answer.
func TestInventedSourcesLeaveRoom(t *testing.T) {
	const total = 512
	host := netip.MustParseAddr("10.30.0.1")
	for _, n := range []int{1, 100, 500, 5000} {
		q := newQuota(total, 128, []netip.Prefix{network.Ranges{}.Wire()})
		for round := 0; round < 200; round++ {
			for i := 0; i < n; i++ {
				q.acquire(netip.AddrFrom4([4]byte{10, 31, byte(i >> 8), byte(i)}))
			}
		}
		had := 0
		for q.acquire(host) {
			had++
		}
		if had < total/8 {
			t.Errorf("%d sources leave room for %d questions of a host, wanted %d", n, had, total/8)
		}
	}
}

// TestNamesAbovePrivateOnesExist: whoever learns that they do not may take it that
// nothing is below them (RFC 8020).
func TestNamesAbovePrivateOnesExist(t *testing.T) {
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		out := new(dns.Msg).SetRcode(m, dns.RcodeNameError)
		if m.Question[0].Name == "alias.example.org." {
			out.Answer = []dns.RR{rr("alias.example.org. 60 CNAME example.com.")}
		}
		out.Ns = []dns.RR{rr(". 300 SOA . . 1 2 3 4 20"), rr(". 300 NSEC aaa. NS SOA"), rr(". 300 RRSIG NSEC 8 0 300 20400101000000 20200101000000 1 . AAAA")}
		w.WriteMsg(out)
	})
	s, _ := offline(Config{}, upstream)
	for name, want := range map[string]int{
		"example.com.": dns.RcodeSuccess, "Example.COM.": dns.RcodeSuccess, "com.": dns.RcodeSuccess, "example.net.": dns.RcodeSuccess,
		"alias.example.org.": dns.RcodeSuccess, "example.org.": dns.RcodeNameError, "mail.example.com.": dns.RcodeNameError,
		"below.alice.example.com.": dns.RcodeNameError, "xexample.com.": dns.RcodeNameError,
	} {
		for _, do := range []bool{false, true} {
			m := asking(name, dns.TypeAAAA)
			m.SetEdns0(1232, do)
			got := exchange(t, s, m, true)
			soa, proofs := 0, 0
			for _, r := range got.Ns {
				if r.Header().Rrtype == dns.TypeSOA {
					soa++
				} else {
					proofs++
				}
			}
			if got.Rcode != want || soa != 1 || (proofs > 0) != (do && want == dns.RcodeNameError) {
				t.Errorf("%s, DO %v: found\n%v\nwanted %s", name, do, got, dns.RcodeToString[want])
			}
		}
	}
}

// TestAChangedZoneForgets: a name becomes one above a private one.
func TestAChangedZoneForgets(t *testing.T) {
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		out := new(dns.Msg).SetRcode(m, dns.RcodeNameError)
		out.Ns = []dns.RR{rr(". 300 SOA . . 1 2 3 4 20")}
		w.WriteMsg(out)
	})
	s, _ := offline(Config{}, upstream)
	for _, want := range []int{dns.RcodeNameError, dns.RcodeSuccess} {
		if got := exchange(t, s, asking("lab.example.org.", dns.TypeA), false); got.Rcode != want {
			t.Errorf("found %s, wanted %s", dns.RcodeToString[got.Rcode], dns.RcodeToString[want])
		}
		d := testDocument()
		d.Names[0].Names = append(d.Names[0].Names, "printer.lab.example.org")
		s.SetZone(d)
	}
}

// TestTypesWithAndWithoutSignatures: whatever is asked for comes.
func TestTypesWithAndWithoutSignatures(t *testing.T) {
	const sig = " 8 3 300 20400101000000 20200101000000 1 example.org. AAAA"
	for qtype, records := range map[uint16][]string{
		dns.TypeA:      {"x.example.org. 60 A 192.0.2.1"},
		dns.TypeRRSIG:  {"x.example.org. 60 RRSIG A" + sig, "x.example.org. 60 RRSIG AAAA" + sig},
		dns.TypeNSEC:   {"x.example.org. 60 NSEC y.example.org. A RRSIG NSEC"},
		dns.TypeDNSKEY: {"x.example.org. 60 DNSKEY 257 3 8 AAAA"},
		dns.TypeDS:     {"x.example.org. 60 DS 1 8 2 " + strings.Repeat("00", 32)},
		dns.TypeCNAME:  {"x.example.org. 60 CNAME y.example.org."},
		dns.TypeDNAME:  {"x.example.org. 60 DNAME y.example.org."},
		dns.TypeSOA:    {"x.example.org. 60 SOA . . 1 2 3 4 20"},
		dns.TypeTXT:    {"x.example.org. 60 TXT a"},
		dns.TypeHTTPS:  {"x.example.org. 60 HTTPS 1 . alpn=h2"},
		dns.TypeANY:    {"x.example.org. 60 A 192.0.2.1", "x.example.org. 60 RRSIG A" + sig},
	} {
		upstream := startResolver(t, answering(records...))
		for _, do := range []bool{false, true} {
			s, _ := offline(Config{}, upstream)
			m := asking("x.example.org.", qtype)
			m.SetEdns0(1232, do)
			if got := exchange(t, s, m, true); got.Rcode != dns.RcodeSuccess || len(got.Answer) != len(records) {
				t.Errorf("%s, DO %v: found\n%v\nwanted %q", dns.TypeToString[qtype], do, got, records)
			}
		}
	}
}
