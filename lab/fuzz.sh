#!/usr/bin/env bash
# Each fuzz target for some seconds, from the seeds in the repository. Counted in
# executions: a target that is stopped by the clock may fail for that alone.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
status=0
while IFS=: read -r file target; do
	dir=$(dirname "$file")
	go test -vet=off -run '^$' -fuzz "^$target\$" -fuzztime 15000x -fuzzminimizetime 20x "./$dir" || status=1
done < <(grep -rHoE '^func Fuzz\w+' --include='*_test.go' helper | sed 's/:func /:/')
exit $status
