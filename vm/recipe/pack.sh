# mmdebstrap --customize-hook, $1 = the finished tree, fd $PYZCRX_OUT = our pipe: an ext4
# image of it and what the host wants beside, as one tar.
set -e
work=$(mktemp -d -p "$PYZCRX_TMP")
trap 'rm -rf "$work"' EXIT

echo pyzcrx >"$1/etc/hostname"
printf '127.0.0.1 localhost pyzcrx\n::1 localhost\n' >"$1/etc/hosts"
rm -rf "$1"/boot/initrd* "$1"/initrd* "$1/etc/resolv.conf"
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* # mmdebstrap does so after this hook
chroot "$1" dpkg-query -W -f '${Package} ${Version}\n' >"$work/packages"
cp "$1"/boot/vmlinuz-* "$work/vmlinuz"
cp "$1/usr/bin/busybox" "$work/busybox"

# /proc, /sys and /dev are still mounted in the tree; a plain bind leaves them behind,
# and a mount namespace of its own takes the bind away again.
mkdir "$work/tree"
unshare --mount sh -ec '
    mount --bind "$1" "$2/tree"
    exec mke2fs -q -F -t ext4 -O ^has_journal -m 0 -i 65536 -L pyzcrx -d "$2/tree" "$2/root.ext4" "$3"
' sh "$1" "$work" "$IMAGE_SIZE" >&2

chmod 644 "$work"/packages "$work"/vmlinuz "$work"/busybox "$work"/root.ext4
tar --sparse -C "$work" -cf - root.ext4 vmlinuz busybox packages >&"$PYZCRX_OUT"
