package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// getPage asks for a path of the page at an address of the gateway, by a name.
func getPage(t *testing.T, at netip.Addr, name, path string) (code int, body []byte) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return netns.Dial(ctx, spec.Namespace, "tcp", netip.AddrPortFrom(at, spec.PageTCPPort).String())
	}}
	reply, err := (&http.Client{Transport: transport}).Get("http://" + name + path)
	if err != nil {
		return 0, nil
	}
	defer reply.Body.Close()
	body, err = io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, body
}

// TestPageOfTheAgent: the page is at the gateway's addresses, by its names, with what
// the agents of all hosts say; it follows the document and the namespace, and ends.
func TestPageOfTheAgent(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	ways := []report.Way{{To: 2, State: report.Up, RTT: 1}, {To: 3, State: report.Down}}
	var known atomic.Bool
	page := newPageServer(log, func(context.Context) (*report.Mesh, error) {
		if !known.Load() {
			return nil, errors.New("nothing is known yet")
		}
		m := &report.Mesh{Format: report.Format, Ways: report.AllWays, AskedBy: 1, Hosts: []report.Host{{HostID: 1, Answer: report.Answered, Ways: ways},
			{HostID: 2, Answer: report.Answered}, {HostID: 3, Answer: report.Silent}},
			Names:   &report.Names{List: []report.Name{{Name: "one.example.com", Address: netip.MustParseAddr("10.31.0.1"), Of: network.HostName}}},
			Clients: &report.Clients{List: []report.Client{{Address: netip.MustParseAddr("10.30.128.1")}}, UnknownAt: []uint16{3}}}
		m.Judge()
		return m, nil
	}, func() []report.Way {
		if !known.Load() {
			return nil
		}
		return ways
	})
	ctx := context.Background()
	change := func(name string) *store.Change {
		d := &network.Document{Hosts: []network.Host{{ID: 1, Hostname: "one.example.com"}, {ID: 2, Hostname: "two.example.com"}}}
		d.Names = []network.Name{{Address: d.GatewayAddress(1), Names: []string{name}}, {Address: d.GatewayAddress(2), Names: []string{"b.example.com"}}}
		return &store.Change{HostID: 1, Document: d}
	}
	running := change("a.example.com")
	namespace := func() {
		netnstest.Namespace(t, spec.Namespace)
		for _, a := range listensAt(running) {
			netnstest.Run(t, spec.Namespace, "ip", "address", "add", a.String()+"/32", "dev", "lo")
		}
	}
	page.follow(ctx, running) // no namespace yet
	if page.serves() || page.problem == "" {
		t.Fatalf("without a namespace found %+v, wanted a problem", page)
	}
	namespace()
	page.follow(ctx, running)
	defer page.stop()
	gateway, direct := running.Document.GatewayAddress(1), running.Document.DirectGateway()
	if code, body := getPage(t, gateway, "10.31.0.1:6256", "/status.json"); code != http.StatusServiceUnavailable {
		t.Errorf("before its agent knows anything found %d %s", code, body)
	}
	known.Store(true)
	page.stop() // what was said is said again for a while
	page.follow(ctx, running)
	for _, c := range []struct {
		at   netip.Addr
		name string
		code int
	}{
		{gateway, "10.31.0.1:6256", 200}, {direct, "10.30.0.0:6256", 200}, {direct, "10.30.0.1:6256", 200}, {gateway, "a.example.com:6256", 200},
		{gateway, "b.example.com", 421}, {gateway, "rebound.example", 421}, {direct, "10.31.0.2", 421}, {direct, "127.0.0.1", 421},
	} {
		if code, body := getPage(t, c.at, c.name, "/"); code != c.code {
			t.Errorf("%s at %s: found %d %s, wanted %d", c.name, c.at, code, body, c.code)
		}
	}
	var m report.Mesh
	if code, body := getPage(t, gateway, "10.31.0.1", "/status.json"); code != 200 || json.Unmarshal(body, &m) != nil || m.Validate() != nil || len(m.Hosts) != 3 || len(m.Hosts[0].Ways) != 2 || len(m.Problems) == 0 {
		t.Errorf("found %d %s", code, body)
	}

	page.follow(ctx, running)
	if code, body := getPage(t, gateway, "10.31.0.1", "/past.json"); code != 200 || !strings.Contains(string(body), `{"host_id":2,"rtt_ms":[null,`) {
		t.Errorf("of the past found %d %s", code, body)
	}

	for from, told := range map[netip.Addr]bool{gateway: false, direct: true} {
		if code, body := getPage(t, from, "10.31.0.1", "/status.json"); code != 200 || strings.Contains(string(body), `"clients"`) != told || !strings.Contains(string(body), `"names"`) {
			t.Errorf("from %s: found %d %s, wanted it told of clients: %v", from, code, body, told)
		}
	}

	renamed := change("c.example.com")
	before := page.ended
	page.follow(ctx, renamed)
	if old, _ := getPage(t, gateway, "a.example.com", "/"); old != 421 || page.ended != before {
		t.Errorf("after another name found %d by the old one, wanted it refused without a new start", old)
	}
	if code, _ := getPage(t, gateway, "c.example.com", "/"); code != 200 {
		t.Errorf("by the new name found %d", code)
	}
	kept, err := netns.Dial(ctx, spec.Namespace, "tcp", netip.AddrPortFrom(gateway, spec.PageTCPPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	_ = kept.SetDeadline(time.Now().Add(10 * time.Second))
	reader := bufio.NewReader(kept)
	again := func() (*http.Response, error) { // as a browser does, for as long as it is let
		if _, err := io.WriteString(kept, "HEAD / HTTP/1.1\r\nHost: c.example.com\r\n\r\n"); err != nil {
			return nil, err
		}
		return http.ReadResponse(reader, &http.Request{Method: http.MethodHead})
	}
	if reply, err := again(); err != nil || reply.StatusCode != 200 {
		t.Fatalf("found %v, %v", reply, err)
	}
	renamed = change("c.example.com")
	renamed.Document.Hosts[0].MapForGuests = true
	page.follow(ctx, renamed)
	if reply, err := again(); err == nil {
		t.Errorf("after others may look found %s on a connection from before, wanted that it has ended", reply.Status)
	}
	if code, _ := getPage(t, gateway, "c.example.com", "/"); code != 200 {
		t.Errorf("for guests found %d", code)
	}
	if err := netns.Delete(spec.Namespace); err != nil {
		t.Fatal(err)
	}
	namespace()
	page.follow(ctx, renamed)
	if code, _ := getPage(t, gateway, "c.example.com", "/"); code != 200 {
		t.Errorf("in a new namespace found %d", code)
	}
	page.follow(ctx, nil)
	if code, _ := getPage(t, gateway, "c.example.com", "/"); code != 0 || page.serves() {
		t.Errorf("without a network found %d, wanted that nobody listens", code)
	}
}
