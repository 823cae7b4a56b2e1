package metrics

import (
	"bufio"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/vswitch"
)

var update = flag.Bool("update", false, "write the table of docs/monitoring/README.md anew")

const (
	// mostSeries is how many series a host of any network has, those of the process among them,
	// and mostPerPeer how many more each of MaxPeers peers may add.
	mostSeries  = 130
	mostPerPeer = 6
)

// full is a snapshot in which there is something of all, with so many peers.
func full(peers int) Snapshot {
	at := time.Unix(1_700_000_000, 500_000_000)
	dropped, flooded := vswitch.DroppedFrames{Claimed: 23, Beyond: 35}, uint64(25)
	s := Snapshot{DroppedFrames: &dropped, FloodedFrames: &flooded, Version: "v1", GoVersion: "go1.21", Pending: true, CallsRefused: 1, ScrapesRefused: 27, PageRefused: 28,
		Repairs: Repairs{Succeeded: 2, Failed: 3, Deferred: 4, Found: 26, Last: at, Differences: 5},
		DNS:     &nameserver.Stats{Private: 1, CacheHits: 2, Upstream: 3, Declined: 4, Malformed: 5, Forwarded: 6, Failed: 7, Unanswered: 8, Refused: 9, Overloaded: 10, Forged: 11, Outstanding: 12, Entries: 13, CacheBytes: 14, Names: 15},
		Gateway: &Gateway{RelayedPackets: 16, RelayedBytes: 17, Stranded: 24, Refused: map[string]uint64{"source": 18, "connections": 19, "neighbors": 20, "metadata": 21, "host": 22}},
		Network: &Network{HostID: 1, Hostname: "a.example.com", Generation: "0123456789abcdef", Since: at, Relays: true,
			Refused: Refused{Echoes: 1, PeerMACs: 2, StrangerMACs: 3, Questions: 4, Askers: 5, FirstPackets: 6, Carried: 29, Announcements: 30},
			Carried: Carried{Own: Volume{31, 32}, Others: Volume{33, 34}},
			Paths:   paths.Stats{Falls: 7, Searches: 8, SearchesFailed: 9, QuestionsRefused: 10, ChecksRefused: 11, RumorsRefused: 26, ProbesHeld: 12}}}
	s.Network.Paths.Direct = paths.WayStats{Sent: 5, Taken: 2, RoundTrips: paths.RoundTrips{Count: 3, Sum: 3500 * time.Millisecond}}
	s.Network.Paths.Direct.RoundTrips.Buckets[0], s.Network.Paths.Direct.RoundTrips.Buckets[2] = 1, 1 // and one beyond all
	for i := 0; i < peers; i++ {
		s.Network.Peers = append(s.Network.Peers, Peer{ID: uint16(i + 2), Hostname: fmt.Sprintf("h%d.example.com", i), State: [...]string{paths.StateUp, paths.StateDown, paths.StateUnknown}[i%3],
			Relayed: i%2 == 0, Carried: i%4 == 0, Poor: i%5 == 0, Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 51820), RTT: time.Millisecond, Loss: 0.25,
			Handshake: at.Add(time.Duration(i) * time.Second), Generation: [...]string{"same", "different", "unknown"}[i%3]})
	}
	return s
}

func collectorOf(s Snapshot) prometheus.Collector { return Collector(func() Snapshot { return s }) }

// TestNames: units, suffixes and help are as Prometheus wants them (promlint).
func TestNames(t *testing.T) {
	s := full(3)
	s.Network.PerPeer = true
	problems, err := testutil.CollectAndLint(collectorOf(s))
	if err != nil || len(problems) > 0 {
		t.Errorf("found %v, %v, wanted nothing to be said", problems, err)
	}
	if n := testutil.CollectAndCount(collectorOf(s), "mobula_peer_info"); n != 3 {
		t.Errorf("found %d peers, wanted that the lint has seen three", n)
	}
	for _, f := range families {
		for _, label := range f.labels {
			if label == "endpoint" && !strings.HasSuffix(f.name, "_info") {
				t.Errorf("%s: found endpoints, wanted them in an _info alone: they change", f.name)
			}
		}
		if strings.HasSuffix(f.name, "_age_seconds") {
			t.Errorf("%s: found an age, wanted a timestamp", f.name)
		}
	}
}

// scrape returns the series that a server has.
func scrape(t *testing.T, h http.Handler) []string {
	t.Helper()
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, Path, nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("found %d: %s", answer.Code, answer.Body)
	}
	var all []string
	for _, line := range strings.Split(strings.TrimSpace(answer.Body.String()), "\n") {
		if !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// TestSeriesAreBounded: what a host says does not grow with the network.
func TestSeriesAreBounded(t *testing.T) {
	for _, c := range []struct {
		peers   int
		perPeer bool
		most    int
	}{
		{2, false, mostSeries}, {3000, false, mostSeries}, {3000, true, mostSeries},
		{MaxPeers, true, mostSeries + MaxPeers*mostPerPeer}, {MaxPeers + 1, true, mostSeries},
	} {
		s := full(c.peers)
		s.Network.PerPeer = c.perPeer
		all := scrape(t, Handler(collectorOf(s)))
		each := 0
		for _, line := range all {
			if strings.HasPrefix(line, "mobula_peer_") {
				each++
			}
		}
		t.Logf("%d peers, each by itself: %v: %d series", c.peers, c.perPeer, len(all))
		if len(all) > c.most || len(all) < mostSeries-20 {
			t.Errorf("%d peers (each by itself: %v): found %d series, wanted at most %d", c.peers, c.perPeer, len(all), c.most)
		}
		if wanted := c.perPeer && c.peers <= MaxPeers; (each == c.peers*mostPerPeer) != wanted || !wanted && each > 0 {
			t.Errorf("%d peers (each by itself: %v): found %d series of them", c.peers, c.perPeer, each)
		}
	}
}

// TestValues: what of a snapshot is where.
func TestValues(t *testing.T) {
	s := full(6)
	s.Network.PerPeer = true
	have := map[string]bool{}
	for _, line := range scrape(t, Handler(collectorOf(s))) {
		have[line] = true
	}
	for _, want := range []string{
		`mobula_build_info{goversion="go1.21",version="v1"} 1`, "mobula_network_running 1", "mobula_change_pending 1", "mobula_relaying 1",
		`mobula_host_info{host_id="1",hostname="a.example.com"} 1`, `mobula_generation_info{generation="0123456789abcdef"} 1`,
		"mobula_generation_taken_timestamp_seconds 1.7000000005e+09",
		`mobula_comparisons_total{result="success"} 2`, `mobula_comparisons_total{result="failure"} 3`, `mobula_comparisons_total{result="deferred"} 4`,
		"mobula_comparison_timestamp_seconds 1.7000000005e+09", "mobula_comparison_differences 5", "mobula_differences_found_total 26",
		`mobula_peers{state="up",way="direct"} 1`, `mobula_peers{state="up",way="relayed"} 1`, `mobula_peers{state="down",way="relayed"} 1`, `mobula_peers{state="unknown",way="direct"} 1`,
		"mobula_peers_poor 2", "mobula_peers_carried 1", `mobula_peers_by_generation{generation="different"} 2`, "mobula_peers_without_handshake 0",
		"mobula_handshake_oldest_timestamp_seconds 1.7000000005e+09", "mobula_handshake_newest_timestamp_seconds 1.7000000055e+09",
		`mobula_probes_sent_total{way="direct"} 5`, `mobula_probe_round_trip_seconds_bucket{way="direct",le="0.0005"} 1`, `mobula_probe_round_trip_seconds_bucket{way="direct",le="0.001"} 1`,
		`mobula_probe_round_trip_seconds_bucket{way="direct",le="2"} 2`, `mobula_probe_round_trip_seconds_bucket{way="direct",le="+Inf"} 3`,
		`mobula_probe_round_trip_seconds_sum{way="direct"} 3.5`, `mobula_probe_round_trip_seconds_count{way="relayed"} 0`,
		"mobula_probes_held_total 12", `mobula_path_changes_total{way="direct"} 2`, "mobula_path_failures_total 7", "mobula_relay_searches_total 8", "mobula_relay_search_failures_total 9",
		"mobula_relayed_packets_total 16", "mobula_relayed_bytes_total 17", "mobula_relay_stranded_packets_total 24", `mobula_switch_dropped_frames_total{reason="address"} 23`, `mobula_switch_dropped_frames_total{reason="bound"} 35`, "mobula_switch_flooded_frames_total 25",
		`mobula_refused_total{bound="echoes"} 1`, `mobula_refused_total{bound="peer_macs"} 2`, `mobula_refused_total{bound="stranger_macs"} 3`, `mobula_refused_total{bound="mesh_questions"} 4`,
		`mobula_refused_total{bound="relay_askers"} 5`, `mobula_refused_total{bound="first_packets"} 6`, `mobula_refused_total{bound="relay_questions"} 10`, `mobula_refused_total{bound="relay_checks"} 11`, `mobula_refused_total{bound="rumors"} 26`, `mobula_refused_total{bound="mesh_calls"} 1`,
		`mobula_carried_datagrams_total{of="own"} 31`, `mobula_carried_bytes_total{of="own"} 32`, `mobula_carried_datagrams_total{of="others"} 33`, `mobula_carried_bytes_total{of="others"} 34`,
		`mobula_refused_total{bound="carried"} 29`, `mobula_refused_total{bound="announcements"} 30`,
		`mobula_refused_total{bound="scrapes"} 27`, `mobula_refused_total{bound="page"} 28`,
		`mobula_gateway_refused_packets_total{reason="source"} 18`,
		`mobula_dns_questions_total{result="private"} 1`, `mobula_dns_questions_total{result="cached"} 2`, `mobula_dns_questions_total{result="upstream"} 3`, `mobula_dns_questions_total{result="declined"} 4`, `mobula_dns_questions_total{result="malformed"} 5`,
		"mobula_dns_upstream_questions_total 6", "mobula_dns_upstream_failures_total 7", "mobula_dns_upstream_errors_total 8",
		`mobula_dns_refused_total{bound="source"} 9`, `mobula_dns_refused_total{bound="overload"} 10`, `mobula_dns_refused_total{bound="forged"} 11`,
		`mobula_peer_info{endpoint="192.0.2.1:51820",host_id="3",peer="h1.example.com"} 1`, `mobula_peer_up{peer="h0.example.com"} 1`, `mobula_peer_up{peer="h1.example.com"} 0`,
		`mobula_peer_relayed{peer="h0.example.com"} 1`, `mobula_peer_round_trip_seconds{peer="h0.example.com"} 0.001`, `mobula_peer_loss_ratio{peer="h0.example.com"} 0.25`,
		`mobula_peer_handshake_timestamp_seconds{peer="h1.example.com"} 1.7000000015e+09`, "mobula_peers_omitted 0",
	} {
		if !have[want] {
			t.Errorf("found no %s", want)
		}
	}
	if s := scrape(t, Handler(collectorOf(full(MaxPeers+1)))); !contains(s, "mobula_peers_omitted 0") {
		t.Error("found peers left out where they are not wanted")
	}
	s = full(MaxPeers + 1)
	s.Network.PerPeer = true
	if all := scrape(t, Handler(collectorOf(s))); !contains(all, "mobula_peers_omitted 101") {
		t.Error("found nothing of the peers left out")
	}
}

// TestNothingRuns: where there is no network there are no counts of it, which would be wrong.
func TestNothingRuns(t *testing.T) {
	all := scrape(t, Handler(collectorOf(Snapshot{Version: "v1"})))
	for _, line := range all {
		for _, not := range []string{"mobula_peer", "mobula_dns", "mobula_relay", "mobula_carried", "mobula_probe", "mobula_comparison_", "mobula_generation", "mobula_gateway", "mobula_switch"} {
			if strings.HasPrefix(line, not) {
				t.Errorf("found %s", line)
			}
		}
	}
	if !contains(all, "mobula_network_running 0") || !contains(all, `mobula_refused_total{bound="mesh_calls"} 0`) {
		t.Errorf("found %v, wanted that nothing runs", all)
	}
}

// TestScrapesAreBounded: one is answered at a time, who comes while three wait for that is
// refused, and counted; nothing but the series is there.
func TestScrapesAreBounded(t *testing.T) {
	var looking atomic.Int32
	go1 := make(chan bool)
	h := Handler(Collector(func() Snapshot {
		if n := looking.Add(1); n != 1 {
			t.Errorf("found %d looks at a time, wanted one", n)
		}
		defer looking.Add(-1)
		<-go1
		return full(1)
	}))
	code := func() int {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, Path, nil))
		return answer.Code
	}
	codes := make(chan int, maxScrapes+1)
	for i := 0; i < maxScrapes+1; i++ {
		go func() { codes <- code() }()
	}
	if got := <-codes; got != http.StatusServiceUnavailable { // the others cannot end yet
		t.Errorf("found %d, wanted %d", got, http.StatusServiceUnavailable)
	}
	close(go1)
	for i := 0; i < maxScrapes; i++ {
		if got := <-codes; got != http.StatusOK {
			t.Errorf("found %d, wanted 200", got)
		}
	}
	if all := scrape(t, h); !contains(all, `promhttp_metric_handler_requests_total{code="503"} 1`) {
		t.Errorf("found %v, wanted the refusal counted", all)
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil))
	if answer.Code != http.StatusNotFound {
		t.Errorf("found %d elsewhere, wanted 404", answer.Code)
	}
}

// TestServerAnswersNothingByItself: whatever is asked comes to the handler, which may not want
// to speak to whoever it is.
func TestServerAnswersNothingByItself(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := Server(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMisdirectedRequest) }))
	defer server.Close()
	go func() { _ = server.Serve(l) }()
	for _, question := range []string{"OPTIONS * HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "OPTIONS * HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(conn, question); err != nil {
			t.Fatal(err)
		}
		if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%q: found %+v, %v, wanted what the handler says", question, answer, err)
		}
	}
}

func TestCompressed(t *testing.T) {
	request, answer := httptest.NewRequest(http.MethodGet, Path, nil), httptest.NewRecorder()
	request.Header.Set("Accept-Encoding", "gzip")
	Handler(collectorOf(full(1))).ServeHTTP(answer, request)
	unpacked, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(unpacked); err != nil || !strings.Contains(string(text), "\nmobula_network_running 1\n") {
		t.Errorf("found %.200q, %v", text, err)
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

const document, begin, end = "../../../docs/monitoring/README.md", "<!-- begin: metrics -->\n", "<!-- end: metrics -->\n"

// table is what the document says of all families.
func table() string {
	var s strings.Builder
	s.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		labels := "-"
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&s, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	return s.String()
}

// TestReference: the document's table is that of the code; -update writes it.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), begin)
	have, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: found no %q and %q", document, begin, end)
	}
	if have == table() {
		return
	}
	if !*update {
		t.Fatalf("%s: its table is another one than the code's; go test ./helper/internal/metrics -run TestReference -update writes it", document)
	}
	if err := os.WriteFile(document, []byte(before+begin+table()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
