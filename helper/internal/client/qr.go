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

// Colors of a terminal with 256 (xterm's ctlseqs): white on black, whatever its own are.
const whiteOnBlack, ownColors = "\x1b[38;5;231;48;5;16m", "\x1b[0m"

// Text draws the code, two rows of modules a line, with its colors for a terminal. Light
// modules are drawn: where there are no colors, most readers of code are dark.
func (q *QR) Text(colors bool) string {
	light := func(x, y int) bool { return !q.code.Black(x, y) }
	var s strings.Builder
	for y := -quiet; y < q.code.Size+quiet; y += 2 {
		if colors {
			s.WriteString(whiteOnBlack)
		}
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
		if colors {
			s.WriteString(ownColors)
		}
		s.WriteByte('\n')
	}
	return s.String()
}
