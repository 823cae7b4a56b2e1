#!/usr/bin/env bash
# Everything that must hold, one stage after the other, and beside them what only
# computes. All stages run, so that one run tells all that is wrong. Ends with
# 'N passed, N failed'.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=${LOGS:-$PWD/.build/test}
export MOBULA_LAB_LOGS=$logs/lab
rm -rf "$logs" && mkdir -p "$logs"
passed=0 failed=0 skipped=0

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

# beside NAME COMMAND…: a stage that runs when the others leave a processor idle. Where
# the kernel shares processors among sessions first (sched(7), autogroup), the session
# has to be the least of them.
declare -A lanes
beside() {
	local name=$1
	shift
	setsid sh -c 'echo 19 2>/dev/null >"/proc/$$/autogroup"; exec nice -n 19 chrt --idle 0 "$@"' low "$@" >"$logs/$name.log" 2>&1 &
	lanes[$name]=$!
}

# join NAME: waits for what runs beside.
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
		!(now in lines) { order[++n] = now }
		lines[now]++ < 40 { said[now] = said[now] $0 "\n" }
		END { for (i = 1; i <= n; i++) if (order[i] in failed) printf "-- %s:\n%s", order[i], said[order[i]] }' "$1"
}

format() {
	local bad
	bad=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$bad" ] || { echo "not formatted: $bad"; return 1; }
	git ls-files -z --cached --others --exclude-standard '*.sh' .ci/run | xargs -0 shellcheck
}

vet() { go vet ./... && go vet -tags 'lab ovs ansible kernel' ./...; }

# The helper is built on the deployer for each host's architecture.
build() {
	local arch
	for arch in amd64 arm64; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -o "$logs/mobula-$arch" ./helper/cmd/mobula || return 1
	done
}

# memory is where what is written need not wait for a disk.
memory=${TMPDIR:-/tmp}
[ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 200000 ] && memory=/dev/shm

# What the lab boots from takes minutes to build, mostly of waiting: beside all
# else. The lab itself waits for it, and says what is wrong with it.
lab/image.sh bookworm trixie >"$logs/image.log" 2>&1 &

# The long walks, whole: the race detector would make hours of them.
beside walks env "TMPDIR=$memory" "GOTMPDIR=${TMPDIR:-/tmp}" go test -count=1 -timeout 60m -v ./helper/internal/transaction ./helper/internal/paths
beside fuzz lab/fuzz.sh
# The helper on another processor, emulated: what computes, and what it says to the kernel.
beside arm64 env CGO_ENABLED=0 GOARCH=arm64 go test -short -count=1 -timeout 60m -v -exec qemu-aarch64 ./helper/internal/{network,plan,probe,store,reconcile,client,packetfilter,wireguard}

stage format format
stage build build
stage vet vet
stage lint ansible-lint --profile production --offline --nocolor
# Not the computed networks of paths, which have no second goroutine.
mapfile -t raced < <(go list ./... | grep -v '/paths$')
stage unit go test -race -short -count=1 -timeout 25m -v "${raced[@]}"
stage playbooks go test -tags ansible -count=1 -timeout 25m -v ./playbooks
stage kernel go test -tags kernel -count=1 -timeout 20m -v -run '^(TestNIC|TestOnlyDevicesMove|TestNFT|TestOthers)' ./helper/internal/links ./helper/internal/firewall ./helper/internal/transaction/hosttest ./helper/internal/hostnames
# Random hosts on this machine's kernel. The lab's has more kinds of links, of which it is given each once.
stage hosts env MOBULA_HOSTS_SEEDS=1-20 go test -count=1 -timeout 20m -v ./helper/internal/transaction/hosttest
stage switch go test -tags ovs -count=1 -timeout 10m -v ./helper/internal/vswitch
stage lab go test -tags lab -count=1 -timeout 10m -v -run 'Fault|Delay|Leaves|Meter' ./lab
stage scenarios go test -tags lab -count=1 -timeout 80m -v -run 'TestScenarios|TestOtherHosts' ./lab/scenarios
join walks
join fuzz
join arm64

[ "$failed" -eq 0 ] || tail -n 80 "$logs/why.log"
echo "$skipped not run"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
