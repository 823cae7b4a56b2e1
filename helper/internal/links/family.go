package links

import "github.com/vishvananda/netlink"

// HasFamily reports that the kernel has a family of generic netlink: what offers it is
// built in or loaded, if need be for this question (ctrl_getfamily in the kernel).
func HasFamily(name string) bool {
	_, err := netlink.GenlFamilyGet(name)
	return err == nil
}
