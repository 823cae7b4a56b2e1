package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"mobula/helper/internal/network"
)

// Bounds of what is read from a URL. A document of 32,767 hosts has some 8 MB.
const (
	maxFetchedBytes = 64 << 20
	maxFetchTime    = time.Minute
	maxRedirects    = 5
)

// source is where a document, or another input, is read from.
type source struct {
	// path is a file, "-" for standard input, or an https:// URL.
	path string
	// sha256 is what the bytes have to have, in hexadecimal, generation what the document
	// has to have; empty: any. A URL has to have one of them.
	sha256, generation string
}

// sumFlag defines the flag for the checksum.
func (c *call) sumFlag(s *source) {
	c.flags.StringVar(&s.sha256, "sha256", "", "`SUM`, the SHA-256 that what is read has to have, in hexadecimal")
}

// documentFlags defines the flags for a document that a host is given.
func (c *call) documentFlags(s *source, usage string) {
	c.flags.StringVar(&s.path, "document", "", usage)
	c.file("json", "document")
	c.sumFlag(s)
	c.flags.StringVar(&s.generation, "generation", "", "`GENERATION` that the document has to have")
}

func isURL(path string) bool { return strings.Contains(path, "://") }

// check refuses what cannot be meant, before anything is read.
func (s source) check(flag string) error {
	switch {
	case s.path == "" && (s.sha256 != "" || s.generation != ""):
		return fmt.Errorf("found --sha256 or --generation without --%s, wanted what they are of", flag)
	case s.sha256 != "":
		if sum, err := hex.DecodeString(s.sha256); err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("--sha256: found %q, wanted 64 hexadecimal digits, such as sha256sum prints", s.sha256)
		}
	}
	if !isURL(s.path) {
		return nil
	}
	u, err := url.Parse(s.path)
	switch {
	case err != nil:
		return fmt.Errorf("--%s: %w", flag, err)
	case u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("--%s: found %s, wanted https://HOST/…, a file, or - for standard input", flag, u.Redacted())
	case s.sha256 == "" && s.generation == "" && flag == inputFlag:
		return fmt.Errorf("--%s: found %s without a checksum, wanted --sha256, so that nobody else says what the network is", flag, u.Redacted())
	case s.sha256 == "" && s.generation == "":
		return fmt.Errorf("--%s: found %s without a checksum, wanted --sha256 or --generation, so that nobody else says what the network is", flag, u.Redacted())
	}
	return nil
}

// read returns what the source has, with the checksum that it has to have.
func (c *call) read(s source) (data []byte, err error) {
	switch {
	case s.path == "-":
		data, err = io.ReadAll(c.stdin)
	case isURL(s.path):
		data, err = c.fetch(s.path)
	default:
		data, err = os.ReadFile(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; name a file that is there, - for standard input, or an https:// URL", err)
		}
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); s.sha256 != "" && !strings.EqualFold(s.sha256, hex.EncodeToString(sum[:])) {
		return nil, fmt.Errorf("%s: found SHA-256 %x, wanted %s: it is not what you were told of; nothing was changed", s.name(), sum, s.sha256)
	}
	return data, nil
}

// name is what errors call the source.
func (s source) name() string {
	if s.path == "-" {
		return "standard input"
	}
	if u, err := url.Parse(s.path); err == nil && isURL(s.path) {
		return u.Redacted()
	}
	return s.path
}

// readDocument reads and validates a network document.
func (c *call) readDocument(s source) (*network.Document, error) {
	data, err := c.read(s)
	if err != nil {
		return nil, err
	}
	return s.parse(data)
}

// parse is network.Parse of what was read.
func (s source) parse(data []byte) (*network.Document, error) {
	document, err := network.Parse(data)
	if err != nil {
		return nil, err
	}
	if g := document.Generation(); s.generation != "" && s.generation != g {
		return nil, fmt.Errorf("%s: found generation %s, wanted %s: it is not what you were told of; nothing was changed", s.name(), g, s.generation)
	}
	return document, nil
}

// fetch reads a URL. Redirects lead to other https URLs alone.
func (c *call) fetch(address string) (data []byte, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	limit := c.fetchTime
	if limit == 0 {
		limit = maxFetchTime
	}
	ctx, cancel := context.WithTimeout(c, limit)
	defer cancel()
	defer func() {
		var unknown x509.UnknownAuthorityError
		var failed *url.Error
		if errors.As(err, &failed) { // which says the address once more
			err = failed.Err
		}
		if err == nil {
			return
		}
		switch next := "copy it to this host and name the file"; {
		case errors.As(err, &unknown):
			err = fmt.Errorf("%s: %w; install ca-certificates, or %s", u.Redacted(), err, next)
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = fmt.Errorf("%s: was not there within %v; try again, or %s", u.Redacted(), limit, next)
		default:
			err = fmt.Errorf("%s: %w; try again, or %s", u.Redacted(), err, next)
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: c.transport, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		if next.URL.Scheme != "https" {
			return fmt.Errorf("leads to %s, wanted https", next.URL.Redacted())
		}
		if len(before) > maxRedirects {
			return fmt.Errorf("leads on and on, wanted %d redirects at most", maxRedirects)
		}
		return nil
	}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("found status %s, wanted 200", answer.Status)
	}
	data, err = io.ReadAll(io.LimitReader(answer.Body, maxFetchedBytes+1))
	if err == nil && len(data) > maxFetchedBytes {
		err = fmt.Errorf("found more than %d MiB, wanted a network document or an inventory", maxFetchedBytes>>20)
	}
	return data, err
}
