#!/usr/bin/env bash
# Everything that must hold, stage by stage, and beside them what only computes. All
# stages run, so that one run tells all that is wrong. Ends with
# 'N passed, N failed'.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=${LOGS:-$PWD/.build/test}
export MOBULA_LAB_LOGS=$logs/lab
rm -rf "$logs" && mkdir -p "$logs"
passed=0 failed=0 skipped=0
# What is compiled is the same wherever this folder lies, and so found again by the next run.
export GOFLAGS="${GOFLAGS:-} -trimpath"

# endAll ends what still runs beside, when the test is stopped.
endAll() {
	local job
	for job in $(jobs -p); do kill -- "-$job" || kill "$job"; done 2>/dev/null
}
trap endAll EXIT

# unrun LOG: what looks green and was not run: skipped tests, packages and patterns
# without one.
unrun() { grep -E '^ *--- SKIP|no tests to run|no fuzz tests to fuzz' "$1"; }

# stage NAME COMMAND…
stage() {
	local name=$1 began=$SECONDS
	shift
	echo "== $name"
	"$@" 2>&1 | tee "$logs/$name.log" | { grep --line-buffered -E '^(lab |ok |FAIL|--- |panic|=== RUN +Test[A-Za-z]*/|    --- |fuzz: elapsed)|not formatted' || true; }
	count "$name" "${PIPESTATUS[0]}" $((SECONDS - began))
}

# along NAME COMMAND…: a stage that runs together with the next ones.
declare -A lanes
along() {
	local name=$1
	shift
	setsid bash -c '"$@"' lane "$@" >"$logs/$name.log" 2>&1 &
	lanes[$name]=$!
}

# beside NAME COMMAND…: a stage that runs when the others leave a processor idle.
beside() { along "$1" least "${@:2}"; }

# least COMMAND…: where the kernel shares processors among sessions first (sched(7),
# autogroup), the session has to be the least of them.
least() {
	echo 19 2>/dev/null >"/proc/$$/autogroup"
	renice -n 19 $$ >/dev/null && chrt --idle --pid 0 $$ && "$@"
}

# join NAME: waits for what runs along or beside.
join() {
	local began=$SECONDS status=0
	echo "== $1"
	wait "${lanes[$1]}" || status=$?
	count "$1" "$status" $((SECONDS - began))
}

# count NAME STATUS SECONDS: Go's own PASS and FAIL lines, or the stage as one. What
# was skipped or was not there to run has failed.
count() {
	local name=$1 status=$2 log=$logs/$1.log p f s
	p=$(grep -cE '^ *--- PASS' "$log") f=$(grep -cE '^ *--- FAIL' "$log")
	[ $((p + f)) -gt 0 ] || p=$((status == 0))
	[ "$status" -eq 0 ] || [ "$f" -gt 0 ] || f=1
	s=$(unrun "$log" | wc -l)
	passed=$((passed + p)) failed=$((failed + f + s)) skipped=$((skipped + s))
	if [ "$s" -gt 0 ]; then
		echo "-- $name: was not run, which is a failure:"
		unrun "$log" | tee -a "$logs/why.log"
	fi
	if [ "$f" -gt 0 ]; then
		echo "-- $name failed; the end of $log:"
		tail -n 60 "$log" | cut -c 1-300
		if grep -q '^ *--- FAIL' "$log"; then why "$log"; else tail -n 20 "$log"; fi | cut -c 1-500 >>"$logs/why.log"
	fi
	echo "== $name: $p passed, $f failed, $s not run, $3 s"
}

# why LOG: what the tests that failed said, each its first lines.
why() {
	awk '
		/^=== (RUN|CONT|NAME)/ { now = $3; next }
		/^ *--- FAIL: / { failed[$3] = 1; next }
		/^ +(===|--- PASS)/ { next } # of tests that ran in namespaces or machines of their own
		!(now in lines) { order[++n] = now }
		lines[now]++ < 40 { said[now] = said[now] $0 "\n" }
		END { for (i = 1; i <= n; i++) if (order[i] in failed) printf "-- %s:\n%s", order[i], said[order[i]] }' "$1"
}

format() {
	local bad
	bad=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$bad" ] || { echo "not formatted: $bad"; return 1; }
	git ls-files -z --cached --others --exclude-standard '*.sh' .ci/run | xargs -0 shellcheck || return 1
	codespell
}

# No file is left out where a tag is set.
vet() { go vet -tags 'lab ovs ansible kernel page' ./...; }

# The helper is built on the deployer for each host's architecture: with these flags, so that
# deploys find what it is made of compiled.
build() { CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOARM=7 go build -trimpath -buildvcs=false -o "$logs/mobula-$1" ./helper/cmd/mobula; }

# before: the same of the versions from which scenarios upgrade.
before() {
	local version dir
	sed -n 's/^\tlast[A-Z][a-z]* *= "\(.*\)"$/\1/p' lab/scenarios/upgrade_test.go | while read -r version; do
		dir=$(mktemp -d) && git -c safe.directory='*' archive "$version" | tar -x -C "$dir" &&
			(cd "$dir" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /dev/null ./helper/cmd/mobula </dev/null) && rm -r "$dir" || return
	done
}

# tests FLAG…: what all tests have in common. Vet has a stage of its own, and nobody debugs
# these programs, which are linked faster without what that takes.
tests() { go test -vet=off -ldflags=-w -exec "$inMemory${emulator:+ $emulator}" -count=1 -v "$@"; }

# emulated ARCH EMULATOR: the helper on another processor: that it builds, what computes, and
# what it says to the kernel. What has to get processor in time runs on this one alone.
emulated() {
	local emulator=$2
	export CGO_ENABLED=0 GOARCH=$1 GOARM=7
	build "$1" && tests -short -timeout 60m -skip '^TestCommandsThat(Work|Hang)$' ./helper/internal/{network,spec,plan,probe,store,reconcile,client,packetfilter,wireguard,vswitch}
}

# Tests write thousands of small files, which wait for nothing in memory. Only the tests:
# what is built for them may be large.
scratch=${TMPDIR:-/tmp}
[ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 2000000 ] && scratch=/dev/shm
inMemory="env TMPDIR=$scratch GOTMPDIR=$scratch"
# What lanes run.
export logs inMemory
export -f build before tests emulated least

# What the lab boots from takes minutes to build, mostly of waiting: beside all
# else. The lab itself waits for it, and says what is wrong with it.
lab/image.sh bookworm trixie >"$logs/image.log" 2>&1 &

# The long walks, whole: the race detector would make hours of them.
beside walks tests -timeout 60m ./helper/internal/transaction ./helper/internal/paths
beside fuzz lab/fuzz.sh
beside before before
beside arm64 emulated arm64 qemu-aarch64
beside armv7 emulated arm qemu-arm

stage format format
stage build build amd64
stage vet vet
# Not what has no second goroutine and a stage of its own. Most of the time these wait.
mapfile -t raced < <(go list ./... | grep -vE '/(paths|transaction|hosttest)$')
along unit tests -p 4 -race -short -timeout 25m "${raced[@]}"
stage lint ansible-lint --nocolor
# Ansible forks for each task of each host. What it then writes has the kernel interrupt each
# other processor on which it ran, in a virtual machine for nearly half of its time.
onOne="taskset --cpu-list $(taskset --cpu-list --pid $$ | sed 's/.*: //; s/[,-].*//')"
along playbooks go test -vet=off -exec "$onOne" -tags ansible -count=1 -parallel 4 -timeout 25m -v ./playbooks
join unit
stage kernel tests -p 4 -tags kernel -timeout 20m -run '^(TestNIC|TestOnlyDevicesMove|TestNFT|TestOthers|TestCost$|TestClientGetsIn$)' ./helper/cmd/mobula ./helper/internal/links ./helper/internal/firewall ./helper/internal/transaction/hosttest ./helper/internal/hostnames
# Random hosts on this machine's kernel. The lab's has more kinds of links, of which it is given each once.
MOBULA_HOSTS_SEEDS=1-20 stage hosts tests -timeout 20m ./helper/internal/transaction/hosttest
stage switch tests -tags ovs -timeout 10m ./helper/internal/vswitch
join playbooks
# Hosts behind NATs of the kernel's, with the agents' own sockets there.
along nats tests -tags kernel -timeout 10m -run '^TestNATGrid$' ./helper/internal/healing
# The page of the network in a real browser, which reaches nobody else.
stage page tests -tags page -timeout 15m ./helper/internal/web
join nats
stage lab go test -vet=off -tags lab -count=1 -timeout 10m -v -run 'Fault|Delay|Leaves|Meter' ./lab
stage scenarios go test -vet=off -tags lab -count=1 -timeout 80m -v -run 'TestScenarios|TestOtherHosts' ./lab/scenarios
join before
join walks
join fuzz
join arm64
join armv7

[ "$failed" -eq 0 ] || tail -n 80 "$logs/why.log"
echo "$skipped not run"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
