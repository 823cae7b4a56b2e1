package agent

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"mobula/helper/internal/nameserver"
)

// TestNamesFollowTheNameserver: whose resolvers are those of the host's mode.
func TestNamesFollowTheNameserver(t *testing.T) {
	var names publicNames
	ask := func() string {
		_, err := names.PublicAddresses(context.Background(), "h2.example.net")
		return err.Error()
	}
	if got := ask(); got != "the nameserver does not run" {
		t.Errorf("found %q", got)
	}
	names.follow(&dnsService{server: nameserver.New(nameserver.Config{}, slog.New(slog.NewTextHandler(io.Discard, nil)))})
	if got := ask(); got != "there is no resolver (set upstream_dns)" {
		t.Errorf("found %q", got)
	}
	names.follow(nil)
	if got := ask(); got != "the nameserver does not run" {
		t.Errorf("found %q", got)
	}
}
