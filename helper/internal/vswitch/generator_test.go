//go:build ovs

package vswitch

import (
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"
)

// keptSeeds are those of which a frame once got through, and some to begin with.
var keptSeeds = []int64{1, 2, 3}

var frameSeed = flag.Int64("frames.seed", 0, "the one seed of TestFramesOfGuests, to look at a failure")

const (
	framesPerSeed  = 3000
	framesPerBatch = 100
)

// TestFramesOfGuests sends what a guest may send, at random but plausible, through
// the switch to another host and to its own gateway, which are real kernels. Nothing
// that these then believe of a member may come from the guest. The same frames go to
// a kernel without a switch before it, which must be fooled: otherwise the frames
// would be too tame to prove anything.
func TestFramesOfGuests(t *testing.T) {
	b := newBench(t)
	seeds := append([]int64{time.Now().UnixNano()}, keptSeeds...)
	if *frameSeed != 0 {
		seeds = []int64{*frameSeed}
	}
	fooled := map[string]int{}
	for _, seed := range seeds {
		g := generator{rand.New(rand.NewSource(seed))}
		for sent := 0; sent < framesPerSeed; sent += framesPerBatch {
			batch := make([][]byte, framesPerBatch)
			for i := range batch {
				batch[i] = g.frame()
			}
			told, lies := b.deliver(batch)
			for _, lie := range told {
				fooled[kindOfLie(lie)]++
			}
			if len(lies) > 0 {
				t.Fatalf("seed %d (add it to keptSeeds): behind the switch it is believed: %s\n%s", seed, strings.Join(lies, ", "), b.culprit(batch))
			}
		}
	}
	t.Logf("%d frames; without a switch: %v", len(seeds)*framesPerSeed, fooled)
	for _, kind := range []string{"neighbor", "datagram", "route", "address"} {
		if fooled[kind] == 0 && *frameSeed == 0 {
			t.Errorf("no frame fooled a kernel without a switch about a %s: the generator is too tame", kind)
		}
	}
}

func kindOfLie(lie string) string {
	switch {
	case strings.HasPrefix(lie, "a datagram"):
		return "datagram"
	case strings.Contains(lie, " is at "):
		return "neighbor"
	case strings.HasPrefix(lie, "route"):
		return "route"
	}
	return "address"
}

// deliver sends frames and returns what is believed without a switch and behind it.
func (b *bench) deliver(frames [][]byte) (told, lies []string) {
	for _, frame := range frames {
		b.guest.send(frame)
		b.direct.send(frame)
	}
	b.settle()
	lies = append(b.behind.lies(), b.gateway.lies()...)
	told = b.twin.lies()
	for _, r := range []*receiver{b.behind, b.gateway, b.twin} {
		r.reset()
	}
	return told, lies
}

// culprit sends the frames of a batch one by one.
func (b *bench) culprit(batch [][]byte) string {
	for _, frame := range batch {
		if _, lies := b.deliver([][]byte{frame}); len(lies) > 0 {
			return fmt.Sprintf("by the frame %x: %s", frame, strings.Join(lies, ", "))
		}
	}
	return "by no frame alone"
}

// generator makes frames.
type generator struct{ *rand.Rand }

// The values that tell something, each with some that tell nothing.
var (
	someMACs = []string{guestA, guestA, guestA, guestB, gateway, "02:6d:6f:01:01:00", receiverMAC, thirdMAC, all, "01:00:5e:00:00:01", "00:00:00:00:00:00", "02:6d:6f:02:33:44"}
	someIPv4 = []string{guestIP, guestIP, "10.31.0.1", "10.31.1.0", "10.31.0.2", thirdIP, receiverIP, "10.30.0.1", "10.30.1.0", "10.30.128.7", "0.0.0.0",
		"10.31.255.255", "255.255.255.255", "127.0.0.1", "224.0.0.1", "198.51.100.1", "169.254.1.1"}
	someIPv6 = []string{guestIP6, guestIP6, thirdIP6, receiverIP6, "::", "ff02::1", "2001:db8::1", "::ffff:10.30.0.1", "::ffff:" + thirdIP,
		"fe80::6d:6fff:fe01:1", "fe80::6d:6fff:fe02:7777", "::1", "ff02::2", "::10.30.0.1"}
	someTypes = []int{0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x8035, 0x9000, 0x8847, 0x8864, 0x0600, 0x05ff, 0x0004, 0x894f}
)

func pick[T any](g generator, from []T) T { return from[g.Intn(len(from))] }

// one returns true once in n times.
func (g generator) one(n int) bool { return g.Intn(n) == 0 }

func (g generator) frame() []byte {
	dst := pick(g, []string{receiverMAC, receiverMAC, gateway, all, all, allNodes, "33:33:ff:02:00:02", "01:00:5e:00:00:01"})
	src := guestA
	if g.one(8) {
		src = pick(g, someMACs)
	}
	frame := ethernet(dst, src, g.tags(), g.payload())
	return g.spoil(frame)
}

// tags are none most of the time.
func (g generator) tags() (all []byte) {
	for g.one(4) {
		all = append(all, tag(pick(g, []int{0x8100, 0x8100, 0x88a8, 0x9100}), g.Intn(8)<<13|g.Intn(2)<<12|pick(g, []int{0, 0, 0, 1, 5}))...)
	}
	return all
}

func (g generator) payload() []byte {
	var p []byte
	switch g.Intn(4) {
	case 0:
		p = g.arp()
	case 1:
		p = g.ipv4()
	case 2:
		p = g.ipv6(udp6(pick(g, someIPv6), pick(g, []string{receiverIP6, nodes})))
	default:
		p = g.ipv6(g.discovery())
	}
	switch {
	case g.one(12):
		return snap(int(p[0])<<8|int(p[1]), p[2:])
	case g.one(30):
		return typed(pick(g, someTypes), p[2:])
	}
	return p
}

func (g generator) arp() []byte {
	a := arpPacket{operation: pick(g, []int{1, 1, 2, 2, 3, 4, 8, 9, 256, 257, 258}), sha: pick(g, someMACs), spa: pick(g, someIPv4), tha: pick(g, someMACs), tpa: pick(g, someIPv4)}
	if g.one(2) {
		a.tpa = pick(g, []string{receiverIP, "10.31.0.1", a.spa})
	}
	if g.one(3) {
		a.hardware = pick(g, []int{6, 6, 7, 18, 0x106, 24})
	}
	if g.one(10) {
		a.protocol, a.hardwareLen, a.protocolLen = pick(g, []int{0, 0x86dd, 0x806}), pick(g, []int{0, 8}), pick(g, []int{0, 16})
	}
	return a.bytes()
}

func (g generator) ipv4() []byte {
	p := udp4(pick(g, someIPv4), pick(g, []string{receiverIP, "10.31.0.1", "10.31.255.255", "224.0.0.1"}))
	if g.one(4) {
		p.options = pick(g, [][]byte{{1, 1, 1, 0}, {7, 7, 4, 0, 0, 0, 0, 0}, {0x83, 7, 4, 10, 31, 0, 1, 0}, {0x89, 7, 4, 10, 30, 0, 1, 0}, {0x94, 4, 0, 0}, {0x44, 4, 5, 0}})
	}
	if g.one(4) {
		// ICMP: redirects and what is said of packets that were never sent (RFC 792).
		inner := udp4(receiverIP, pick(g, someIPv4)).packet()
		message := join([]byte{pick(g, []byte{3, 5, 5, 9, 11}), byte(g.Intn(5)), 0, 0}, addr(pick(g, someIPv4)), inner)
		copy(message[2:], checksum(message))
		p.protocol, p.payload = 1, message
	}
	if g.one(8) {
		p.fragment = pick(g, []int{0x2000, 1, 0x2001, 0x4000, 0x8000, 0x1fff})
	}
	if g.one(10) {
		p.length = g.Intn(70)
	}
	if g.one(20) {
		p.version = g.Intn(16)
	}
	return p.bytes()
}

// discovery is a message of neighbor discovery.
func (g generator) discovery() ipv6Packet {
	src, dst := pick(g, someIPv6), pick(g, []string{receiverIP6, nodes, "ff02::1:ff02:2"})
	var options [][]byte
	for g.one(2) || len(options) == 0 {
		options = append(options, pick(g, [][]byte{sourceLink(pick(g, someMACs)), targetLink(pick(g, someMACs)), join([]byte{14, 1}, make([]byte, 6)),
			join([]byte{5, 1, 0, 0}, u32(1280)), join([]byte{1, 2}, make([]byte, 14)), make([]byte, 8), {1}}))
	}
	target := pick(g, someIPv6)
	switch g.Intn(5) {
	case 0:
		return solicit(src, dst, pick(g, []string{target, receiverIP6}), options...)
	case 1:
		return advertise(src, dst, target, options...)
	case 2:
		return routerMessage(src, dst, options...)
	case 3:
		return icmp6Message(src, dst, redirect, byte(g.Intn(8)/7), append([][]byte{u32(0), addr(target), addr(pick(g, someIPv6))}, options...)...)
	}
	return icmp6Message(src, dst, byte(130+g.Intn(10)), byte(g.Intn(8)/7), append([][]byte{u32(g.Uint32()), addr(target)}, options...)...)
}

// ipv6 wraps a packet in extension headers.
func (g generator) ipv6(p ipv6Packet) []byte {
	for g.one(3) {
		p.extensions = append(p.extensions, pick(g, []extension{hopByHop, hopByHop, destination, routing, fragmentHeader(0, false), fragmentHeader(0, true),
			fragmentHeader(1, false), {51, make([]byte, 11)}, {0, []byte{200, 1, 4, 0, 0, 0, 0}}}))
	}
	if g.one(10) {
		p.length = g.Intn(90) - 1
	}
	return p.bytes()
}

// spoil cuts, pads or changes a frame.
func (g generator) spoil(frame []byte) []byte {
	switch g.Intn(20) {
	case 0:
		frame = frame[:14+g.Intn(len(frame)-13)]
	case 1, 2:
		frame = append(frame, make([]byte, g.Intn(300))...)
	case 3:
		for i := 0; i <= g.Intn(3); i++ {
			frame[12+g.Intn(len(frame)-12)] ^= 1 << g.Intn(8)
		}
	}
	return frame
}
