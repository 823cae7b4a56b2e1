#!/bin/sh
# Names the version of the helper's sources in the folder $1: the last commit that
# changed them, and "-dirty" if they were changed since. Nothing else in the project
# counts, so that hosts get a new helper only when it is another one.
cd "$1" || exit 1
sources='helper templates go.mod go.sum'
# shellcheck disable=SC2086 # several words
commit=$(git rev-list -1 HEAD -- $sources 2>/dev/null)
if [ -z "$commit" ]; then
	echo "unknown (built without git)"
	exit
fi
# shellcheck disable=SC2086
[ -z "$(git status --porcelain -- $sources)" ] || dirty=-dirty
echo "$(git describe --always --tags "$commit")${dirty-}"
