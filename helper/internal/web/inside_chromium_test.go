//go:build page

package web

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"mobula/helper/internal/report"
)

// tell has the network tell of other clients.
func (n *network) tell(c *report.Clients) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mesh.Clients = c
}

// cells are the texts of a section's table, a row a line.
func (b *browser) cells(section string) string {
	b.t.Helper()
	return eval[string](b, "[...document.querySelectorAll('#"+section+" tbody tr')].map(r => [...r.children].map(c => c.innerText).join(' ')).join('\\n')")
}

// TestPageOfClients: each has a row, with where it came in; what is new appears without
// loading, and an age goes on when nobody answers any more. Of hosts that do not tell it is
// said.
func TestPageOfClients(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	b := open(t, n, 1200, 900)
	b.compare()
	rows := strings.Split(b.cells("clients"), "\n")
	if len(rows) != 3 || !strings.HasPrefix(rows[0], "laptop.example.com 10.30.128.1 1 min") || !strings.HasSuffix(rows[0], " ago bob") ||
		rows[1] != "phone.example.com 10.30.128.3 1 d 2 h ago carol" || rows[2] != "10.30.128.2 10.30.128.2 none known –" {
		t.Errorf("found %q", rows)
	}
	if found := eval[string](b, "document.getElementById('clients').innerText"); !strings.Contains(found, "They may have come in meanwhile by erin, which does not tell") {
		t.Errorf("found %q, wanted that erin does not tell", found)
	}
	at := time.Now().UTC().Truncate(time.Second).Add(-2 * time.Second)
	n.tell(report.NewClients([]report.Client{{Name: "phone.example.com", Address: netip.MustParseAddr("10.30.128.3"), HostID: 4, LastHandshake: &at}}, nil))
	b.eventually("it came in by another host", "[...document.querySelectorAll('#clients tbody tr')].map(r => r.innerText).join().match(/phone.*dave/s) !== null")
	if found := eval[string](b, "document.getElementById('clients').innerText"); strings.Contains(found, "not tell") {
		t.Errorf("found %q, wanted that all tell", found)
	}
	n.mu.Lock()
	n.err = errors.New("it is gone")
	n.mu.Unlock()
	b.eventually("nobody answers", "!document.getElementById('trouble').hidden")
	now := eval[string](b, "document.querySelector('#clients time').innerText")
	b.eventually("its age goes on", "document.querySelector('#clients time').innerText !== '"+now+"'")
	b.mu.Lock()
	b.errors = nil // of the browser, which tells that an answer is an error
	b.mu.Unlock()
	b.quietly()
}

// TestPageOfManyInside: of thousands of clients and names so many are shown, the others are
// found by what they are called and by their addresses, and it is said how many more there are.
func TestPageOfManyInside(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	var clients []report.Client
	var names []report.Name
	for i := 0; i < 6000; i++ {
		at := time.Now().UTC().Truncate(time.Second).Add(-time.Duration(i) * time.Hour)
		clients = append(clients, report.Client{Name: fmt.Sprintf("client-%04d.example.com", i), Address: netip.AddrFrom4([4]byte{10, 30, 128 + byte(i>>8), byte(i)}), HostID: uint16(1 + i%5), LastHandshake: &at})
		names = append(names, report.Name{Name: fmt.Sprintf("name-%04d.example.com", i), Address: netip.AddrFrom4([4]byte{10, 31, 200 + byte(i>>8), byte(i)}), Of: "extra"})
	}
	n.tell(report.NewClients(clients, nil))
	n.mesh.Names = report.NewNames(names)
	b := open(t, n, 360, 740)
	for _, c := range []struct{ section, first, more, beyond string }{
		{"clients", "client-0000.example.com ", "800 more: find them by name.", "5000 more are not told of"},
		{"names", "name-0000.example.com ", "4800 more: find them by name.", "1000 more are not told of"},
	} {
		text, rows := eval[string](b, "document.getElementById('"+c.section+"').innerText"), b.cells(c.section)
		if !strings.HasPrefix(rows, c.first) || strings.Count(rows, "\n") != 199 || !strings.Contains(text, c.more) || !strings.Contains(text, c.beyond) {
			t.Errorf("%s: found %d rows and %.300q", c.section, strings.Count(rows, "\n")+1, text)
		}
	}
	b.do(chromedp.SendKeys("#find-client", "CLIENT-0999", chromedp.ByID), chromedp.SendKeys("#find-name", "10.31.217.", chromedp.ByID))
	if found := b.cells("clients"); strings.Contains(found, "\n") || !strings.HasPrefix(found, "client-0999.example.com 10.30.131.231 41 d 15 h") {
		t.Errorf("found %q", found)
	}
	if found := b.cells("names"); strings.Count(found, "\n") != 199 || !strings.HasPrefix(found, "name-4352.example.com 10.31.217.0 extra_hosts.yml") {
		t.Errorf("found %.300q", found)
	}
	n.tell(report.NewClients(clients[:3], nil)) // none of which is what was looked for
	b.eventually("few are all shown, without a field", "document.getElementById('finding-client').hidden && document.querySelectorAll('#clients tbody tr').length === 3")
	if found := eval[int](b, "document.documentElement.scrollWidth"); found > 360 {
		t.Errorf("found a width of %d, wanted 360", found)
	}
	b.quietly()
}

// TestPageOfAGuest: it has no clients, nor their names, and says so.
func TestPageOfAGuest(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	n.guests = netip.MustParsePrefix("127.0.0.0/8")
	b := open(t, n, 1200, 900)
	text := eval[string](b, "document.body.innerText")
	if !strings.Contains(text, "Whoever is on the access network is not told of clients.") || !strings.Contains(text, "git.example.com") {
		t.Errorf("found %q", text)
	}
	if strings.Contains(text, "10.30.128.") || strings.Contains(text, "laptop") {
		t.Errorf("found clients in %q", text)
	}
	b.quietly()
}
