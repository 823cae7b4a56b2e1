#!/bin/bash
# Builds what the lab's virtual machines boot from, once per version of this recipe. For each
# of Debian's suites that it is asked for a folder with
#   vmlinuz, initrd.img
#   full.raw   SSH, Python, the packages a Mobula host needs, and tools to look around
# and in bookworm/ (Debian 12) also
#   bare.raw   SSH and Python, nothing else
#   repo/      an APT repository with the packages for the bare host
# Prints the folder that holds those folders on stdout; progress goes to stderr.
#
#   image.sh [SUITE...]    bookworm, trixie; default: bookworm
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MOBULA_LAB_CACHE:-/var/cache/mobula-lab}
root_size=3G # sparse

bare_packages=(
    systemd-sysv udev dbus kmod openssh-server python3 sudo iproute2 iputils-ping
    linux-image-cloud-amd64 initramfs-tools ca-certificates procps
)
# What Mobula asks for on a host, and so what the lab's repository must offer.
host_packages=(openvswitch-switch nftables wireguard-tools conntrack)
tool_packages=(tcpdump iperf3 bind9-dnsutils systemd-resolved ufw)
# Debian 12: for the hosts that are to have it (HostSpec.Docker), and what its image is made of.
docker_packages=(docker.io apparmor busybox-static)
# Debian 13: for the host that turns it on.
firewall_packages=(firewalld)

started=$SECONDS
say() { printf '[%3ds] %s\n' "$((SECONDS - started))" "$*" >&2; }

need_tools() {
    local missing=() pair
    for pair in qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils debootstrap:debootstrap \
        mkfs.ext4:e2fsprogs wireguard-go:wireguard-go wg:wireguard-tools nft:nftables ip:iproute2 \
        ping:iputils-ping ssh:openssh-client dpkg-scanpackages:dpkg-dev flock:util-linux; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    ((${#missing[@]})) || return 0
    say "installing on this machine: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# in_root TREE COMMAND...: runs a command inside a tree, without starting services.
in_root() {
    local tree=$1
    shift
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@" >>"$log" 2>&1
}

install_in() {
    local tree=$1
    shift
    in_root "$tree" apt-get install -y --no-install-recommends "$@"
}

build_bare() {
    say "debootstrap $suite (about a minute)"
    debootstrap --variant=minbase "$suite" "$tree/bare" >>"$log" 2>&1 ||
        { sleep 10 && rm -rf "$tree/bare" && debootstrap --variant=minbase "$suite" "$tree/bare" >>"$log" 2>&1; }
    cp /etc/resolv.conf "$tree/bare/etc/resolv.conf"
    # The trees are thrown away when a step fails, so dpkg need not wait for the disk.
    echo force-unsafe-io >"$tree/bare/etc/dpkg/dpkg.cfg.d/lab"
    # A name server that does not answer once need not end the build.
    echo 'Acquire::Retries "5";' >"$tree/bare/etc/apt/apt.conf.d/lab"
    printf '#!/bin/sh\nexit 101\n' >"$tree/bare/usr/sbin/policy-rc.d"
    chmod 755 "$tree/bare/usr/sbin/policy-rc.d"
    # The initrd holds only what finds the root disk.
    mkdir -p "$tree/bare/etc/initramfs-tools/conf.d"
    printf 'MODULES=list\nBUSYBOX=n\nCOMPRESS=lz4\nFSTYPE=ext4\n' >"$tree/bare/etc/initramfs-tools/conf.d/lab"
    printf '%s\n' virtio_pci virtio_blk ext4 >>"$tree/bare/etc/initramfs-tools/modules"

    say "$suite: packages of the bare image"
    in_root "$tree/bare" apt-get update
    install_in "$tree/bare" "${bare_packages[@]}" "${managers[@]}" lz4
    cp "$tree"/bare/boot/vmlinuz-* "$out/vmlinuz"
    cp "$tree"/bare/boot/initrd.img-* "$out/initrd.img"

    cp -a "$here"/image/root/. "$tree/bare/"
    chmod 755 "$tree/bare/usr/local/sbin/lab-init"
    in_root "$tree/bare" useradd --create-home --shell /bin/bash ops
    echo 'ops ALL=(ALL) NOPASSWD: ALL' >"$tree/bare/etc/sudoers.d/ops"
    chmod 440 "$tree/bare/etc/sudoers.d/ops"
    mkdir -p "$tree/bare/var/log/journal"
    touch "$tree/bare/etc/default/locale" # or PAM complains at each login
    # Per-host files come from the host's seed; see lab-init.
    rm -f "$tree"/bare/etc/ssh/ssh_host_* "$tree"/bare/etc/machine-id "$tree"/bare/var/lib/dbus/machine-id
    : >"$tree/bare/etc/machine-id"
    # Housekeeping that would only steal time from an emulated CPU.
    in_root "$tree/bare" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service systemd-binfmt.service
    in_root "$tree/bare" systemctl disable getty@tty1.service ssh.socket "${off[@]}"
    in_root "$tree/bare" systemctl enable ssh.service lab-console.service
    in_root "$tree/bare" systemctl set-default multi-user.target
}

build_repo() {
    say "$suite: package repository"
    mkdir -p "$out/repo" "$tree/bare/repo/partial"
    in_root "$tree/bare" apt-get install -y --no-install-recommends \
        --download-only -o Dir::Cache::archives=/repo "${host_packages[@]}" python3-apt # which Ansible installs for itself
    mv "$tree"/bare/repo/*.deb "$out/repo/"
    rm -r "$tree/bare/repo"
    (cd "$out/repo" && dpkg-scanpackages --multiversion . >Packages 2>>"$log")
}

build_full() {
    say "$suite: packages of the full image"
    if [[ $suite == bookworm ]]; then
        cp -a "$tree/bare" "$tree/full"
        cp "$out"/repo/*.deb "$tree/full/var/cache/apt/archives/"
        tool_packages+=("${docker_packages[@]}")
    else
        mv "$tree/bare" "$tree/full"
        tool_packages+=("${firewall_packages[@]}")
    fi
    install_in "$tree/full" "${host_packages[@]}" "${tool_packages[@]}"
    # Mobula brings its own instance; the system's stays off, as on a host that never used it.
    # systemd-resolved is for the hosts that are to have it (HostSpec.Resolved), so on the
    # others there is no resolvconf for NetworkManager, as if it were not installed.
    in_root "$tree/full" systemctl disable openvswitch-switch.service systemd-resolved.service
    rm -f "$tree/full/usr/sbin/resolvconf"
    [[ $suite != trixie ]] || in_root "$tree/full" systemctl disable firewalld.service
    [[ $suite != bookworm ]] || in_root "$tree/full" systemctl disable docker.service docker.socket containerd.service apparmor.service
}

# finish NAME: what must not differ between a tree and a machine that was never a chroot, then the disk.
finish() {
    local root=$tree/$1
    say "$suite: disk image $1"
    in_root "$root" apt-get clean
    rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/sbin/policy-rc.d "$root"/etc/{dpkg/dpkg.cfg.d,apt/apt.conf.d}/lab \
        "$root"/usr/share/{doc,man,locale,info}/* "$root"/etc/resolv.conf "$root"/etc/apt/sources.list{,.d/*}
    mkdir -p "$root"/var/lib/apt/lists/partial
    # Or the first boot rebuilds what the packages have built, for minutes (systemd-update-done.service(8)).
    touch "$root/etc/.updated" "$root/var/.updated"
    if [[ $suite == bookworm ]]; then
        echo 'deb [trusted=yes] http://192.0.2.253/ ./' >"$root/etc/apt/sources.list"
    fi
    mkfs.ext4 -q -F -L "lab-$1" -E lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$out/$1.raw" "$root_size" >>"$log" 2>&1
}

# build SUITE: its folder, in one step.
build() {
    suite=$1
    out=$cache/build-$hash/$suite
    tree=$out/tree
    log=$cache/build-$hash-$suite.log
    # The suite's network managers, and which of their units stay off: a host turns on its own (seed.go).
    case $suite in
        bookworm)
            managers=(ifupdown)
            off=(networking.service)
            ;;
        trixie)
            managers=(network-manager netplan.io systemd-resolved libnss-resolve)
            off=(NetworkManager.service NetworkManager-dispatcher.service NetworkManager-wait-online.service)
            ;;
    esac
    rm -rf "$out"
    mkdir -p "$tree"
    : >"$log"
    trap 'status=$?; if ((status)); then tail -n 30 "$log" >&2; say "failed; the whole log: $log"; fi' EXIT
    build_bare
    if [[ $suite == bookworm ]]; then
        build_repo
        build_full
        finish bare
    else
        build_full
    fi
    finish full
    rm -rf "$tree"
    mkdir -p "$final"
    mv "$out" "$final/$suite"
    say "images built: $(du -sh "$final/$suite" | cut -f1) in $final/$suite"
}

(($(id -u) == 0)) || {
    echo "image.sh: must run as root" >&2
    exit 1
}
(($#)) || set -- bookworm
for suite; do
    [[ $suite == bookworm || $suite == trixie ]] || {
        echo "image.sh: suite: found $suite, wanted bookworm or trixie" >&2
        exit 1
    }
done
need_tools
hash=$(cd "$here" && { cat image.sh; find image -type f | LC_ALL=C sort | xargs sha256sum; } | sha256sum | cut -c1-16)
final=$cache/$hash
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another build runs; waiting for it" && flock 9; }
# Side by side: most of it is waiting for packages.
jobs=()
for suite; do
    [[ -d $final/$suite ]] || { (build "$suite") & jobs+=($!); }
done
for job in "${jobs[@]}"; do wait "$job"; done
# Old images go, except those a running lab may still use.
find "$cache" -mindepth 1 -maxdepth 1 ! -name disks ! -name lock -mtime +7 -exec rm -rf {} +
echo "$final"
