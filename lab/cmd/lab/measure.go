package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mobula/lab"
)

// fault breaks a path for as long as the developer lets it.
func fault(ctx context.Context, l *lab.Lab, a, b string, words []string) error {
	f, err := parseFault(words)
	if err != nil {
		return err
	}
	from, err := port(l, a)
	if err != nil {
		return err
	}
	to, err := port(l, b)
	if err != nil {
		return err
	}
	undo, err := l.Fault(ctx, from, to, f)
	if err != nil {
		return err
	}
	fmt.Printf("%s – %s: %s; interrupt to end it\n", a, b, strings.Join(words, " "))
	<-ctx.Done()
	return undo()
}

func parseFault(words []string) (lab.Fault, error) {
	var f lab.Fault
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch name {
		case "drop":
			f.Drop = true
		case "oneway":
			f.OneWay = true
		case "loss":
			f.LossPercent, err = strconv.ParseFloat(value, 64)
		case "mtu":
			f.MTU, err = strconv.Atoi(value)
		case "delay":
			f.Delay, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("there are drop, loss=, mtu=, delay= and oneway")
		}
		if err != nil {
			return f, fmt.Errorf("fault %q: %w", word, err)
		}
	}
	return f, nil
}

func port(l *lab.Lab, name string) (lab.Port, error) {
	switch name {
	case "deployer":
		return lab.DeployerPort, nil
	case "router":
		return lab.RouterPort, nil
	}
	return host(l, name)
}

// measure lets all pairs exchange packets on all networks and shows the books every few seconds.
func measure(ctx context.Context, l *lab.Lab, names []string) error {
	hosts := l.Hosts
	if len(names) > 0 {
		hosts = nil
	}
	for _, name := range names {
		h, err := host(l, name)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	var flows []lab.MeterFlow
	for _, address := range []func(lab.HostSpec) string{lab.UnderlayAddress, lab.HostSpec.IntrawireAddress, lab.HostSpec.AccessAddress} {
		flows = append(flows, lab.Pairs(hosts, address)...)
	}
	m, err := l.StartMeter(ctx, flows, lab.MeterOptions{TCP: true})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
			results, err := m.Report(ctx)
			if err != nil && ctx.Err() == nil {
				fmt.Println(err)
			}
			fmt.Println(lab.Table(results))
		}
	}
	// The interrupt was for the loop; the end still has to be fetched.
	last, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	results, err := m.Stop(last)
	fmt.Println(lab.Table(results))
	return err
}
