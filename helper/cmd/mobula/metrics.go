package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/metrics"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/watch"
)

// metricsPath is the socket on which the agent answers Prometheus.
func metricsPath() string { return filepath.Join(spec.AgentDir, "metrics.sock") }

// comparisonPath is where a repair notes what it found, for the agent to tell.
var comparisonPath = filepath.Join(spec.RunDir, "comparison.json")

// noteComparison notes what a repair found. One that failed before it had found anything has
// compared nothing.
func noteComparison(path string, now time.Time, found []string, failed error) error {
	if failed != nil && len(found) == 0 {
		return nil
	}
	data, err := json.Marshal(watch.Comparison{Ended: now, Differences: len(found)})
	if err != nil {
		return err
	}
	return store.WriteFile(path, append(data, '\n'), 0o600)
}

// readComparison returns the zero Comparison for a file that is missing or damaged: the next
// comparison writes it anew.
func readComparison(path string) watch.Comparison {
	var c watch.Comparison
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &c) != nil {
		return watch.Comparison{}
	}
	return c
}

func compared() watch.Comparison { return readComparison(comparisonPath) }

// counters hands on what the rules have counted.
func counters(sharedUplink bool) (*metrics.Gateway, error) {
	counted, err := firewall.ReadCounters(sharedUplink)
	if err != nil {
		return nil, err
	}
	return &metrics.Gateway{Refused: counted.Refused, RelayedPackets: counted.RelayedPackets, RelayedBytes: counted.RelayedBytes, Stranded: counted.Stranded}, nil
}
