package metrics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mobula/helper/internal/spec"
)

const monitoring = "../../../docs/monitoring/"

// known are the names of all series that a host has.
func known(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, f := range families {
		all[f.name] = true
		if f.kind == histograms {
			all[f.name+"_bucket"], all[f.name+"_sum"], all[f.name+"_count"] = true, true, true
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gathered, err := registry.Gather()
	if err != nil || len(gathered) < 5 {
		t.Fatalf("found %v of the process, %v", gathered, err)
	}
	for _, f := range gathered {
		all[f.GetName()] = true
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:mobula|process|promhttp|go)_[a-z_]+`)
	selector   = regexp.MustCompile(`\b(mobula_[a-z_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

// holdExpression holds that an expression is about series and labels that there are.
func holdExpression(t *testing.T, where, expr string) {
	t.Helper()
	all := known(t)
	for _, name := range metricName.FindAllString(expr, -1) {
		if !all[name] {
			t.Errorf("%s: found %s, which there is not: %s", where, name, expr)
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if label := l[1]; label != "instance" && label != "job" && label != "le" && !hasLabel(m[1], label) {
				t.Errorf("%s: found the label %s, which %s has not", where, label, m[1])
			}
		}
	}
}

func hasLabel(name, label string) bool {
	for _, f := range families {
		if strings.HasPrefix(name, f.name) && contains(f.labels, label) {
			return true
		}
	}
	return false
}

// TestDashboard: it is what Grafana imports, each panel asks for something, and for what
// there is; nothing of the network is missing in it.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile(monitoring + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID    string
		SchemaVersion int
		Panels        []struct {
			ID          int
			Type, Title string
			GridPos     struct{ H, W, X, Y int }
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title != "Mobula" || d.UID == "" || d.SchemaVersion == 0 || len(d.Panels) < 20 {
		t.Errorf("found %q, %q, schema %d, %d panels", d.Title, d.UID, d.SchemaVersion, len(d.Panels))
	}
	ids, places, asked := map[int]bool{}, map[[2]int]string{}, ""
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: found ID %d twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s: found it on top of %q, or beyond 24 columns", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s: found %d questions in a panel of type %s", p.Title, len(p.Targets), p.Type)
		}
		for _, q := range p.Targets {
			asked += q.Expr + "\n"
			holdExpression(t, p.Title, q.Expr)
			if !metricName.MatchString(q.Expr) {
				t.Errorf("%s: asks for nothing: %q", p.Title, q.Expr)
			}
		}
	}
	for _, name := range []string{"mobula_peers", "mobula_generation_info", "mobula_probe_round_trip_seconds_bucket", "mobula_differences_found_total", "mobula_dns_questions_total", "mobula_refused_total", "mobula_gateway_refused_packets_total"} {
		if !strings.Contains(asked, name+"{") {
			t.Errorf("found no question for %s", name)
		}
	}
}

// alerts returns the expression of each rule, by its name.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(monitoring + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, rule := range strings.Split(string(data), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		_, expr, _ := strings.Cut(rest, "expr:")
		all[name], _, _ = strings.Cut(expr, "\n        for:")
	}
	if len(all) < 10 {
		t.Fatalf("found the rules %v", all)
	}
	return all
}

// TestAlertNames: rules are about series that there are, and each has a test that makes it
// speak and one in which it is silent.
func TestAlertNames(t *testing.T) {
	tests, err := os.ReadFile(monitoring + "alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for name, expr := range alerts(t) {
		holdExpression(t, name, expr)
		if strings.Count(string(tests), "alertname: "+name+"\n        exp_alerts:\n          - exp_labels:") == 0 || strings.Count(string(tests), "alertname: "+name+"}") == 0 {
			t.Errorf("%s: found no two tests, wanted one in which it speaks and one in which it is silent", name)
		}
	}
	for _, m := range regexp.MustCompile(`series: '(mobula_[a-z_]+\{[^}]*\})'`).FindAllStringSubmatch(string(tests), -1) {
		holdExpression(t, "alerts_test.yml", m[1])
	}
}

// TestAlertsAreExplained: the document says of each rule, and of no other, what it means and what to do.
func TestAlertsAreExplained(t *testing.T) {
	text, err := os.ReadFile(monitoring + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (Mobula\w+) \| [^|]+ \| [^|]+ \|$`).FindAllSubmatch(text, -1) {
		explained[string(row[1])] = true
	}
	all := alerts(t)
	for name := range all {
		if !explained[name] {
			t.Errorf("%s: found no row, wanted one with what it means and what to do", name)
		}
	}
	for name := range explained {
		if _, is := all[name]; !is {
			t.Errorf("%s: found a row, and no such rule", name)
		}
	}
}

// promtool is Prometheus' own, as lab/deps.sh unpacks it.
func promtool(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("MOBULA_LAB_CACHE")
	if cache == "" {
		cache = "/var/cache/mobula-lab"
	}
	path := cache + "-promtool/usr/bin/promtool"
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%v: lab/deps.sh test unpacks it", err)
	}
	return path
}

// TestAlerts: the rules are what Prometheus reads, and their tests pass.
func TestAlerts(t *testing.T) {
	program := promtool(t)
	for _, arguments := range [][]string{{"check", "rules", monitoring + "alerts.yml"}, {"test", "rules", monitoring + "alerts_test.yml"}} {
		if out, err := exec.Command(program, arguments...).CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
}

// TestConfiguration: what the document says Prometheus is to be given, it takes.
func TestConfiguration(t *testing.T) {
	program := promtool(t)
	data, err := os.ReadFile(monitoring + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(data), "\n    scrape_configs:\n")
	block, _, _ := strings.Cut(rest, "\n\n")
	rules, err := os.ReadFile(monitoring + "alerts.yml")
	if err != nil || !found {
		t.Fatalf("found no configuration, %v", err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"prometheus.yml": "scrape_configs:\n" + strings.ReplaceAll("\n"+block, "\n    ", "\n") + "\n", "alerts.yml": string(rules)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(program, "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SUCCESS: 1 rule files found") {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
	if !strings.Contains(block, fmt.Sprintf("10.30.0.0:%d", spec.MetricsTCPPort)) {
		t.Errorf("found %s, wanted the agent's port", block)
	}
}

// TestWhatIsToldIsRead: Prometheus' own parser and lint read what a host says.
func TestWhatIsToldIsRead(t *testing.T) {
	program := promtool(t)
	s := full(5)
	s.Network.PerPeer = true
	answer := httptest.NewRecorder()
	Handler(collectorOf(s)).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, Path, nil))
	check := exec.Command(program, "check", "metrics")
	check.Stdin = answer.Body
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// TestNodeGraph: what the graph of the dashboard asks Prometheus for has the columns that the
// panel reads, each host once, and no way to a host that is not there.
func TestNodeGraph(t *testing.T) {
	program := promtool(t)
	data, err := os.ReadFile(monitoring + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Type    string
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			if p.Type == "nodeGraph" {
				asked[q.RefID] = strings.ReplaceAll(q.Expr, "$instance", ".*")
			}
		}
	}
	// Host a tells of b and c, which it does not reach; b is asked, too, and c is not.
	file := filepath.Join(t.TempDir(), "graph_test.yml")
	text := fmt.Sprintf(`tests:
  - interval: 1m
    input_series:
      - {series: 'mobula_host_info{instance="1:1",host_id="1",hostname="a"}', values: '1'}
      - {series: 'mobula_host_info{instance="2:1",host_id="2",hostname="b"}', values: '1'}
      - {series: 'mobula_peer_up{instance="1:1",peer="b"}', values: '1'}
      - {series: 'mobula_peer_up{instance="1:1",peer="c"}', values: '0'}
      - {series: 'mobula_peer_up{instance="2:1",peer="a"}', values: '1'}
      - {series: 'mobula_peer_round_trip_seconds{instance="1:1",peer="b"}', values: '0.25'}
      - {series: 'mobula_peer_round_trip_seconds{instance="2:1",peer="a"}', values: '0.5'}
    promql_expr_test:
      - expr: %q
        exp_samples:
          - {labels: '{id="a",title="a"}', value: 1}
          - {labels: '{id="b",title="b"}', value: 1}
          - {labels: '{id="c",title="c"}', value: 0}
      - expr: %q
        exp_samples:
          - {labels: '{id="a to b",source="a",target="b"}', value: 0.25}
          - {labels: '{id="b to a",source="b",target="a"}', value: 0.5}
`, asked["nodes"], asked["edges"])
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "test", "rules", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}
