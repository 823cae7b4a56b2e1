#!/usr/bin/env bash
# Installs what the lab needs on Debian 12, and with 'test' what all tests do: packages
# only. The lab's image installs what it needs itself, see image.sh.
set -euo pipefail

packages=(
	ansible-core ansible-lint shellcheck git curl
	openvswitch-switch nftables iproute2 iputils-ping conntrack
	qemu-system-x86 qemu-utils debootstrap e2fsprogs wireguard-go wireguard-tools
	openssh-client bind9-dnsutils gcc libc6-dev
)
[ "${1-}" != test ] || packages+=(qemu-user iptables ufw firewalld docker.io dbus dhcpcd-base ethtool systemd zbar-tools codespell
	bash-completion zsh fish mandoc groff-base chromium)
command -v go >/dev/null || {
	echo "go is missing: Go 1.24 or later has to be installed first" >&2
	exit 1
}
# Meanwhile what needs none of them: modules, and for the tests the helper, compiled.
modules() {
	go mod download
	[ "${1-}" != test ] || CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /dev/null ./helper/cmd/mobula
}
modules "$@" &
modules=$!
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# Tests run these in namespaces. Installed for them, they leave this machine alone.
	for unit in firewalld:firewalld.service docker.io:docker.service docker.io:docker.socket docker.io:containerd.service; do
		[[ " ${missing[*]} " != *" ${unit%%:*} "* ]] || systemctl mask --quiet "${unit#*:}" || true
	done
	apt-get -o Acquire::Retries=5 update -qq
	apt-get -o Acquire::Retries=5 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# unpack NAME PACKAGE…: what tests run of packages that must not be installed here.
unpack() {
	local into=${MOBULA_LAB_CACHE:-/var/cache/mobula-lab}-$1
	[ ! -e "$into" ] || return 0
	echo "unpacking ${*:2}"
	rm -rf "$into.new" && mkdir -p "$into.new/debs"
	(
		cd "$into.new/debs"
		apt-get -o Acquire::Retries=5 update -qq
		apt-get -o Acquire::Retries=5 -o APT::Sandbox::User=root download -qq "${@:2}"
		for deb in *.deb; do dpkg-deb -x "$deb" ..; done
	)
	mv "$into.new" "$into"
}
if [ "${1-}" = test ]; then
	# Installed, it takes a machine's resolver over; with the library of its version.
	unpack resolved systemd-resolved libnss-resolve libsystemd-shared
	unpack promtool prometheus # for one program; installed, it is a service
	unpack persistent netfilter-persistent iptables-persistent # which exclude ufw
fi
# The lab's deployer builds the helper in a namespace that reaches its hosts only.
wait "$modules"
