package nameserver

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestPublicAddresses(t *testing.T) {
	rcode := func(code int) dns.HandlerFunc {
		return func(w dns.ResponseWriter, m *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(m, code)) }
	}
	for _, c := range []struct {
		about, name string
		handle      dns.HandlerFunc
		want        string
	}{
		{"one", "Home.example.org", answering("home.example.org. 60 A 192.0.2.7"), "[192.0.2.7]"},
		{"two", "home.example.org", answering("home.example.org. 60 A 192.0.2.7", "home.example.org. 60 A 192.0.2.6"), "[192.0.2.7 192.0.2.6]"},
		{"over another name", "home.example.org", answering("home.example.org. 60 CNAME a.example.net.", "a.example.net. 60 A 192.0.2.7"), "[192.0.2.7]"},
		{"beside the question", "home.example.org", answering("home.example.org. 60 A 192.0.2.7", "evil.example.org. 60 A 192.0.2.66"), "[192.0.2.7]"},
		{"a private name", "alice.example.com", answering("alice.example.com. 60 A 192.0.2.7"), "[192.0.2.7]"},
		{"over a private name", "home.example.org", answering("home.example.org. 60 CNAME alice.example.com.", "alice.example.com. 60 A 192.0.2.7"), "[192.0.2.7]"},
		{"no such name", "home.example.org", rcode(dns.RcodeNameError), "there is no such name"},
		{"no address", "home.example.org", rcode(dns.RcodeSuccess), "it has no address"},
		{"IPv6 only", "home.example.org", func(w dns.ResponseWriter, m *dns.Msg) {
			if m.Question[0].Qtype == dns.TypeAAAA {
				answering("home.example.org. 60 AAAA 2001:db8::1")(w, m)
				return
			}
			rcode(dns.RcodeSuccess)(w, m)
		}, "[2001:db8::1]"},
		{"both", "home.example.org", func(w dns.ResponseWriter, m *dns.Msg) {
			if m.Question[0].Qtype == dns.TypeAAAA {
				answering("home.example.org. 60 AAAA 2001:db8::1")(w, m)
				return
			}
			answering("home.example.org. 60 A 192.0.2.7")(w, m)
		}, "[192.0.2.7 2001:db8::1]"},
		{"refused", "home.example.org", rcode(dns.RcodeRefused), "no resolver has an answer"},
		{"silent", "home.example.org", func(dns.ResponseWriter, *dns.Msg) {}, "no resolver has an answer"},
	} {
		t.Run(c.about, func(t *testing.T) {
			upstream := startResolver(t, c.handle)
			s, _ := offline(Config{AttemptTimeout: 50 * time.Millisecond, Deadline: 500 * time.Millisecond}, upstream)
			found, err := s.PublicAddresses(context.Background(), c.name)
			got := fmt.Sprint(found)
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("found %s, wanted %s", got, c.want)
			}
			if n := s.Stats().Entries; n != 0 {
				t.Errorf("%d answers were kept", n)
			}
		})
	}
	s, _ := offline(Config{})
	if _, err := s.PublicAddresses(context.Background(), "home.example.org"); err == nil || err.Error() != "there is no resolver (set upstream_dns)" {
		t.Errorf("without resolvers: found %v", err)
	}
}

// TestPublicAddressesOfWhoNeverAnswers: neither over UDP nor over TCP, and whoever asks
// may go.
func TestPublicAddressesOfWhoNeverAnswers(t *testing.T) {
	truncated := func(w dns.ResponseWriter, m *dns.Msg) {
		if w.LocalAddr().Network() == "udp" {
			out := new(dns.Msg).SetReply(m)
			out.Truncated = true
			w.WriteMsg(out)
		}
	}
	for _, handle := range []dns.HandlerFunc{truncated, func(dns.ResponseWriter, *dns.Msg) {}} {
		s, _ := offline(Config{Deadline: time.Hour, AttemptTimeout: time.Hour}, startResolver(t, handle))
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		began := time.Now()
		if _, err := s.PublicAddresses(ctx, "home.example.org"); err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("found %v after %v", err, time.Since(began))
		}
		cancel()
	}
}
