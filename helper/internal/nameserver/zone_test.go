package nameserver

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// render returns an answer as one line: rcode, records, "| SOA of".
func render(a answer) string {
	parts := []string{dns.RcodeToString[a.rcode]}
	for _, record := range a.records {
		fields := strings.Fields(record.String())
		parts = append(parts, strings.Join(append(fields[:1], fields[3:5]...), " "))
	}
	if a.soa != nil {
		parts = append(parts, "| "+a.soa.Header().Name)
	}
	return strings.Join(parts, " ")
}

// TestLookup asks in the default ranges and in others, 192.168.0.0/16 for 10.31.0.0/16 and
// so on, and the other way round.
func TestLookup(t *testing.T) {
	same := func(text string) string { return text }
	t.Run("default", func(t *testing.T) { testLookup(t, newZone(testDocument()), same) })
	d := testDocument()
	d.Ranges = network.NewRanges(172<<8|20, 192<<8|168)
	other := strings.NewReplacer("30.10.in", "20.172.in", "31.10.in", "168.192.in", "168.192.in", "31.10.in", "10.30.", "172.20.", "10.31.", "192.168.").Replace
	for i, n := range d.Names {
		d.Names[i].Address = netip.MustParseAddr(other(n.Address.String()))
	}
	t.Run("others", func(t *testing.T) { testLookup(t, newZone(d), other) })
}

func testLookup(t *testing.T, z *zone, in func(string) string) {
	const forwarded = "forwarded"
	for _, test := range []struct {
		about string
		name  string
		qtype uint16
		want  string
	}{
		{"host", "alice.example.com.", dns.TypeA, "NOERROR alice.example.com. A 10.31.128.1"},
		{"host whose addresses end in .0", "bob.example.com.", dns.TypeA, "NOERROR bob.example.com. A 10.31.129.0"},
		{"extra host", "nas.example.com.", dns.TypeA, "NOERROR nas.example.com. A 10.31.0.254"},
		{"its second name", "files.example.com.", dns.TypeA, "NOERROR files.example.com. A 10.31.0.254"},
		{"alias of a host", "www.example.net.", dns.TypeA, "NOERROR www.example.net. A 10.31.128.1"},
		{"alias of a gateway", "gw.example.com.", dns.TypeA, "NOERROR gw.example.com. A 10.31.1.0"},
		{"AAAA", "alice.example.com.", dns.TypeAAAA, "NOERROR | alice.example.com."},
		{"MX", "alice.example.com.", dns.TypeMX, "NOERROR | alice.example.com."},
		{"HTTPS", "alice.example.com.", dns.TypeHTTPS, "NOERROR | alice.example.com."},
		{"DS", "alice.example.com.", dns.TypeDS, "NOERROR | alice.example.com."},
		{"unknown type", "alice.example.com.", 65280, "NOERROR | alice.example.com."},
		{"SOA", "alice.example.com.", dns.TypeSOA, "NOERROR alice.example.com. SOA alice.example.com."},
		{"ANY", "alice.example.com.", dns.TypeANY, "NOERROR alice.example.com. A 10.31.128.1"},
		{"below a private name", "www.alice.example.com.", dns.TypeA, forwarded},
		{"above a private name", "example.com.", dns.TypeA, forwarded},
		{"beside it", "malice.example.com.", dns.TypeA, forwarded},
		{"escaped dot", `alice\.example.com.`, dns.TypeA, forwarded},
		{"root", ".", dns.TypeNS, forwarded},

		{"PTR of an access address", "1.128.31.10.in-addr.arpa.", dns.TypePTR,
			"NOERROR 1.128.31.10.in-addr.arpa. PTR alice.example.com. 1.128.31.10.in-addr.arpa. PTR www.example.net."},
		{"PTR of an extra host", "254.0.31.10.in-addr.arpa.", dns.TypePTR,
			"NOERROR 254.0.31.10.in-addr.arpa. PTR files.example.com. 254.0.31.10.in-addr.arpa. PTR nas.example.com."},
		{"PTR of a gateway", "1.0.31.10.in-addr.arpa.", dns.TypePTR, "NOERROR 1.0.31.10.in-addr.arpa. PTR alice.example.com."},
		{"PTR of a gateway with names", "0.1.31.10.in-addr.arpa.", dns.TypePTR, "NOERROR 0.1.31.10.in-addr.arpa. PTR gw.example.com."},
		{"PTR of an intrawire address", "0.1.30.10.in-addr.arpa.", dns.TypePTR, "NOERROR 0.1.30.10.in-addr.arpa. PTR bob.example.com."},
		{"PTR, ANY", "1.0.30.10.in-addr.arpa.", dns.TypeANY, "NOERROR 1.0.30.10.in-addr.arpa. PTR alice.example.com."},
		{"PTR, other type", "1.0.30.10.in-addr.arpa.", dns.TypeA, "NOERROR | 30.10.in-addr.arpa."},
		{"unknown address", "9.9.31.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 31.10.in-addr.arpa."},
		{"unknown intrawire address", "9.9.30.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 30.10.in-addr.arpa."},
		{"gateway side of the direct link", "0.0.30.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 30.10.in-addr.arpa."},
		{"empty non-terminal", "128.31.10.in-addr.arpa.", dns.TypePTR, "NOERROR | 31.10.in-addr.arpa."},
		{"nothing below it", "200.31.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 31.10.in-addr.arpa."},
		{"below an address", "x.1.128.31.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | 31.10.in-addr.arpa."},
		{"apex", "31.10.in-addr.arpa.", dns.TypeNS, "NOERROR | 31.10.in-addr.arpa."},
		{"apex SOA", "30.10.in-addr.arpa.", dns.TypeSOA, "NOERROR 30.10.in-addr.arpa. SOA 30.10.in-addr.arpa."},
		{"another private range", "1.1.168.192.in-addr.arpa.", dns.TypePTR, forwarded},
		{"neighbor", "1.1.131.10.in-addr.arpa.", dns.TypePTR, forwarded},
		{"escaped dot in front of the apex", `x\.31.10.in-addr.arpa.`, dns.TypePTR, forwarded},
	} {
		t.Run(test.about, func(t *testing.T) {
			got := forwarded
			if a, ours := z.lookup(in(test.name), test.qtype); ours {
				got = render(a)
			}
			if want := in(test.want); got != want {
				t.Errorf("%s %s:\n found %s\nwanted %s", in(test.name), dns.TypeToString[test.qtype], got, want)
			}
		})
	}
}

func TestLargeZone(t *testing.T) {
	d := new(network.Document)
	for id := uint16(1); id <= 3000; id++ {
		d.Hosts = append(d.Hosts, network.Host{ID: id, Hostname: fmt.Sprintf("host%d.example.com", id)})
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	z := newZone(d)
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	bytes := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("3,000 hosts: %v, %d KiB", took, bytes>>10)
	if len(z.addresses) != 3000 || len(z.pointers) != 9000 {
		t.Errorf("found %d names and %d reverse names", len(z.addresses), len(z.pointers))
	}
	if bytes > 16<<20 {
		t.Errorf("the zone takes %d bytes", bytes)
	}
}
