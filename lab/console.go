package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Console runs a bash script as root over the machine's second serial port, where a shell
// always waits: it needs no network and no room on a disk, only a booted system. Standard error
// is part of the output.
func (h *Host) Console(ctx context.Context, script string) (string, error) {
	conn, err := net.DialTimeout("unix", h.console(), 5*time.Second)
	if err != nil {
		return "", fmt.Errorf("console of %s: %w", h.Name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// The terminal echoes what is sent: the marks must not stand in it in one piece.
	nonce := make([]byte, 6)
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	mark := fmt.Sprintf("%x", nonce)
	encoded := base64.StdEncoding.EncodeToString([]byte(script))
	fmt.Fprintf(conn, "\nstty -echo; f=$(mktemp -p /dev/shm); cat >$f <<'%s'\n", mark)
	for len(encoded) > 0 { // a terminal's line is at most 4095 characters
		n := 1000
		if n > len(encoded) {
			n = len(encoded)
		}
		fmt.Fprintln(conn, encoded[:n])
		encoded = encoded[n:]
	}
	fmt.Fprintf(conn, "%s\necho; echo begin-''%s; base64 -d $f >$f.sh; bash -e $f.sh 2>&1 </dev/null; s=$?; echo; echo end-''%s $s; rm $f $f.sh\n", mark, mark, mark)
	var out strings.Builder
	for lines, inside := bufio.NewReader(conn), false; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return out.String(), fmt.Errorf("console of %s: %w", h.Name, err)
		}
		line = strings.ReplaceAll(line, "\r", "")
		switch {
		case strings.HasPrefix(line, "begin-"+mark):
			inside = true
		case strings.HasPrefix(line, "end-"+mark):
			text := strings.TrimSuffix(out.String(), "\n")
			if code := strings.Fields(line)[1]; code != "0" {
				return text, fmt.Errorf("console of %s: %s: exit status %s", h.Name, abbreviate(script), code)
			}
			return text, nil
		case inside:
			out.WriteString(line)
		}
	}
}

// tee keeps what is written and passes it on.
type tee struct {
	bytes.Buffer
	also io.Writer
}

func (t *tee) Write(p []byte) (int, error) {
	if t.also != nil {
		_, _ = t.also.Write(p)
	}
	return t.Buffer.Write(p)
}
