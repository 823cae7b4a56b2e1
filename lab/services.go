package lab

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/miekg/dns"
)

// startServices starts what the machines find on the network: the package repository beside
// them, a DHCP server, and the resolver and a web server beyond the router.
func (l *Lab) startServices() error {
	for _, s := range []struct {
		name, namespace string
		args            []string
	}{
		{"repository", l.Namespace(), []string{"serve-repository", filepath.Join(l.Image, "bookworm", "repo")}},
		{"dhcp", l.Namespace(), []string{"serve-dhcp", l.Dir}},
		{"outside", l.OutsideNamespace(), []string{"serve-outside", l.queryLog(), namesFile(l.Dir)}},
	} {
		args := append([]string{"netns", "exec", s.namespace, l.path("lab")}, s.args...)
		if err := startProcess(l.path(s.name+".pid"), l.path(s.name+".log"), "ip", args...); err != nil {
			return fmt.Errorf("starting the service %s: %w", s.name, err)
		}
	}
	return nil
}

func (l *Lab) queryLog() string { return l.path("dns-queries.log") }

// ServeRepository serves the package repository until the process ends.
func ServeRepository(dir string) error {
	return http.ListenAndServe(RepositoryAddress+":80", http.FileServer(http.Dir(dir)))
}

// ServeOutside is the world beyond the router: a web server that tells callers their own
// address as it sees it, and a resolver that logs each query to a file and knows the names
// of another (see SetName), until the process ends.
func ServeOutside(queryLog, names string) error {
	log, err := os.OpenFile(queryLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		w.WriteMsg(answerQuery(query, changing(names), func(line string) {
			fmt.Fprintf(log, "%s %s %s\n", w.RemoteAddr().Network(), w.RemoteAddr(), line)
		}))
	})
	failed := make(chan error, 3)
	for _, network := range []string{"udp", "tcp"} {
		server := &dns.Server{Addr: ResolverAddress + ":53", Net: network, Handler: answer}
		go func() { failed <- server.ListenAndServe() }()
	}
	go func() {
		failed <- http.ListenAndServe(OutsideAddress+":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintln(w, host)
		}))
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	select {
	case err := <-failed:
		return err
	case <-stop:
		return nil
	}
}

// outsideZone is all that the resolver knows.
var outsideZone = map[string][]string{
	OutsideName + ".":            {OutsideName + ". 60 IN A " + OutsideAddress, OutsideName + `. 60 IN TXT "hello"`},
	"alias.example.net.":         {"alias.example.net. 60 IN CNAME " + OutsideName + ".", OutsideName + ". 60 IN A " + OutsideAddress},
	"1.100.51.198.in-addr.arpa.": {"1.100.51.198.in-addr.arpa. 60 IN PTR " + OutsideName + "."},
	"short.example.net.":         {"short.example.net. 1 IN A " + OutsideAddress},
	"large.example.net.":         largeAnswer(),
}

// largeAnswer does not fit into a UDP datagram, so that the client must come back over TCP.
func largeAnswer() []string {
	var records []string
	for i := 1; i <= 200; i++ {
		records = append(records, fmt.Sprintf("large.example.net. 60 IN A 198.51.100.%d", i))
	}
	return records
}

// changing reads the names that change. Nobody may keep them for long.
func changing(file string) map[string][]string {
	zone := map[string][]string{}
	data, _ := os.ReadFile(file)
	for _, line := range strings.Split(string(data), "\n") {
		if name, address, found := strings.Cut(line, " "); found {
			zone[name] = []string{name + " 1 IN A " + address}
		}
	}
	return zone
}

func answerQuery(query *dns.Msg, changing map[string][]string, log func(string)) *dns.Msg {
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	if len(query.Question) != 1 {
		return reply.SetRcode(query, dns.RcodeFormatError)
	}
	question := query.Question[0]
	log(fmt.Sprintf("%s %s", question.Name, dns.TypeToString[question.Qtype]))
	name := dns.CanonicalName(question.Name)
	records, known := outsideZone[name]
	if !known {
		records, known = changing[name]
	}
	if !known {
		reply.Rcode = dns.RcodeNameError
	}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			return reply.SetRcode(query, dns.RcodeServerFailure)
		}
		if t := rr.Header().Rrtype; t == question.Qtype || t == dns.TypeCNAME || rr.Header().Name != name {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	return reply
}

// Queries returns what the outside resolver was asked so far, a line per query:
// "udp 192.0.2.1:40000 outside.example.net. A".
func (l *Lab) Queries() (string, error) {
	data, err := os.ReadFile(l.queryLog())
	return string(data), err
}
