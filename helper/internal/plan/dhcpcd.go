package plan

// Dhcpcd is dhcpcd(8) as the manager of all interfaces, as on small boards.
const Dhcpcd Manager = "dhcpcd"

// DhcpcdConf is dhcpcd.conf(5).
const DhcpcdConf = "/etc/dhcpcd.conf"

// dhcpcdBlock keeps it from asking guests for addresses and routes. It is the first of its
// file: what follows a line "interface" there is of that alone.
func dhcpcdBlock(content string) File {
	return File{Path: DhcpcdConf, Content: content, Block: true}
}
