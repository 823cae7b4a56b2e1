package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

func ofTwo() (*report.Mesh, error) {
	return &report.Mesh{Format: report.Format, AskedBy: 1, Ways: report.AllWays, Hosts: []report.Host{
		{HostID: 1, Name: "alice", Answer: report.Answered, Ways: []report.Way{{To: 2, State: report.Down}}},
		{HostID: 2, Name: "bob", Answer: report.Unreachable}}}, nil
}

// TestMeshStatus: text without escape sequences where there is no terminal, JSON, and an
// error that names the agent.
func TestMeshStatus(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	var out bytes.Buffer
	c := &call{Context: context.Background(), stdout: &out}
	if err := c.tellMesh(ofTwo, 0, false); err != nil || !strings.Contains(out.String(), "* bob is unreachable from alice\n") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("found %v and %q, wanted what is wrong, without colors", err, &out)
	}
	out.Reset()
	if err := c.tellMesh(ofTwo, 0, true); err != nil {
		t.Error(err)
	}
	var m report.Mesh
	if err := json.Unmarshal(out.Bytes(), &m); err != nil || m.Format != report.Format || len(m.Problems) != 1 {
		t.Errorf("found %v and %s, wanted JSON with the problem", err, &out)
	}
	err := c.tellMesh(func() (*report.Mesh, error) { return nil, errors.New("no such socket") }, time.Millisecond, false)
	if err == nil || !strings.Contains(err.Error(), "mobula-agent") {
		t.Errorf("found %v, wanted an error that names the agent's unit", err)
	}
}

// TestMeshWatch: asked again until it is interrupted, also when the agent is away meanwhile;
// as JSON it is one object a line.
func TestMeshWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out, problems bytes.Buffer
	c := &call{Context: ctx, stdout: &out, stderr: &problems}
	times := 0
	err := c.tellMesh(func() (*report.Mesh, error) {
		switch times++; times {
		case 2:
			return nil, errors.New("away")
		case 3:
			cancel()
		}
		return ofTwo()
	}, time.Millisecond, true)
	if err != nil || strings.Count(out.String(), "\n") != 2 || !strings.Contains(problems.String(), "away") {
		t.Errorf("found %v, %q and %q, wanted two lines and what was wrong between them", err, &out, &problems)
	}
}

// TestMeshFlags: what contradicts itself is refused before anything is asked.
func TestMeshFlags(t *testing.T) {
	for _, args := range [][]string{{"status", "--mesh", "--quick"}, {"status", "--watch", "--compare"}} {
		var out, problems bytes.Buffer
		if code := run(context.Background(), args, nil, &out, &problems); code != exitUsage || !strings.Contains(problems.String(), "--mesh") {
			t.Errorf("%v: found exit code %d and %q, wanted %d and why", args, code, &problems, exitUsage)
		}
	}
}
