package plan

import "mobula/helper/internal/spec"

// dhcpcdBlock keeps it from asking guests for addresses and routes. It is the first of its
// file: what follows a line "interface" there is of that alone.
func dhcpcdBlock(content string) spec.File {
	return spec.File{Path: spec.DhcpcdConf, Content: content, Block: true}
}
