package vswitch

import (
	"fmt"
	"strconv"
	"strings"
)

// flow is a flow as ovs-ofctl(8) takes it: fields of ovs-fields(7), actions of
// ovs-actions(7).
type flow struct {
	table, priority int
	cookie          uint64 // 0: none
	matches         []string
	actions         []string
}

// text returns the flow in one line. Its cookie follows from that: whoever writes the same
// flow in another way has every host replace it.
func (f *flow) text() string {
	fields := append([]string{"priority=" + strconv.Itoa(f.priority)}, f.matches...)
	fields = append(fields, "table="+strconv.Itoa(f.table), "idle_timeout=0")
	if f.cookie != 0 {
		fields = append(fields, cookieField(f.cookie))
	}
	return strings.Join(fields, ",") + ",actions=" + strings.Join(f.actions, ",")
}

func cookieField(cookie uint64) string { return fmt.Sprintf("cookie=0x%016x", cookie) }

// port matches frames that came in on a port.
func port(number int) string {
	if number == localPort {
		return "in_port=LOCAL"
	}
	return "in_port=" + strconv.Itoa(number)
}

// etherType matches frames that carry a protocol.
func etherType(number uint16) string { return fmt.Sprintf("dl_type=0x%04x", number) }

// vlanTCI matches bits of the VLAN's tag; 0x1000 is whether there is one.
func vlanTCI(value, mask uint16) string { return fmt.Sprintf("vlan_tci=0x%04x/0x%04x", value, mask) }

func register(reg int, value uint32) string { return fmt.Sprintf("reg%d=%#x", reg, value) }

// The actions. What goes before passMeter in other flows is not metered, such as the
// copies for local ports.
func passMeter() string                 { return "meter:" + floodMeter }
func resubmitTo(table int) string       { return fmt.Sprintf("resubmit(,%d)", table) }
func outputTo(port int) string          { return "output:" + strconv.Itoa(port) }
func loadField(value, to string) string { return "load:" + value + "->" + to }
func tunnelTo(address string) string    { return "set_field:" + address + "->tun_dst" }

func load(value uint32, reg int) string {
	return loadField(fmt.Sprintf("%#x", value), fmt.Sprintf("NXM_NX_REG%d[]", reg))
}

// learned is a flow that the switch makes itself of a frame.
type learned struct {
	table, hardTimeout int // seconds
	cookie             uint64
	limit              int // of flows with this cookie
	room               int // register whose bit 0 says whether the limit left room
	matches, actions   []string
}

func learn(l learned) string {
	fields := append([]string{"priority=1"}, l.matches...)
	fields = append(fields, "table="+strconv.Itoa(l.table), "idle_timeout=0", "fin_hard_timeout=0", "hard_timeout="+strconv.Itoa(l.hardTimeout),
		fmt.Sprintf("result_dst=NXM_NX_REG%d[0]", l.room), "limit="+strconv.Itoa(l.limit), cookieField(l.cookie))
	return "learn(" + strings.Join(append(fields, l.actions...), ",") + ")"
}

// anyTable stands for all tables.
const anyTable = -1

// deletion is the match by which flows go that have a cookie, as far as the mask says.
func deletion(table int, cookie, mask uint64) string {
	match := cookieField(cookie) + fmt.Sprintf("/0x%016x", mask)
	if table != anyTable {
		match += ",table=" + strconv.Itoa(table)
	}
	return match
}
