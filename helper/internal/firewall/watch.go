package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

// Subscribe prepares for Watch.
func Subscribe(namespace string) (*netns.Subscription, error) {
	return netns.Subscribe(namespace, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
}

// Watch reports every change of Mobula's tables in a namespace, whoever made it. Other
// tables are no concern of Mobula's: what runs containers changes its own all the time.
// It returns when the subscription ends.
func Watch(s *netns.Subscription, changed func()) error {
	for {
		messages, err := s.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		if err != nil || tellsOf(messages, table) {
			changed()
		}
	}
}

// tellsOf reports whether one of the messages is of the named table of a family of ours: all but those
// of a new generation begin with the table's name (nf_tables.h).
func tellsOf(messages []syscall.NetlinkMessage, table string) bool {
	const nfgenmsg = 4 // bytes
	for _, m := range messages {
		generation := m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN
		if !generation && len(m.Data) >= nfgenmsg && (m.Data[0] == unix.NFPROTO_INET || m.Data[0] == unix.NFPROTO_NETDEV) && tableOf(m.Data[nfgenmsg:]) == table {
			return true
		}
	}
	return false
}

// tableOf returns the attribute that is the table's name in each kind of message
// (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on); "": there is none.
func tableOf(attributes []byte) string {
	for len(attributes) >= unix.SizeofNlAttr {
		size, kind := int(binary.NativeEndian.Uint16(attributes)), binary.NativeEndian.Uint16(attributes[2:])
		if size < unix.SizeofNlAttr || size > len(attributes) {
			return ""
		}
		if kind == unix.NFTA_TABLE_NAME {
			name, _, _ := bytes.Cut(attributes[unix.SizeofNlAttr:size], []byte{0})
			return string(name)
		}
		attributes = attributes[min(len(attributes), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return ""
}
