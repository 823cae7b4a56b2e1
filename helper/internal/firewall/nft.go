package firewall

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"mobula/helper/internal/netns"
)

// NFT is nft(8).
type NFT interface {
	// Exists reports whether the named network namespace stands.
	Exists(namespace string) bool
	// Run runs nft there and returns what it prints; the error has what it complains of.
	Run(ctx context.Context, namespace, stdin string, args ...string) (string, error)
}

// program is the real one.
type program struct{}

func (program) Exists(namespace string) bool { return netns.Exists(namespace) }

func (program) Run(ctx context.Context, namespace, stdin string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	err := netns.Do(namespace, func() error {
		cmd := exec.CommandContext(ctx, "nft", args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
		return cmd.Run()
	})
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
