package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/metrics"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// askMetrics asks by a name for the series where dial leads.
func askMetrics(t *testing.T, name string, dial func() (net.Conn, error)) (code int, text string) {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() }}}
	answer, err := client.Get("http://" + name + metrics.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// scrape returns the series, by their names with labels, that are served where dial leads.
func scrape(t *testing.T, name string, dial func() (net.Conn, error)) map[string]string {
	t.Helper()
	code, text := askMetrics(t, name, dial)
	if code != http.StatusOK {
		t.Fatalf("found %d: %s", code, text)
	}
	all := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			all[line[:at]] = line[at+1:]
		}
	}
	return all
}

// someMetrics returns the server of an agent that knows of this network; nil: it does not run.
func someMetrics(n *metrics.Network) *metricsServer {
	a := &Agent{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "v1", Pending: func() bool { return true },
		Counters: func(shared bool) (*metrics.Gateway, error) {
			if !shared {
				return nil, errors.New("these are of a host that keeps its NIC")
			}
			return &metrics.Gateway{Refused: map[string]uint64{"source": 4}, RelayedPackets: 5}, nil
		}}
	m := newMetricsServer(a, func() (*metrics.Network, bool) { return n, n != nil }, func() metrics.Repairs {
		return metrics.Repairs{Succeeded: 1, Failed: 2, Deferred: 3, Last: time.Unix(1_700_000_000, 0), Differences: 2}
	})
	m.callsRefused = func() uint64 { return 3 }
	return m
}

// TestMetricsOfTheAgent: what is known is told on the host's socket, which is root's alone.
func TestMetricsOfTheAgent(t *testing.T) {
	peer := metrics.Peer{State: "up", RTT: time.Millisecond, Generation: "same", Handshake: time.Unix(1_700_000_000, 0)}
	direct, relayed := peer, peer
	direct.ID, relayed.ID, relayed.Relayed = 2, 3, true
	m := someMetrics(&metrics.Network{HostID: 1, Hostname: "a.example.com", Relays: true, Peers: []metrics.Peer{direct, relayed}})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	path := filepath.Join(t.TempDir(), "metrics.sock")
	if err := m.start(ctx, path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("found %v, %v, wanted a socket that is root's alone", info.Mode(), err)
	}
	all := scrape(t, "mobula", func() (net.Conn, error) { return net.Dial("unix", path) })
	for name, want := range map[string]string{
		`mobula_peers{state="up",way="direct"}`: "1", `mobula_peers{state="up",way="relayed"}`: "1", `mobula_peers_by_generation{generation="same"}`: "2",
		"mobula_network_running": "1", `mobula_host_info{host_id="1",hostname="a.example.com"}`: "1", "mobula_relaying": "1",
		"mobula_change_pending": "1", "mobula_comparison_differences": "2", `mobula_comparisons_total{result="success"}`: "1", `mobula_comparisons_total{result="failure"}`: "2",
		`mobula_comparisons_total{result="deferred"}`: "3", `mobula_refused_total{bound="mesh_calls"}`: "3",
		`mobula_gateway_refused_packets_total{reason="source"}`: "4", "mobula_relayed_packets_total": "5", "mobula_peers_omitted": "0",
	} {
		if all[name] != want {
			t.Errorf("%s: found %q, wanted %s", name, all[name], want)
		}
	}
	for name := range all {
		if strings.HasPrefix(name, "mobula_peer_") {
			t.Errorf("found %s, which nobody wanted", name)
		}
	}
	cancel()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", path); err != nil {
			break
		} else if conn.Close(); time.Now().After(deadline) {
			t.Fatal("serves after its end")
		}
	}
}

// busy is a host that is changed, or not.
type busy bool

func (busy) Running() (*store.Change, error) { return nil, nil }
func (b busy) Changing() bool                { return bool(b) }

// TestMetricsInside: the port is open where the document says so, follows it, and moves with
// the namespace.
func TestMetricsInside(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	m := someMetrics(nil)
	p := &parts{}
	document := &network.Document{Format: network.FormatVersion, UnderlayMTU: 1500, Hosts: []network.Host{{ID: 1, Hostname: "a.example.com"}}}
	at := document.DirectGateway().String() + ":6257"
	stand := func() {
		netnstest.Namespace(t, spec.Namespace)
		netnstest.Run(t, spec.Namespace, "ip", "link", "set", "lo", "up")
		netnstest.Run(t, spec.Namespace, "ip", "address", "add", document.DirectGateway().String()+"/32", "dev", "lo")
	}
	dial := func() (net.Conn, error) { return netns.Dial(context.Background(), spec.Namespace, "tcp", at) }
	follow := func(metrics bool) {
		d := *document
		d.Hosts = []network.Host{d.Hosts[0]}
		d.Hosts[0].Metrics = metrics
		m.follow(context.Background(), p, &store.Change{HostID: 1, Document: &d})
	}
	open := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			conn, err := dial()
			if err == nil {
				conn.Close()
			}
			if (err == nil) == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("found %v, wanted open: %v", err, want)
			}
			follow(want) // the port may be another one's for a moment
		}
	}
	follow(true) // there is no namespace yet
	stand()
	follow(false)
	open(false)
	open(true)
	if all := scrape(t, "10.30.0.0:6257", dial); all["mobula_network_running"] != "0" || all[`mobula_comparisons_total{result="success"}`] != "1" {
		t.Errorf("found %v", all)
	}
	for name, want := range map[string]int{"10.30.0.1:6257": 200, "10.30.0.2:6257": 421, "rebound.example": 421, "mobula": 421} {
		if code, text := askMetrics(t, name, dial); code != want {
			t.Errorf("by the name %s: found %d %.200s, wanted %d", name, code, text, want)
		}
	}
	before := m.inside.door
	document.Names = []network.Name{{Address: document.DirectGateway(), Names: []string{"new.example.com"}}}
	follow(true)
	if code, _ := askMetrics(t, "new.example.com", dial); code != 200 || m.inside.door != before {
		t.Errorf("by a name of another document: found %d, wanted 200 without a new start", code)
	}
	refused := 0
	for i := 0; i < 1000 && refused == 0; i++ { // a busy machine asks slowly
		if code, _ := askMetrics(t, "10.30.0.0:6257", dial); code == http.StatusTooManyRequests {
			refused++
		}
	}
	if found := m.look().ScrapesRefused; refused == 0 || found != uint64(refused) {
		t.Errorf("found %d scrapes refused, %d counted, wanted one that is", refused, found)
	}
	netnstest.Run(t, "", "ip", "netns", "delete", spec.Namespace)
	stand()
	follow(true)
	held := make([]net.Conn, scrapeLimits.ConnsEach+1) // of one program; another host's are not kept out by it
	for i := range held {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held[i] = conn
	}
	last := held[scrapeLimits.ConnsEach]
	_ = last.SetReadDeadline(time.Now().Add(3 * time.Second))
	if n, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("found %d bytes, %v, wanted that one connection of a host too many is closed", n, err)
	}
	for _, conn := range held {
		conn.Close()
	}
	open(true)
	m.follow(context.Background(), p, nil)
	open(false)
}

// BenchmarkScrape is what one costs, which looks at all peers.
func BenchmarkScrape(b *testing.B) {
	for _, peers := range []int{3, 3000} {
		b.Run(strconv.Itoa(peers)+" peers", func(b *testing.B) {
			_, p, _, _ := followed(b, peers)
			h := metrics.Handler(metrics.Collector(p.metrics.look))
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				answer := httptest.NewRecorder()
				h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
				if b.ReportMetric(float64(answer.Body.Len()), "bytes"); answer.Code != http.StatusOK {
					b.Fatal(answer.Body)
				}
			}
		})
	}
}
