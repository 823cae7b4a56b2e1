//go:build page

package web

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	cdpnet "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/report"
)

var update = flag.Bool("update", false, "take the pictures in docs/images anew")

// updateEnv hands -update to the process in a namespace of its own.
const updateEnv = "MOBULA_TEST_UPDATE"

// browser is a Chromium that looks at the page.
type browser struct {
	context.Context
	t       *testing.T
	address string

	mu       sync.Mutex
	requests []string
	errors   []string
}

// open starts a Chromium of its own, in a network namespace from which it reaches nobody.
func open(t *testing.T, n *network, width, height int64) *browser {
	t.Helper()
	b := &browser{t: t, address: "http://" + serve(t, n, 100*time.Millisecond) + "/"}
	dir := profile(t)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(dir), chromedp.Env("TMPDIR="+dir),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(2*time.Minute))
	t.Cleanup(cancel)
	// A newer browser tells of more than this version of the library knows: that is not read.
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	b.Context = ctx
	chromedp.ListenTarget(ctx, b.note)
	b.do(chromedp.EmulateViewport(width, height), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}),
		chromedp.Navigate(b.address), chromedp.WaitVisible("#main", chromedp.ByID))
	return b
}

// profile is a folder for what a browser keeps. Its children write there a moment longer
// than itself.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if err := os.RemoveAll(dir); err == nil {
				return
			} else if time.Now().After(end) {
				t.Error(err)
				return
			}
		}
	})
	return dir
}

// note keeps what must not happen.
func (b *browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *cdpnet.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.errors = append(b.errors, "console: "+string(e.Type))
	case *cdplog.EventEntryAdded:
		b.errors = append(b.errors, e.Entry.Text)
	}
}

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.Context, actions...); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.t.Fatalf("%v; the browser said %q", err, b.errors)
	}
}

// eval returns what an expression is in the page.
func eval[T any](b *browser, expression string) (value T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, &value))
	return value
}

// eventually waits for an expression to become true.
func (b *browser) eventually(what, expression string) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); !eval[bool](b, expression); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not after 30 s; the page says %s", what, eval[string](b, "document.body.innerText"))
		}
	}
}

// quietly ends a look: nothing was loaded from elsewhere, and nothing went wrong.
func (b *browser) quietly() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.requests) < 2 {
		b.t.Errorf("found the requests %q, wanted the page and its facts at least", b.requests)
	}
	for _, r := range b.requests {
		if !strings.HasPrefix(r, b.address) && r != "data:," {
			b.t.Errorf("found a request of %s", r)
		}
	}
	if len(b.errors) > 0 {
		b.t.Errorf("the browser said %q", b.errors)
	}
}

// alone runs a test in a network namespace that has loopback alone.
func alone(t *testing.T) bool {
	t.Helper()
	if *update {
		t.Setenv(updateEnv, "1")
	}
	return netnstest.Alone(t)
}

// five has five hosts, of which one is down, a pair is relayed, one is carried, and one is punched.
func five() *network {
	n := wellNetwork(5)
	n.both(1, 3, relayed(2))
	n.both(3, 4, carried(1))
	n.both(2, 4, punched)
	n.hour()
	n.lose(5)
	return n
}

func (b *browser) told() (m report.Mesh) {
	b.t.Helper()
	reply, err := http.Get(b.address + "status.json")
	if err != nil {
		b.t.Fatal(err)
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(&m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// TestPage: it shows all hosts, what is wrong is first, and what changes does so without
// being loaded again; what is read aloud are the facts of the JSON.
func TestPage(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	b := open(t, n, 1200, 900)
	if found := eval[int](b, "document.querySelectorAll('svg .node').length"); found != 5 {
		t.Errorf("found %d hosts on the map, wanted 5", found)
	}
	if found := eval[string](b, "document.getElementById('summary').innerText"); found != "4 of 5 hosts answer, as alice was told" {
		t.Errorf("found %q", found)
	}
	if found := eval[string](b, "document.querySelector('main > section h2').innerText"); found != "What is wrong" {
		t.Errorf("found %q first", found)
	}
	b.compare()
	t.Logf("first contentful paint after %.0f ms, the facts were there after %.0f ms", eval[float64](b, "performance.getEntriesByName('first-contentful-paint')[0].startTime"),
		eval[float64](b, "performance.getEntriesByType('resource').find(r => r.name.endsWith('status.json')).responseEnd"))

	b.do(chromedp.Evaluate("document.querySelectorAll('#hosts button')[1].click()", nil))
	b.eventually("the last hour", "document.querySelectorAll('.plots svg path').length === 2")
	if found := eval[[]string](b, "[...document.querySelectorAll('.plots svg')].map(p => p.getAttribute('aria-label'))"); fmt.Sprint(found) != "[Round trip in the last hour, from alice to bob: 4.0 ms to 12 ms Loss in the last hour, from alice to bob: up to 20 %]" {
		t.Errorf("found the plots %q", found)
	}
	b.do(chromedp.Evaluate("window.kept = 1", nil))
	n.both(1, 2, relayed(4))
	b.eventually("a way is relayed now", "document.querySelector('[data-way=\"1 2\"].relayed') !== null")
	n.both(1, 2, func(w *report.Way) { *w = report.Way{To: w.To, State: report.Down, Loss: 1, HandshakeSeconds: -1} })
	b.eventually("a way is down now", "document.querySelector('[data-way=\"1 2\"].down') !== null && document.getElementById('problems').innerText.includes('alice and bob do not reach each other')")
	b.compare()
	n.both(1, 2, func(w *report.Way) { *w = report.Way{To: w.To, State: report.Up, RTT: 3, HandshakeSeconds: 1} })
	b.eventually("it is well again", "document.querySelector('[data-way=\"1 2\"]') === null")
	if eval[int](b, "window.kept") != 1 {
		t.Error("the page was loaded again")
	}
	b.quietly()
}

// TestPageByKeyboard: each host is reached, chosen and told of without a pointer, and keeps
// the focus when there is news.
func TestPageByKeyboard(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	b := open(t, n, 1200, 900)
	reached := map[string]bool{}
	for i := 0; i < 40 && len(reached) < 5; i++ {
		b.do(chromedp.KeyEvent(kb.Tab))
		host := eval[string](b, "document.activeElement.getAttribute('data-host') || ''")
		if host == "" || reached[host] {
			continue
		}
		reached[host] = true
		b.do(chromedp.KeyEvent(kb.Enter))
		want := "Host " + n.mesh.Hosts[host[0]-'1'].Name
		if found := eval[string](b, "document.getElementById('details-title').innerText"); found != want {
			t.Errorf("found %q, wanted %q", found, want)
		}
	}
	if len(reached) != 5 {
		t.Errorf("found %v, wanted 5 hosts", reached)
	}
	at := eval[string](b, "document.activeElement.getAttribute('data-host')")
	n.both(1, 2, relayed(4))
	b.eventually("news", "document.querySelector('[data-way=\"1 2\"].relayed') !== null")
	if found := eval[string](b, "document.activeElement.getAttribute('data-host') || ''"); found != at {
		t.Errorf("after news the focus is on %q, wanted %q", found, at)
	}
	b.quietly()
}

// TestPageOfManyHosts: a matrix, what is not well in a table, and each host to be found.
func TestPageOfManyHosts(t *testing.T) {
	if !alone(t) {
		return
	}
	n := wellNetwork(60)
	n.both(7, 9, relayed(2))
	n.both(12, 14, carried(2))
	n.both(16, 18, punched)
	n.lose(31)
	b := open(t, n, 1200, 900)
	if found := eval[int](b, "document.querySelectorAll('canvas').length"); found != 1 {
		t.Errorf("found %d matrices", found)
	}
	if found := eval[string](b, "[...document.querySelectorAll('#ways tbody tr')].map(r => [...r.children].slice(0, 3).map(c => c.innerText).join(' ')).join('; ')"); found != "host-7.example host-9.example by bob; host-9.example host-7.example by bob; "+
		"host-12.example host-14.example by bob (carried); host-14.example host-12.example by bob (carried)" {
		t.Errorf("found the ways %q", found)
	}
	// One point of the matrix for each color: what is well, relayed, where nobody answers, down, and
	// punched; then those of a place that is carried, and the rest of one that is punched.
	colors := eval[[]string](b, `(() => {
		const c = document.querySelector('canvas'), cell = c.width / 60, all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
		const at = (x, y) => 4 * (Math.floor((y + .3) * cell) * c.width + Math.floor((x + .5) * cell));
		return [[20, 10], [8, 6], [40, 30], [30, 5], [17.35, 15.2], [13, 11], [13, 11.4], [16.7, 15.2]].map(([x, y]) => [...all.slice(at(x, y), at(x, y) + 4)].join());
	})()`)
	for i, a := range colors[:5] {
		for _, other := range colors[i+1 : 5] {
			if a == other {
				t.Errorf("found the colors %q, wanted five", colors[:5])
			}
		}
	}
	if well, poor := colors[0], colors[1]; colors[5] != well || colors[6] != poor || colors[7] != well {
		t.Errorf("found %q, wanted the upper half of what is carried to be empty, and the lower one not, and the left of what is punched to be empty", colors)
	}
	b.do(chromedp.SendKeys("#find", "host-52", chromedp.ByID))
	if found := eval[string](b, "[...document.querySelectorAll('#hosts tbody th')].map(r => r.innerText).join()"); found != "host-52.example" {
		t.Errorf("found %q", found)
	}
	b.quietly()
}

// TestPageOnAPhone: nothing is beside the screen, in light and in the dark.
func TestPageOnAPhone(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	long := strings.Repeat("a-very-long-name.", 12) + "example"
	n.mesh.Hosts[1].Name, n.mesh.Clients.List[0].Name, n.mesh.Names.List[0].Name = long, long, long
	b := open(t, n, 360, 740)
	grounds := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
		b.do(chromedp.Evaluate("document.querySelector('#hosts button').click()", nil))
		if found := eval[int](b, "document.documentElement.scrollWidth"); found > 360 {
			t.Errorf("%s: found a width of %d, wanted 360", scheme, found)
		}
		grounds[eval[string](b, "getComputedStyle(document.body).backgroundColor")] = true
	}
	if len(grounds) != 2 {
		t.Errorf("found the grounds %v, wanted a light and a dark one", grounds)
	}
	b.quietly()
}

// TestHostilePage: what a host is called, or says, is text.
func TestHostilePage(t *testing.T) {
	if !alone(t) {
		return
	}
	n := five()
	hostile := `<img src=x onerror=window.hurt=1><script>window.hurt=1</script>`
	n.mesh.Hosts[0].Name = hostile
	n.mesh.Hosts[1].Problems = []string{hostile}
	n.mesh.Hosts[1].Version = hostile
	n.mesh.Names.List[0].Name, n.mesh.Names.List[1].Of = hostile, hostile
	n.mesh.Clients.List[0].Name = hostile
	b := open(t, n, 1200, 900)
	b.do(chromedp.Evaluate("document.querySelectorAll('#hosts button')[1].click()", nil))
	if eval[bool](b, "window.hurt === 1 || document.querySelectorAll('img, body script').length !== 1") {
		t.Error("a name became markup")
	}
	if found := eval[string](b, "document.getElementById('details').innerText"); strings.Count(found, hostile) < 2 {
		t.Errorf("found %q", found)
	}
	if found := eval[string](b, "document.getElementById('clients').innerText + document.getElementById('names').innerText"); strings.Count(found, hostile) != 4 { // the caption names the host
		t.Errorf("found %q", found)
	}
	b.quietly()
}

const maxPicture = 200_000

// TestPictures: those of the documents are there, and small. With -update they are taken.
func TestPictures(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, p := range []struct {
		name          string
		scheme        string
		width, height int64
		at            string // the top of the picture
	}{{"network.png", "light", 1100, 980, "header"}, {"network-clients.png", "light", 1100, 620, "#clients"}, {"network-phone.png", "dark", 390, 900, "header"}} {
		path := filepath.Join("../../../docs/images", p.name)
		if os.Getenv(updateEnv) != "" {
			b := open(t, five(), p.width, p.height)
			b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: p.scheme}}))
			b.do(chromedp.Evaluate("document.querySelectorAll('#hosts button')[2].click()", nil))
			b.eventually("the last hour", "document.querySelectorAll('.plots svg path').length === 2")
			b.do(chromedp.Evaluate("document.querySelector('"+p.at+"').scrollIntoView()", nil))
			var picture []byte
			b.do(chromedp.CaptureScreenshot(&picture))
			if err := os.WriteFile(path, picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxPicture {
			t.Errorf("%s: found %d bytes, wanted %d at most", p.name, info.Size(), maxPicture)
		}
	}
}
