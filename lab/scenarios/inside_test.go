//go:build lab

package scenarios

import (
	"strings"
	"testing"
)

// get asks over HTTP, and prints what comes.
const get = `python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' http://`

// getLocal asks the agent's socket.
const getLocal = `python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/mobula/agent/metrics.sock")
s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
print(s.makefile().read())'`

// tellsInside: hosts show the network to each other, erin's guest is not told, and
// Prometheus is answered where it was asked for.
func (w *world) tellsInside(t *testing.T, inGuest string) {
	t.Helper()
	erin, grace, heidi := w.Host("erin"), w.Host("grace"), w.Host("heidi")
	for _, c := range []struct{ on, command, want string }{
		{"grace", get + erin.IntrawireAddress() + ":6256/", "<!doctype html>"},
		{"erin", get + "10.98.0.0:6256/status.json", heidi.FQDN()}, // her own gateway
		{"grace", get + heidi.IntrawireAddress() + ":6257/metrics", "\nmobula_build_info{"},
		{"heidi", get + "10.98.0.0:6257/metrics", "\nmobula_peers{"},
		{"grace", getLocal, "\nmobula_peers{"},
	} {
		if said := w.on(t, c.on, c.command); !strings.Contains(said, c.want) {
			t.Errorf("%s on %s: found no %q in %.300s", c.command, c.on, c.want, said)
		}
	}
	for what, at := range map[string]string{
		"the page of its host":       inGuest + get + erin.GatewayAddress() + ":6256/",
		"the page of another host":   inGuest + get + grace.IntrawireAddress() + ":6256/",
		"metrics of another host":    inGuest + get + heidi.IntrawireAddress() + ":6257/metrics",
		"metrics that are not asked": get + grace.IntrawireAddress() + ":6257/metrics",
	} {
		if said, err := erin.Run(w.ctx, "timeout 3 "+at); err == nil {
			t.Errorf("%s: %.300s", what, said)
		}
	}
}
