// Command meter runs a meter.Process inside a machine of the lab:
//
//	meter CONFIG REPORT
//
// reads its configuration (JSON) from the file CONFIG. SIGHUP makes it begin to send, SIGUSR2
// end that; SIGUSR1 and, in the end, SIGTERM write a report (JSON) to the file REPORT.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mobula/lab/meter"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: meter CONFIG REPORT")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var config meter.Config
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, os.Interrupt)
	process, err := meter.Start(config)
	if err != nil {
		return err
	}
	defer process.Close()
	// The first report says that it listens.
	if err := writeReport(args[1], process); err != nil {
		return err
	}
	for s := range signals {
		switch s {
		case syscall.SIGHUP:
			process.StartSending()
		case syscall.SIGUSR2:
			process.StopSending()
		default:
			if err := writeReport(args[1], process); err != nil || s != syscall.SIGUSR1 {
				return err
			}
		}
	}
	return nil
}

// writeReport moves the report into place, so that a reader never sees half of it.
func writeReport(file string, process *meter.Process) error {
	report, err := json.Marshal(process.Report())
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", report, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
