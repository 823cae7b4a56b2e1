package healing

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mobula/helper/internal/metrics"
)

// TestMetricsOfAHealer: what happens on paths is counted.
func TestMetricsOfAHealer(t *testing.T) {
	n := newTestNet(t, 3)
	up := func(p PeerState) bool { return p.State == "up" && p.RTT > 0 }
	n.peer(1, 2, "up", up)
	n.peer(1, 3, "up", up)
	n.mu.Lock()
	n.cut[[2]uint16{1, 2}], n.cut[[2]uint16{2, 1}] = true, true
	n.mu.Unlock()
	n.peer(1, 2, "a relay", func(p PeerState) bool { return up(p) && p.Via == 3 })
	h := n.healers[1].Healer
	h.mu.Lock()
	for i := 0; i < 1000; i++ { // beyond what a peer may have at once
		h.mayEcho(h.peers[2])
		h.mayVerify(h.peers[2], underlay(9))
	}
	h.mu.Unlock()

	mine, other := h.metrics(), n.healers[2].metrics() // one of both ends finds the relay, the other one follows
	if mine.Hostname != "a.example.com" || mine.HostID != 1 || !mine.Relays || len(mine.Peers) != 2 {
		t.Errorf("found %+v", mine)
	}
	for _, p := range mine.Peers {
		if p.State != "up" || p.Relayed != (p.ID == 2) || p.Generation != "same" || p.RTT <= 0 || p.Handshake.IsZero() {
			t.Errorf("found %+v", p)
		}
	}
	if mine.Paths.Falls+other.Paths.Falls == 0 || mine.Paths.Searches+other.Paths.Searches == 0 {
		t.Errorf("found %+v and %+v, wanted a path that fell, and a search", mine.Paths, other.Paths)
	}
	if mine.Refused.Echoes == 0 || mine.Refused.StrangerMACs == 0 {
		t.Errorf("found %+v, wanted that what was refused is counted", mine.Refused)
	}
	all := scrape(t, metrics.Snapshot{Network: mine})
	for _, name := range []string{
		`mobula_probes_sent_total{way="direct"}`, `mobula_probes_sent_total{way="relayed"}`, `mobula_probe_round_trip_seconds_count{way="direct"}`, `mobula_probe_round_trip_seconds_count{way="relayed"}`,
		`mobula_path_changes_total{way="relayed"}`,
		`mobula_refused_total{bound="echoes"}`, `mobula_refused_total{bound="stranger_macs"}`, "mobula_handshake_oldest_timestamp_seconds",
	} {
		if v := all[name]; v == "" || v == "0" {
			t.Errorf("%s: found %q, wanted that something was counted", name, v)
		}
	}
}

// scrape returns the series, by their names with labels, of a snapshot.
func scrape(t *testing.T, s metrics.Snapshot) map[string]string {
	t.Helper()
	answer := httptest.NewRecorder()
	metrics.Handler(metrics.Collector(func() metrics.Snapshot { return s })).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
	if answer.Code != http.StatusOK {
		t.Fatal(answer.Body)
	}
	all := map[string]string{}
	for _, line := range strings.Split(answer.Body.String(), "\n") {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			all[line[:at]] = line[at+1:]
		}
	}
	return all
}
