package web

import (
	"fmt"
	"strings"
	"testing"

	"mobula/helper/internal/report"
)

func carried(by uint16) func(*report.Way) {
	return func(w *report.Way) { w.Via, w.Kind, w.RTT, w.SinceSeconds = by, report.Carried, 33.8, 640 }
}

func punched(w *report.Way) { w.Via, w.Kind = 0, report.Punched }

// TestThePageKnowsTheKinds: the page's own words for kinds of ways are those of mobula status.
func TestThePageKnowsTheKinds(t *testing.T) {
	for _, k := range report.Kinds {
		want := fmt.Sprintf("w.kind === '%s'", k)
		if besides, direct := strings.CutPrefix(k.Words(""), "direct"); direct {
			want = fmt.Sprintf("%s: '%s'", k, strings.Trim(besides, " ()"))
		}
		if k != report.Direct && k != report.Relayed && !strings.Contains(string(page), want) {
			t.Errorf("%s: the page has no %q", k, want)
		}
	}
}
