# make demo   three virtual machines, one deploy, every path measured
# make test   everything that must hold
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
LOGS ?= .build/test
export CGO_ENABLED ?= 1

.PHONY: help deps demo test release lab-up lab-ssh lab-down bench healing throughput hosts faults

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

deps: ## install what the tests and the lab need (Debian packages)
	@./lab/deps.sh

demo: deps ## build the lab, deploy to it, show that it works
	@go run ./lab/cmd/demo

test: ## everything that must hold
	@./lab/deps.sh test
	@./lab/test.sh

lab-up: deps ## start the lab's hosts
	@go run ./lab/cmd/lab up

lab-ssh: ## a shell on a host: make lab-ssh HOST=alice
	@go run ./lab/cmd/lab ssh $(HOST)

lab-down: ## stop the lab
	@go run ./lab/cmd/lab down

release: ## helpers for amd64, arm64 and armv7, with checksums and what is in them, in .build/release
	@.ci/release.sh

bench: ## figures that need no lab: compiling 3,000 hosts, DNS, the agent, looks and changes, healing of many hosts, asking 3,000 how the network is
	@go test -run '^$$' -bench . -benchmem ./helper/internal/inventory ./helper/internal/nameserver
	@go test -run '^$$' -bench . -benchtime 1x ./helper/internal/agent ./helper/internal/mesh
	@go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./helper/internal/paths
	@go test -tags kernel -count=1 -v -run '^TestCost$$' ./helper/internal/transaction/hosttest

healing: deps ## break paths and hosts and watch the network heal, with figures
	@go test -tags lab -count=1 -timeout 60m -v -run TestHealing ./lab/scenarios

throughput: deps ## both modes beside plain WireGuard, with figures
	@go test -tags lab -count=1 -timeout 60m -v -run TestThroughput ./lab/scenarios

hosts: deps ## random hosts on the lab's kernels (MOBULA_HOSTS_SEEDS=1-60 for more)
	@go test -tags lab -count=1 -timeout 12h -v -run TestRandomHosts ./lab/scenarios

faults: deps ## interrupt a change at every step in every way (hours; MOBULA_FAULTS=///1 for each step once)
	@go test -tags lab -count=1 -timeout 12h -parallel 4 -v -run TestFaults ./lab/scenarios
