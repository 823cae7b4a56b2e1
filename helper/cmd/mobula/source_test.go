package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
)

// tlsWorld is a real TLS server with documents.
type tlsWorld struct {
	*httptest.Server
	document []byte
	sum      string
}

func newTLSWorld(t *testing.T) *tlsWorld {
	w := &tlsWorld{document: plantest.Document(plantest.Host(1), plantest.Host(2)).Encode()}
	sum := sha256.Sum256(w.document)
	w.sum = hex.EncodeToString(sum[:])
	mux := http.NewServeMux()
	mux.HandleFunc("/network.json", func(to http.ResponseWriter, _ *http.Request) { _, _ = to.Write(w.document) })
	mux.HandleFunc("/moved", func(to http.ResponseWriter, r *http.Request) { http.Redirect(to, r, "/network.json", http.StatusFound) })
	mux.HandleFunc("/around", func(to http.ResponseWriter, r *http.Request) { http.Redirect(to, r, "/around", http.StatusFound) })
	mux.HandleFunc("/plain", func(to http.ResponseWriter, r *http.Request) {
		http.Redirect(to, r, "http://"+r.Host+"/network.json", http.StatusFound)
	})
	mux.HandleFunc("/endless", func(to http.ResponseWriter, _ *http.Request) {
		for some := make([]byte, 1<<20); ; {
			if _, err := to.Write(some); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(to http.ResponseWriter, _ *http.Request) {
		to.Header().Set("Content-Length", fmt.Sprint(len(w.document)))
		_, _ = to.Write(w.document[:100])
	})
	w.Server = httptest.NewUnstartedServer(mux)
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.StartTLS()
	t.Cleanup(w.Close)
	return w
}

// call is one that trusts the server.
func (w *tlsWorld) call() *call {
	return &call{Context: context.Background(), transport: w.Client().Transport, stdin: bytes.NewReader(w.document)}
}

// TestDocumentFromAURL: what is read is what was told of, or it is refused, and so is
// everything else that is not a document within the bounds.
func TestDocumentFromAURL(t *testing.T) {
	w := newTLSWorld(t)
	generation := plantest.Document(plantest.Host(1), plantest.Host(2)).Generation()
	other := strings.Repeat("ab", 32)
	file := files{t, t.TempDir()}.write("network.json", string(w.document))
	for _, c := range []struct {
		name, path, sum, generation string
		want                        string // in the error; "": none
	}{
		{"by checksum", w.URL + "/network.json", strings.ToUpper(w.sum), "", ""},
		{"by generation", w.URL + "/network.json", "", generation, ""},
		{"by both", w.URL + "/network.json", w.sum, generation, ""},
		{"moved", w.URL + "/moved", w.sum, "", ""},
		{"another checksum", w.URL + "/network.json", other, generation, w.URL + "/network.json: found SHA-256 " + w.sum + ", wanted " + other},
		{"another generation", w.URL + "/network.json", "", "0123456789abcdef", w.URL + "/network.json: found generation " + generation + ", wanted 0123456789abcdef"},
		{"nothing there", w.URL + "/none", w.sum, "", w.URL + "/none: found status 404 Not Found, wanted 200; try again, or copy it"},
		{"no TLS any more", w.URL + "/plain", w.sum, "", "/plain: leads to http://"},
		{"in circles", w.URL + "/around", w.sum, "", "leads on and on, wanted 5 redirects at most"},
		{"too much", w.URL + "/endless", w.sum, "", "/endless: found more than 64 MiB"},
		{"cut short", w.URL + "/cut", w.sum, "", "/cut: unexpected EOF; try again"},
		{"nobody answers", "https://127.0.0.1:1/x", w.sum, "", "https://127.0.0.1:1/x: dial tcp 127.0.0.1:1: "},
		{"a secret in it", "https://me:secret@127.0.0.1:1/x", w.sum, "", "https://me:xxxxx@127.0.0.1:1/x: "},
		{"a file", file, w.sum, generation, ""},
		{"another file", file, other, "", file + ": found SHA-256 " + w.sum},
		{"standard input", "-", w.sum, "", ""},
		{"another one there", "-", other, "", "standard input: found SHA-256 " + w.sum},
		{"no such file", file + "x", "", "", "no such file or directory; name a file that is there, - for standard input, or an https:// URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			document, err := w.call().readDocument(source{c.path, c.sum, c.generation})
			if c.want == "" && (err != nil || document.Generation() != generation) {
				t.Errorf("%v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") || document != nil) {
				t.Errorf("found %v, wanted %s", err, c.want)
			}
		})
	}
}

// TestAURLThatHangs: who asked is not kept for ever.
func TestAURLThatHangs(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer server.Close()
	defer close(over)
	c := &call{Context: context.Background(), transport: server.Client().Transport, fetchTime: 50 * time.Millisecond}
	if _, err := c.fetch(server.URL); err == nil || !strings.Contains(err.Error(), "was not there within 50ms; try again, or copy it") {
		t.Errorf("found %v", err)
	}
}

func TestSourcesThatCannotBeMeant(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for _, c := range []struct{ args, want string }{
		{"check --document https://127.0.0.1/n", "--document: found https://127.0.0.1/n without a checksum, wanted --sha256 or --generation"},
		{"check --document http://127.0.0.1/n --sha256 " + sum, "--document: found http://127.0.0.1/n, wanted https://HOST/…, a file, or - for standard input"},
		{"check --document https:///n --sha256 " + sum, "--document: found https:///n, wanted https://HOST/"},
		{"check --document x --sha256 abc", `--sha256: found "abc", wanted 64 hexadecimal digits`},
		{"check --generation x", "found --sha256 or --generation without --document"},
		{"compile --input https://127.0.0.1/n", "--input: found https://127.0.0.1/n without a checksum, wanted --sha256,"},
		{"check --input ftp://127.0.0.1/n", "--input: found ftp://127.0.0.1/n, wanted https://HOST/"},
	} {
		code, out, stderr := mobula("", strings.Fields(c.args)...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %s%s, wanted %s", c.args, code, out, stderr, c.want)
		}
	}
}

// TestChangeFromAURL is what apply and plan do with a document, before they look at the host.
func TestChangeFromAURL(t *testing.T) {
	w := newTLSWorld(t)
	h := &transaction.Host{Store: store.New(t.TempDir()), Programs: programs{system.NewPrograms(), nil}}
	from := source{path: w.URL + "/network.json", sha256: w.sum}
	if change, err := w.call().readChange(h, from, 2); err != nil || change.HostID != 2 || !bytes.Equal(change.Document.Encode(), w.document) {
		t.Errorf("%v", err)
	}
	from.sha256 = strings.Repeat("ab", 32)
	if change, err := w.call().readChange(h, from, 2); err == nil || change != nil {
		t.Errorf("found %v, wanted a refusal", change)
	}
	from.sha256 = ""
	if _, err := w.call().readChange(h, from, 2); err == nil || failed(&bytes.Buffer{}, "mobula", err) != exitUsage {
		t.Errorf("found %v, wanted wrong usage", err)
	}
}

// TestProgramReadsAURL runs the program, which trusts whom the system does.
func TestProgramReadsAURL(t *testing.T) {
	w := newTLSWorld(t)
	f := files{t, t.TempDir()}
	trusted := f.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})))
	input := sha256.Sum256([]byte(twoHosts))
	w.Config.Handler.(*http.ServeMux).HandleFunc("/input.json", func(to http.ResponseWriter, _ *http.Request) { _, _ = to.Write([]byte(twoHosts)) })
	check := []string{"check", "--document", w.URL + "/network.json", "--sha256", w.sum}
	for _, c := range []struct {
		name, trusted string
		args          []string
		code          int
		want          string
	}{
		{"check", trusted, check, exitOK, "nothing is wrong: 2 hosts, generation "},
		{"compile", trusted, f.args("compile", "--dry-run", "--input", w.URL+"/input.json", "--sha256", hex.EncodeToString(input[:])), exitOK, `"public_keys_changed": false`},
		{"a stranger", "/dev/null", check, exitFailed, "certificate signed by unknown authority; install ca-certificates, or copy it to this host and name the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, c.args...)
			cmd.Env = append(os.Environ(), asProgram+"=1", "SSL_CERT_FILE="+c.trusted, "SSL_CERT_DIR="+f.dir+"/none")
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
				t.Errorf("exit code %d, %s, wanted %q", cmd.ProcessState.ExitCode(), out, c.want)
			}
		})
	}
}
