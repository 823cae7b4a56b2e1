package firstpacket

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// load puts into the table, in nft(8)'s words:
//
//	set told { type ipv4_addr; flags dynamic,timeout; timeout AGAIN; }
//	chain leaving {
//		type filter hook postrouting priority 300;
//		oifname DEVICE udp dport OWNPORT return      (for each)
//		oifname DEVICE ip daddr != @told limit rate 1000/second burst 1000 packets add @told { ip daddr } log group 51820 snaplen 20 queue-threshold 1
//	}
func (c Config) load() error {
	return change(c.Namespace, func(conn *nftables.Conn, t *nftables.Table) error {
		conn.AddTable(t)
		told := &nftables.Set{Table: t, Name: "told", KeyType: nftables.TypeIPAddr, HasTimeout: true, Timeout: c.Again, Dynamic: true}
		if err := conn.AddSet(told, nil); err != nil {
			return err
		}
		chain := conn.AddChain(&nftables.Chain{Name: "leaving", Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(300)})
		for _, port := range c.OwnPorts {
			conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(c.leaves(), isOwn(port)...)})
		}
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(c.leaves(), isFirst(told)...)})
		return nil
	})
}

// leaves matches what leaves by the device.
func (c Config) leaves() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, c.Device)
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Register: 1, Data: name}}
}

// isOwn ends the chain for messages to a port that do not count.
func isOwn(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, // RFC 768
		&expr.Cmp{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

// perSecond bounds what is told: a guest may send to addresses of nobody. What is beyond
// it stays out of the set and is told later, if it still leaves.
const perSecond = 1000

// isFirst tells of a packet whose destination is not in the set, where it is from now on.
func isFirst(told *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}, // RFC 791
		&expr.Lookup{SourceRegister: 1, SetName: told.Name, SetID: told.ID, Invert: true},
		&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Unit: expr.LimitTimeSecond, Burst: perSecond},
		&expr.Dynset{SrcRegKey: 1, SetName: told.Name, SetID: told.ID, Operation: uint32(unix.NFT_DYNSET_OP_ADD)},
		&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD, Group: group, Snaplen: headerBytes, QThreshold: 1},
	}
}
