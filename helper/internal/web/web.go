// Package web is the page of the network: what mobula status --mesh says, in a browser. It
// knows the report and HTTP, and nothing of the host: who may come is the firewall's, and the
// sockets are the agent's.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// page is one file, with its style and its script, so that it needs nothing else.
//
//go:embed page.html
var page []byte

// Handler answers GET and HEAD of /, /status.json and /past.json, and nothing else.
type Handler struct {
	// Status is what is said of the network, Past what was of the host's own ways.
	Status *Status
	Past   *Past
	// Door knows by which names the page is asked for, and who is a guest: guests are not told
	// of administrators' clients.
	Door *Door
	Log  *slog.Logger
}

// policy has the browser load nothing but what is in the page, and ask this host alone
// (Content Security Policy Level 3).
var policy = strings.Join([]string{
	"default-src 'none'",
	"script-src " + hashOf("script"),
	"style-src " + hashOf("style"),
	"img-src data:", // the empty icon, or browsers ask for one
	"connect-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
	"require-trusted-types-for 'script'",
	"trusted-types 'none'",
}, "; ")

// hashOf returns what allows the page's one element of that kind.
func hashOf(element string) string {
	_, after, _ := strings.Cut(string(page), "<"+element+">")
	text, _, _ := strings.Cut(after, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      policy,
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cache-Control":                "no-store",
	} {
		w.Header().Set(name, value)
	}
	switch {
	case !h.Door.lets(w, r):
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "There is nothing to be changed here.")
	case r.ContentLength != 0:
		refuse(w, http.StatusRequestEntityTooLarge, "A question has no body.")
	case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.URL.Path != "/": // (Fetch Metadata Request Headers)
		refuse(w, http.StatusForbidden, "Other sites may link to the page only.")
	case r.URL.Path == "/":
		write(w, r, "text/html; charset=utf-8", page)
	case r.URL.Path == "/status.json":
		h.status(w, r)
	case r.URL.Path == "/past.json":
		h.past(w, r)
	default:
		refuse(w, http.StatusNotFound, "There are /, /status.json and /past.json.")
	}
}

// status says what the network is like.
func (h *Handler) status(w http.ResponseWriter, r *http.Request) {
	said, err := h.Status.Now(r.Context(), h.Door.isGuest(sourceOf(r.RemoteAddr)))
	if err != nil {
		h.Log.Debug("the page asks about the network", "error", err)
		refuse(w, http.StatusServiceUnavailable, "This host's agent does not say how the network is: "+err.Error())
		return
	}
	w.Header().Set("Vary", "Accept-Encoding")
	if takesGzip(r.Header.Get("Accept-Encoding")) {
		w.Header().Set("Content-Encoding", "gzip")
		write(w, r, "application/json", said)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if z, err := gzip.NewReader(bytes.NewReader(said)); err == nil && r.Method == http.MethodGet {
		_, _ = io.Copy(w, z)
	}
}

// past says how the host's own ways were.
func (h *Handler) past(w http.ResponseWriter, r *http.Request) {
	said, err := h.Past.JSON()
	if err != nil {
		h.Log.Debug("telling the past", "error", err)
		refuse(w, http.StatusInternalServerError, "The past cannot be told.")
		return
	}
	write(w, r, "application/json", said)
}

// takesGzip reads an Accept-Encoding (RFC 9110 section 12.5.3) as far as browsers need: one
// that weighs it gets plain bytes.
func takesGzip(accepted string) bool {
	for _, a := range strings.Split(accepted, ",") {
		if strings.TrimSpace(a) == "gzip" {
			return true
		}
	}
	return false
}

func write(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // who does not read it does not want it
	}
}

// refuse ends the connection as well: whatever else was sent is not read.
func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n"))
}

// nameIn returns the name or address of a Host header, in lower case.
func nameIn(host string) string {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// sourceOf returns the zero Addr for what is none.
func sourceOf(remote string) netip.Addr {
	a, _ := netip.ParseAddrPort(remote)
	return a.Addr().Unmap()
}
