#!/bin/sh
# Builds the helper of the sources in the folder $1 for each of the processors $4…, as Go
# calls them, into $2PROCESSOR. Prints the version, which is $3 or what git says, and then
# each processor with the SHA-256 of its helper.
sources=$1 into=$2 version=$3
shift 3
set -e
[ -n "$version" ] || version=$(sh "$(dirname "$0")/version.sh" "$sources")
echo "$version"
cd "$sources"
for arch; do
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOARM=7 \
		go build -trimpath -buildvcs=false -ldflags "-s -w -X 'main.version=$version'" -o "$into$arch" ./helper/cmd/mobula >&2
	sum=$(sha256sum "$into$arch")
	echo "$arch ${sum%% *}"
done
