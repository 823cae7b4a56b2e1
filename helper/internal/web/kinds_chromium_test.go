//go:build page

package web

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"mobula/helper/internal/report"
)

// TestPageOfKinds: the map, the table and a host's details tell ways apart that are carried, that
// are relayed, and that are punched, by more than color. What an older version does not tell is
// shown as before.
func TestPageOfKinds(t *testing.T) {
	if !alone(t) {
		return
	}
	n := wellNetwork(5)
	for to, kind := range map[uint16]report.Kind{2: report.LANIPv6, 3: report.DirectIPv6, 4: report.Direct} {
		n.both(1, to, func(w *report.Way) { w.Kind = kind })
	}
	b := open(t, n, 1200, 900)
	looks := eval[[]string](b, `[...document.querySelectorAll('.key .way')].map(w => {
		const style = getComputedStyle(w);
		return style.strokeDasharray + ', ' + style.strokeWidth;
	})`)
	seen := map[string]bool{}
	for _, look := range looks {
		seen[look] = true
	}
	if len(looks) != 7 || len(seen) != 7 {
		t.Errorf("found the lines %q, wanted seven that differ", looks)
	}
	if found := eval[string](b, "document.querySelector('.key').innerText"); !strings.Contains(found, "carried") || !strings.Contains(found, "punched") {
		t.Errorf("found the key %q", found)
	}

	b.do(chromedp.Evaluate("document.querySelectorAll('#hosts button')[0].click()", nil))
	b.eventually("details", "document.querySelectorAll('#details tbody tr').length === 4")
	details := func(want ...string) {
		t.Helper()
		found := eval[[]string](b, "[...document.querySelectorAll('#details tbody tr')].map(r => r.children[1].innerText)")
		if strings.Join(found, "; ") != strings.Join(want, "; ") {
			t.Errorf("found the ways %q, wanted %q", found, want)
		}
	}
	details("direct (LAN, IPv6)", "direct (IPv6)", "direct", "direct")
	if eval[bool](b, "document.querySelector('#map [data-way]') !== null") {
		t.Error("a way that is well has a line that is not thin")
	}

	n.both(1, 2, carried(4))
	n.both(1, 3, punched)
	n.both(1, 4, relayed(2))
	n.both(1, 5, func(w *report.Way) { w.Kind, w.Loss = report.Punched, 0.3 })
	for to, class := range map[string]string{"1 2": "carried", "1 3": "punched", "1 4": "relayed", "1 5": "lossy"} {
		b.eventually(class, "document.querySelector('[data-way=\""+to+"\"]."+class+"') !== null")
	}
	details("by dave (carried)", "direct (punched)", "by bob", "loses packets, direct (punched)")
	b.compareWays("by dave (carried) 34 ms", "punched ", "by bob 21 ms", " 30 % lost")
	if found := eval[string](b, "[...document.querySelectorAll('#map text.on')].map(t => t.textContent).join('; ')"); !strings.Contains(found, "by dave (carried) 34 ms") || strings.Count(found, "punched") != 1 {
		t.Errorf("found the labels %q, wanted those of what is carried and of what loses packets", found)
	}
	b.quietly()
}

// compareWays holds the first row of the table of ways against parts of what it should say.
func (b *browser) compareWays(want ...string) {
	b.t.Helper()
	cells := eval[[]string](b, "[...document.querySelector('#ways tbody tr').children].slice(2).map(c => c.innerText)")
	for i, w := range want {
		if !strings.Contains(cells[i], w) {
			b.t.Errorf("found %q, wanted %q in it", cells[i], w)
		}
	}
}
