package firewall

import (
	"errors"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

// Subscribe prepares for Watch.
func Subscribe(namespace string) (*netns.Subscription, error) {
	return netns.Subscribe(namespace, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
}

// Watch reports every change of nftables' rules in a namespace, whoever made it.
// It returns when the subscription ends.
func Watch(s *netns.Subscription, changed func()) error {
	for {
		_, err := s.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		changed()
	}
}
