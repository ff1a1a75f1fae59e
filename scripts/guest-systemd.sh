#!/usr/bin/env bash
# The guest of the boot-window test: Debian 12 with systemd, its own kernel and initrd, network
# drivers, and a network set up as on a board that talks: systemd-networkd asks for an address on each
# link, at once and by itself. Nothing of Holdfast is in it; the test writes that into a copy.
#
#   scripts/guest-systemd.sh DIR     leaves DIR/vmlinuz, DIR/initrd.img, DIR/root.img
#
# debootstrap only downloads and unpacks; what Debian's packages run to set themselves up runs in
# namespaces of its own, without a network. The image is made from a folder, not mounted. It is made
# again when this script has changed. Wants root, debootstrap, mke2fs and some 2 GB below DIR.
set -euo pipefail
inputs=$(sha256sum "${BASH_SOURCE[0]}" | cut -d' ' -f1)
. "$(dirname "$0")/lib.sh"
[ $# -eq 1 ] || fail "usage: scripts/guest-systemd.sh DIR"
out=$1
if [ "$(cat "$out/inputs" 2>/dev/null)" = "$inputs" ]; then
    echo "have  $out (remove it to make it again)"
    exit 0
fi
[ "$(uname -m)" = x86_64 ] || fail "the guest is for x86_64; this machine is $(uname -m)"
[ "$(id -u)" -eq 0 ] || fail "a Debian system can be made by root only"
for tool in debootstrap mke2fs unshare; do
    command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install debootstrap e2fsprogs util-linux"
done

mkdir -p "$out"
work=$(mktemp -d "$out/work.XXXXXX")
work=$(cd "$work" && pwd)
trap 'rm -rf "$work"' EXIT
root=$work/root
log=$work/log
packages=systemd,systemd-sysv,udev,dbus,libpam-systemd,linux-image-amd64,kmod,iproute2,procps

# quietly runs a command and shows what it said only when it goes wrong.
quietly() {
    "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "$1 did not work"; }
}

echo "get   Debian 12 with systemd, by debootstrap"
quietly debootstrap --foreign --variant=minbase --include="$packages" bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"

# The kernel's package makes an initrd; it need hold only what finds the disk.
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=gzip\n' >"$root/etc/initramfs-tools/conf.d/guest"

echo "set   packages up, in namespaces of their own"
cat >"$root/setup" <<'SETUP'
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
/debootstrap/debootstrap --second-stage
# What no machine of QEMU's has would only be copied about.
for kernel in /lib/modules/*; do
    for part in gpu media infiniband iio staging scsi ata hwmon video mtd md isdn accel; do rm -rf "$kernel/kernel/drivers/$part"; done
    rm -rf "$kernel/kernel/sound"
    depmod "${kernel##*/}"
done
printf 'virtio_pci\nvirtio_blk\next4\n' >/etc/initramfs-tools/modules
update-initramfs -u -k all
useradd --create-home --shell /bin/sh --uid 1000 pilot
mkdir -p /var/lib/systemd/linger && : >/var/lib/systemd/linger/pilot
echo guest >/etc/hostname
echo '/dev/vda / ext4 rw,errors=remount-ro 0 1' >/etc/fstab
cat >/etc/systemd/network/any.network <<'NETWORK'
[Match]
Type=ether

[Network]
DHCP=yes
IPv6AcceptRA=yes
LinkLocalAddressing=yes
MulticastDNS=yes
LLDP=yes
EmitLLDP=yes
NETWORK
systemctl enable systemd-networkd.service
systemctl disable systemd-networkd-wait-online.service
# A flight needs none of these, and an emulated processor is slow.
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service systemd-pstore.service
mkdir -p /etc/systemd/system/serial-getty@ttyS0.service.d
cat >/etc/systemd/system/serial-getty@ttyS0.service.d/login.conf <<'LOGIN'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin pilot --keep-baud 115200 %I dumb
LOGIN
dpkg-query -W >/packages
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info
rm -f /etc/machine-id /var/lib/dbus/machine-id
echo uninitialized >/etc/machine-id
SETUP
quietly unshare --mount --pid --fork --net --ipc --uts --kill-child sh -ec '
    mount -t proc proc "$1/proc"
    mount -t sysfs -o ro sysfs "$1/sys"
    exec chroot "$1" /bin/sh /setup' setup "$root"
rm "$root/setup"

echo "make  the disk"
cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/initrd.img"
mv "$root/packages" "$work/packages"
rm -rf "$root"/boot/* "$root"/initrd.img* "$root"/vmlinuz*
truncate -s 1200M "$work/root.img"
quietly mke2fs -q -F -t ext4 -m 0 -L guest -d "$root" "$work/root.img"
rm -f "$out/inputs"
mv "$work/vmlinuz" "$work/initrd.img" "$work/packages" "$work/root.img" "$out/"
echo "$inputs" >"$out/inputs"
echo "made  $out: $(du -sh "$out/root.img" | cut -f1) on disk, $(grep -c . "$out/packages") packages"
