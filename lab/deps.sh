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
[ "${1-}" != test ] || packages+=(iptables iptables-persistent ufw firewalld docker.io dbus dhcpcd-base)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# Tests run these in namespaces. Installed for them, they leave this machine alone.
	for unit in firewalld:firewalld.service docker.io:docker.service docker.io:docker.socket docker.io:containerd.service iptables-persistent:netfilter-persistent.service; do
		[[ " ${missing[*]} " != *" ${unit%%:*} "* ]] || systemctl mask --quiet "${unit#*:}" || true
	done
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v go >/dev/null || {
	echo "go is missing: Go 1.21 or later has to be installed first" >&2
	exit 1
}
# The lab's deployer builds the helper in a namespace that reaches its hosts only.
go mod download
