#!/bin/sh
# Has the helper $2 of the deployer look at its arguments, which are the rest. Without
# a $3 it is built first, of the sources in the folder $1: if it cannot be, that ends with 90.
sources=$1 helper=$2 released=$3
shift 3
if [ -z "$released" ]; then
	# What is in this folder runs as root on all hosts.
	(umask 077 && mkdir -p "${helper%/*}" && chmod 0700 "${helper%/*}") || exit 90
	command -v go >/dev/null || { echo "go: not found" >&2 && exit 90; }
	(cd "$sources" && CGO_ENABLED=0 exec go build -trimpath -buildvcs=false -o "$helper" ./helper/cmd/mobula) </dev/null >&2 || exit 90
fi
exec "$helper" "$@"
