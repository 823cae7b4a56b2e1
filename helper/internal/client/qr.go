package client

import (
	"strings"

	"rsc.io/qr"
)

// quiet is the width of the light border of a QR code in modules (ISO/IEC 18004).
const quiet = 4

// QR is a configuration as a QR code, which the phone apps scan.
type QR struct{ code *qr.Code }

// NewQR encodes a configuration. Error correction of level L leaves the modules as
// large as can be.
func NewQR(config string) (*QR, error) {
	code, err := qr.Encode(config, qr.L)
	if err != nil {
		return nil, err
	}
	return &QR{code}, nil
}

// PNG returns the code as a picture.
func (q *QR) PNG() []byte { return q.code.PNG() }

// Text draws the code for a terminal, two rows of modules a line. Light modules are
// drawn: terminals are dark. On a light one, scan the picture.
func (q *QR) Text() string {
	light := func(x, y int) bool { return !q.code.Black(x, y) }
	var s strings.Builder
	for y := -quiet; y < q.code.Size+quiet; y += 2 {
		for x := -quiet; x < q.code.Size+quiet; x++ {
			upper, lower := light(x, y), light(x, y+1) && y+1 < q.code.Size+quiet
			switch {
			case upper && lower:
				s.WriteRune('█')
			case upper:
				s.WriteRune('▀')
			case lower:
				s.WriteRune('▄')
			default:
				s.WriteByte(' ')
			}
		}
		s.WriteByte('\n')
	}
	return s.String()
}
