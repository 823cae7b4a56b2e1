#!/usr/bin/env bash
# Helpers for those who do not build them: static, built as deploys build them, so
# that they are the same files with the same IDs; their SHA-256, and what each is made of
# (CycloneDX). All of it is made twice, in two folders, the second time without anything that
# was compiled before: what differs is no release. Arguments are other architectures, as Go
# calls them; arm is armv7.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.build/release
architectures=("$@")
[ $# -gt 0 ] || architectures=(amd64 arm64 arm)
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

version=$(sh roles/prepare_host/files/version.sh "$PWD")
case $version in
*-dirty | unknown*)
	echo "version: found $version, wanted a commit without changes: what is released has to be what git has" >&2
	exit 1
	;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Beside the project's modules, whose go.mod a tool must not change.
GOBIN=$work GOFLAGS='' go install "$sbom"

# make FOLDER SOURCES CACHE
make() {
	local arch
	mkdir -p "$1"
	GOCACHE=$3 GOAMD64=v1 GOFLAGS='' sh roles/prepare_host/files/build.sh "$2" "$1/mobula-linux-" "$version" "${architectures[@]}" >/dev/null
	for arch in "${architectures[@]}"; do
		"$work/cyclonedx-gomod" bin -json -std -noserial -notimestamp -version "$version" -output "$1/mobula-linux-$arch.cdx.json" "$1/mobula-linux-$arch"
	done
	(cd "$1" && sha256sum mobula-* >SHA256SUMS)
}

mkdir "$work/again"
git archive HEAD | tar -x -C "$work/again"
make "$work/first" "$PWD" "$(go env GOCACHE)"
make "$work/second" "$work/again" "$work/cache"
diff -r "$work/first" "$work/second" || {
	echo "the second build differs from the first: not released" >&2
	exit 1
}
rm -rf "$out"
mkdir -p .build
mv "$work/first" "$out"
echo "$version, $(go env GOVERSION), in $out:"
cat "$out/SHA256SUMS"
