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
[ "${1-}" != test ] || packages+=(qemu-user iptables ufw firewalld docker.io dbus dhcpcd-base ethtool systemd)
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
command -v go >/dev/null || {
	echo "go is missing: Go 1.21 or later has to be installed first" >&2
	exit 1
}
# Installed, systemd-resolved takes a machine's resolver over: what tests run of it in
# namespaces is only unpacked, with the library of its version.
resolved=${MOBULA_LAB_CACHE:-/var/cache/mobula-lab}-resolved
if [ "${1-}" = test ] && [ ! -e "$resolved" ]; then
	echo "unpacking systemd-resolved"
	rm -rf "$resolved.new" && mkdir -p "$resolved.new/debs"
	(
		cd "$resolved.new/debs"
		apt-get -o Acquire::Retries=5 update -qq
		apt-get -o Acquire::Retries=5 -o APT::Sandbox::User=root download -qq systemd-resolved libnss-resolve libsystemd-shared
		for deb in *.deb; do dpkg-deb -x "$deb" ..; done
	)
	mv "$resolved.new" "$resolved"
fi
# The lab's deployer builds the helper in a namespace that reaches its hosts only.
go mod download
