package system

import (
	"fmt"
	"net"
	"os"
	"time"
)

// Extend asks systemd not to end the unit of this process for so long, whatever limit the
// unit has (sd_notify(3), EXTEND_TIMEOUT_USEC; a limit that is later anyway stays). Without
// a unit that says NotifyAccess= it does nothing.
func Extend(by time.Duration) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "EXTEND_TIMEOUT_USEC=%d\n", by.Microseconds())
	return err
}
