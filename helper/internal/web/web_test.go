package web

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

// network is what hosts say, until a test changes it.
type network struct {
	mu    sync.Mutex
	mesh  report.Mesh
	err   error
	asked atomic.Int32
	past  Past
	// guests are whom it takes for such.
	guests  netip.Prefix
	refused atomic.Uint64
}

func (n *network) ask(context.Context) (*report.Mesh, error) {
	n.asked.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.mesh
	m.Asked = time.Now().UTC().Truncate(time.Second)
	m.Hosts = append([]report.Host{}, n.mesh.Hosts...)
	for i := range m.Hosts {
		h := &m.Hosts[i]
		h.Ways = append([]report.Way{}, h.Ways...)
		if h.Answers() {
			h.Count(h.Ways)
		}
	}
	return &m, n.err
}

// change changes the way from one host to another.
func (n *network) change(from, to uint16, change func(*report.Way)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.mesh.Hosts {
		for k := range n.mesh.Hosts[i].Ways {
			if h := &n.mesh.Hosts[i]; h.HostID == from && h.Ways[k].To == to {
				change(&h.Ways[k])
			}
		}
	}
}

// hour has the past be an hour in which the ways got slower, and lost packets once.
func (n *network) hour() {
	for i := 0; i < pastPoints; i++ {
		m, _ := n.ask(context.Background())
		ways := m.Hosts[0].Ways
		for k := range ways {
			ways[k].RTT = 4 + 0.5*float64(i%7) + float64(i/60)*2.5
			if i/4 == 20 {
				ways[k].Loss = 0.2
			}
		}
		n.past.Note(time.Unix(1_700_000_000, 0).Add(time.Duration(i)*PastEvery), ways)
	}
}

// both changes the ways between two hosts.
func (n *network) both(a, b uint16, change func(*report.Way)) {
	n.change(a, b, change)
	n.change(b, a, change)
}

// wellNetwork has hosts that all reach each other.
func wellNetwork(hosts int) *network {
	names := []string{"alice", "bob", "carol", "dave", "erin"}
	n := &network{mesh: report.Mesh{Format: report.Format, AskedBy: 1, Generation: "6f1c2a90b7d3e845", TookSeconds: 0.04, Ways: report.AllWays}}
	for id := uint16(1); int(id) <= hosts; id++ {
		h := report.Host{HostID: id, Name: fmt.Sprintf("host-%d.example", id), Answer: report.Answered, Generation: n.mesh.Generation, Version: "v1-2-gabcdef, ID 0123456789ab", SinceSeconds: 93_784}
		if int(id) <= len(names) {
			h.Name = names[id-1]
		}
		for to := uint16(1); int(to) <= hosts; to++ {
			if to != id {
				h.Ways = append(h.Ways, report.Way{To: to, State: report.Up, SinceSeconds: 93_780, RTT: 3 + 2.2*float64((id+to)%7), HandshakeSeconds: 71})
			}
		}
		n.mesh.Hosts = append(n.mesh.Hosts, h)
	}
	n.inside()
	return n
}

// lose has all ways to a host be down, and the host say nothing.
func (n *network) lose(id uint16) {
	for i := range n.mesh.Hosts {
		n.both(n.mesh.Hosts[i].HostID, id, func(w *report.Way) {
			*w = report.Way{To: w.To, State: report.Down, SinceSeconds: 312, Loss: 1, LossMinutes: 1, HandshakeSeconds: 377}
		})
	}
	n.mesh.Clients.UnknownAt = append(n.mesh.Clients.UnknownAt, id)
	h := &n.mesh.Hosts[id-1]
	*h = report.Host{HostID: id, Name: h.Name, Answer: report.Unreachable}
}

func relayed(by uint16) func(*report.Way) {
	return func(w *report.Way) { w.Via, w.Kind, w.RTT, w.SinceSeconds = by, report.Relayed, 21.4, 1830 }
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// serve has the real handler on loopback and returns its address.
func serve(t *testing.T, n *network, fresh time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		door := &Door{Limits: PageLimits, Guests: n.guests, Refused: &n.refused}
		door.Know(map[string]bool{"127.0.0.1": true, "alice": true})
		ended <- Serve(ctx, []net.Listener{l}, door, Server(&Handler{Status: &Status{Ask: n.ask, Fresh: fresh}, Past: &n.past, Door: door, Log: quiet}))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("found %v, wanted it to end", err)
		}
	})
	return l.Addr().String()
}

// say sends a request as it is, and returns what comes back.
func say(t *testing.T, address, request string) (reply *http.Response, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	if reply, err = http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method}); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply, string(b)
}

// maxPage is what the page may have, in bytes.
const maxPage = 150_000

// TestPageIsWhole: it is small, and names nothing that would have to be loaded; what its
// policy allows is what it has.
func TestPageIsWhole(t *testing.T) {
	t.Logf("the page has %d bytes", len(page))
	if len(page) > maxPage {
		t.Errorf("found %d bytes, wanted %d at most", len(page), maxPage)
	}
	text := strings.ReplaceAll(string(page), "http://www.w3.org/2000/svg", "") // a name, which is not loaded
	for _, foreign := range []string{"http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "eval(", " style=", " onclick="} {
		if strings.Contains(text, foreign) {
			t.Errorf("found %q", foreign)
		}
	}
	for _, element := range []string{"script", "style"} {
		if n := strings.Count(text, "<"+element+">"); n != 1 {
			t.Errorf("found %d %s elements, wanted 1", n, element)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("found the policy %s", policy)
	}
}

// TestRefused: only who asks as a browser does, by a name that is the page's, gets an answer.
func TestRefused(t *testing.T) {
	n := wellNetwork(2)
	address := serve(t, n, time.Minute)
	for _, c := range []struct {
		what, request string
		code          int
	}{
		{"the page", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 200},
		{"its head", "HEAD / HTTP/1.1\r\nHost: 127.0.0.1:6256\r\n\r\n", 200},
		{"by a name", "GET / HTTP/1.1\r\nHost: Alice.:6256\r\n\r\n", 200},
		{"the facts", "GET /status.json HTTP/1.1\r\nHost: alice\r\nSec-Fetch-Site: same-origin\r\n\r\n", 200},
		{"the past", "GET /past.json HTTP/1.1\r\nHost: alice\r\n\r\n", 200},
		{"from a link elsewhere", "GET / HTTP/1.1\r\nHost: alice\r\nSec-Fetch-Site: cross-site\r\n\r\n", 200},
		{"a foreign name", "GET /status.json HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421},
		{"no name", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 421},
		{"no name at all", "GET / HTTP/1.0\r\n\r\n", 421},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"another site's script", "GET /status.json HTTP/1.1\r\nHost: alice\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403},
		{"a form", "POST / HTTP/1.1\r\nHost: alice\r\nContent-Length: 3\r\n\r\na=b", 405},
		{"a method of its own", "TRACE / HTTP/1.1\r\nHost: alice\r\n\r\n", 405},
		{"what the server can do", "OPTIONS * HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421},
		{"a body", "GET / HTTP/1.1\r\nHost: alice\r\nContent-Length: 3\r\n\r\nabc", 413},
		{"a body without end", "GET / HTTP/1.1\r\nHost: alice\r\nTransfer-Encoding: chunked\r\n\r\n", 413},
		{"another path", "GET /../etc/passwd HTTP/1.1\r\nHost: alice\r\n\r\n", 404},
		{"long headers", "GET / HTTP/1.1\r\nHost: alice\r\nA: " + strings.Repeat("a", 2*maxHeaderBytes) + "\r\n\r\n", 431},
	} {
		reply, body := say(t, address, c.request)
		if reply.StatusCode != c.code {
			t.Errorf("%s: found %s %s, wanted %d", c.what, reply.Status, body, c.code)
		}
		if len(reply.Cookies()) > 0 || reply.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: found %v, wanted no cookie and no other site's access", c.what, reply.Header)
		}
		if c.code == 200 && reply.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: found no policy", c.what)
		}
		if c.code >= 400 && !reply.Close {
			t.Errorf("%s: the connection stays", c.what)
		}
	}
	if found := n.asked.Load(); found != 1 {
		t.Errorf("the hosts were asked %d times, wanted once", found)
	}
}

// TestManyViewers: however many look, the hosts are asked once in a while, and all see the
// same, which is the report as JSON.
func TestManyViewers(t *testing.T) {
	n := wellNetwork(5)
	n.lose(5)
	address := serve(t, n, 300*time.Millisecond)
	began := time.Now()
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			accept := ""
			if i%2 == 1 {
				accept = "Accept-Encoding: gzip\r\n"
			}
			reply, body := say(t, address, "GET /status.json HTTP/1.1\r\nHost: 127.0.0.1\r\n"+accept+"Connection: close\r\n\r\n")
			if reply.Header.Get("Content-Encoding") == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(z)
				if err != nil {
					t.Error(err)
				}
				body = string(b)
			} else if accept != "" {
				t.Error("found plain bytes, wanted gzip")
			}
			var m report.Mesh
			if err := json.Unmarshal([]byte(body), &m); err != nil || m.Validate() != nil || len(m.Hosts) != 5 || len(m.Problems) == 0 {
				t.Errorf("found %s, %v", body, err)
			}
		}()
	}
	all.Wait()
	wanted := int32(time.Since(began)/(300*time.Millisecond)) + 1
	if found := n.asked.Load(); found > wanted {
		t.Errorf("the hosts were asked %d times, wanted %d at most", found, wanted)
	}
	n.mu.Lock()
	n.err = errors.New("it has just begun")
	n.mu.Unlock()
	time.Sleep(350 * time.Millisecond)
	if reply, body := say(t, address, "GET /status.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); reply.StatusCode != 503 || !strings.Contains(body, "it has just begun") {
		t.Errorf("found %s %s", reply.Status, body)
	}
}

// TestBounds: who takes more than a part is refused, and gets it back.
func TestBounds(t *testing.T) {
	network := wellNetwork(2)
	address := serve(t, network, time.Minute)
	var open []net.Conn
	for i := 0; i < PageLimits.ConnsEach; i++ {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("found %d bytes, %v, wanted the connection to be closed", n, err)
	}
	if n := network.refused.Load(); n != 1 {
		t.Errorf("%d are counted that were refused, wanted that connection", n)
	}
	// One that says nothing, or little, is closed.
	_ = open[0].SetDeadline(time.Now().Add(headerTimeout + 5*time.Second))
	fmt.Fprint(open[0], "GET / HT")
	began := time.Now()
	if b, _ := io.ReadAll(open[0]); time.Since(began) > headerTimeout+3*time.Second {
		t.Errorf("found %q after %v, wanted an end after %v", b, time.Since(began), headerTimeout)
	}
	for _, o := range open {
		o.Close()
	}
	refused, asked := 0, 0
	for began := time.Now(); refused == 0 && time.Since(began) < 30*time.Second; asked++ { // a busy machine asks slowly
		for end := time.Now().Add(3 * time.Second); ; {
			reply, err := http.Get("http://" + address + "/")
			if err != nil && time.Now().Before(end) { // the others are just being closed
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			reply.Body.Close()
			if reply.StatusCode == http.StatusTooManyRequests {
				refused++
			}
			break
		}
	}
	if refused == 0 || asked <= int(PageLimits.EachBurst) {
		t.Errorf("found %d of %d questions refused, wanted one after %d", refused, asked, int(PageLimits.EachBurst))
	}
}

// TestQuotaOfAll: connections and questions from everywhere together are bounded, too, and
// guests, who take whatever addresses they like, leave room for others.
func TestQuotaOfAll(t *testing.T) {
	door := Door{Guests: netip.MustParsePrefix("10.31.0.0/16")}
	q := newQuota(PageLimits, door.isGuest)
	taken := func(format string) (n int) {
		for i := 0; i < 2*PageLimits.Conns; i++ {
			if q.take(sourceOf(fmt.Sprintf(format, i))) {
				n++
			}
		}
		return n
	}
	if n := taken("10.31.200.%d:1"); n != PageLimits.Conns/guestsPart {
		t.Errorf("found %d connections of guests, wanted %d", n, PageLimits.Conns/guestsPart)
	}
	if n := taken("10.30.0.%d:1"); n != PageLimits.Conns-PageLimits.Conns/guestsPart {
		t.Errorf("found %d connections of hosts, wanted the rest", n)
	}
	q.release(sourceOf("10.31.200.0:1"))
	if !q.take(sourceOf("10.31.201.1:1")) || q.take(sourceOf("10.30.201.2:1")) {
		t.Error("wanted room for one more")
	}
	var r rate
	now, allBurst := time.Now(), int(PageLimits.AllBurst)
	answered := func(format string, guest bool) (n int) {
		for i := 0; i < 3*allBurst; i++ {
			if r.may(PageLimits, sourceOf(fmt.Sprintf(format, i/250, i%250)), guest, now) {
				n++
			}
		}
		return n
	}
	if n := answered("10.31.%d.%d:1", true); n != allBurst/guestsPart {
		t.Errorf("found %d answers for guests, wanted %d", n, allBurst/guestsPart)
	}
	if n := answered("10.30.%d.%d:1", false); n != allBurst-allBurst/guestsPart || len(r.sources) > maxSources {
		t.Errorf("found %d answers for hosts, wanted the rest", n)
	}
}

// TestThePageKnowsTheReport: the page's own copy of what is poor is the report's.
func TestThePageKnowsTheReport(t *testing.T) {
	found := regexp.MustCompile(`const lossy = ([0-9.]+);`).FindSubmatch(page)
	if found == nil {
		t.Fatal("the page does not say what is lossy")
	}
	var limit float64
	if _, err := fmt.Sscan(string(found[1]), &limit); err != nil {
		t.Fatal(err)
	}
	at := report.Way{State: report.Up, LossMinutes: limit}
	below := report.Way{State: report.Up, LossMinutes: limit - 0.0001}
	if !at.Lossy() || below.Lossy() {
		t.Errorf("found %v in the page, and the report has another limit", limit)
	}
}
