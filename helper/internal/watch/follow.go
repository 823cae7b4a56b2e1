package watch

import (
	"mobula/helper/internal/firewall"
	"mobula/helper/internal/hostnames"
	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// subscribed is what a repairer follows.
type subscribed struct {
	namespace uint64 // inode of the gateway's; 0: nothing
	doorway   bool   // also the tables of the host's own namespace
}

// Follow subscribes to what the kernel tells of the namespaces as they are now.
func (r *Repairer) Follow(running *store.Change) {
	inode := netns.Inode(spec.Namespace)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enabled = running != nil && running.Document != nil
	if !r.enabled {
		inode = 0
	} else if r.change != running {
		r.change = running
		r.know(running)
	}
	now := subscribed{inode, inode != 0 && r.doorway != nil}
	if r.subscribed == now {
		return
	}
	for _, s := range r.subscriptions {
		s.Close()
	}
	r.subscriptions, r.subscribed = nil, now
	if inode == 0 {
		return
	}
	for _, ns := range []string{"", spec.Namespace} {
		r.subscribe(links.Subscribe, ns, func(s *netns.Subscription) error {
			return links.Watch(s, func() *links.Own { return r.own(ns) }, r.because, func() {
				if ns == "" {
					r.move()
				}
			})
		})
	}
	tables := []string{spec.Namespace}
	if now.doorway {
		tables = append(tables, "")
	}
	for _, ns := range tables {
		r.subscribe(firewall.Subscribe, ns, func(s *netns.Subscription) error {
			return firewall.Watch(s, func() { r.because("nftables changed") })
		})
	}
}

// know computes what of the host's network is Mobula's.
func (r *Repairer) know(running *store.Change) {
	facts, err := r.Facts()
	if err == nil && facts != nil {
		var p *spec.Host
		if p, err = plan.Build(running.Document, running.HostID, *facts); err == nil {
			r.ours = map[string]*links.Own{"": links.NewOwn(p, ""), spec.Namespace: links.NewOwn(p, spec.Namespace)}
			r.doorway, r.names = p.Doorway, hostnames.Watched(p)
		}
	}
	if err != nil {
		r.Log.Warn("planning what to watch", "error", err)
	}
}

// own returns what is Mobula's in a namespace.
func (r *Repairer) own(namespace string) *links.Own {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.ours[namespace]; o != nil {
		return o
	}
	return new(links.Own) // not known yet: nothing
}

func (r *Repairer) subscribe(open func(string) (*netns.Subscription, error), namespace string, watch func(*netns.Subscription) error) {
	s, err := open(namespace)
	if err != nil {
		r.Log.Warn("following the kernel", "namespace", namespace, "error", err)
		return
	}
	r.subscriptions = append(r.subscriptions, s)
	go func() { _ = watch(s) }() // until it is closed
}
