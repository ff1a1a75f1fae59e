#!/usr/bin/env bash
# The kernel of the guest that the power-cut test records in: Debian's own package, fetched by
# apt (which checks its signature) and unpacked, not installed.
#
#   scripts/guest.sh DIR     leaves DIR/vmlinuz, DIR/modules/*.ko and DIR/modules/order
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -eq 1 ] || fail "usage: scripts/guest.sh DIR"
out=$1
[ ! -s "$out/vmlinuz" ] || { echo "have  $out (remove it to fetch it again)"; exit 0; }
[ "$(uname -m)" = x86_64 ] || fail "the guest's kernel is for x86_64; this machine is $(uname -m)"
for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: the guest's kernel is a Debian package"
done
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
[ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64: run apt-get update"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
echo "get   $package"
(cd "$work" && apt-get download -qq "$package" 2>/dev/null) || fail "apt-get download $package did not work"
dpkg-deb -x "$work"/*.deb "$work/unpacked"
mkdir -p "$out/modules"
# In the order in which they need each other; ext4 is built in.
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    find "$work/unpacked" -name "$module.ko" -exec cp {} "$out/modules/" \;
    [ -s "$out/modules/$module.ko" ] || fail "$package has no module $module.ko"
    echo "$module.ko"
done >"$out/modules/order"
cp "$work"/unpacked/boot/vmlinuz-* "$out/vmlinuz"
