package firewall

import (
	"strings"

	"github.com/google/nftables"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// Counted is what the tables of a host have counted since they were loaded.
type Counted struct {
	// Refused are packets of guests and clients, by the names of the counters without guest_.
	Refused map[string]uint64
	// RelayedPackets and RelayedBytes were passed on between other hosts.
	RelayedPackets, RelayedBytes uint64
	// Stranded are packets that were too long for the way on; where the NIC has moved the
	// kernel says so to the sender, and counts none.
	Stranded uint64
}

// ReadCounters asks the kernel, without nft: the agent does, which may do little, and
// often. shared tells that the host keeps its NIC, and has tables in its own namespace.
func ReadCounters(shared bool) (*Counted, error) { return readCounters(spec.Namespace, shared) }

func readCounters(gateway string, shared bool) (*Counted, error) {
	c := &Counted{Refused: map[string]uint64{}}
	err := c.add(gateway, nftables.TableFamilyINet)
	if err == nil && shared {
		if err = c.add("", nftables.TableFamilyINet); err == nil {
			err = c.add("", nftables.TableFamilyNetdev)
		}
	}
	return c, err
}

// add reads the counters of one of our tables; one that is not there has none.
func (c *Counted) add(namespace string, family nftables.TableFamily) error {
	return netns.Do(namespace, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		all, err := conn.GetObjects(&nftables.Table{Name: table, Family: family})
		if err != nil {
			return err
		}
		for _, o := range all {
			counter, ok := o.(*nftables.CounterObj)
			if !ok || counter.Table.Name != table {
				continue
			}
			if what, refused := strings.CutPrefix(counter.Name, "guest_"); refused {
				c.Refused[what] += counter.Packets
				continue
			}
			switch counter.Name {
			case "relayed":
				c.RelayedPackets += counter.Packets
				c.RelayedBytes += counter.Bytes
			case "stranded":
				c.Stranded += counter.Packets
			}
		}
		return nil
	})
}
