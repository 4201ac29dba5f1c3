# mmdebstrap --customize-hook, $1 = a tree with the headers of $RELEASE and a compiler: a
# module's sources come in as a tar, the module goes out. /proc, which objtool reads, is
# still mounted in the tree.
set -e
mkdir "$1/module"
tar -C "$1/module" -xf "/proc/self/fd/$PYZCRX_IN"
build=/lib/modules/$RELEASE/build
cc=$(chroot "$1" sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ "]*\).*/\1/p' "$build/.config")
chroot "$1" make -C "$build" M=/module CC="$cc" "$ARGUMENT" modules >&2
chroot "$1" strip --strip-debug "/module/$MODULE"
tar -C "$1/module" -cf - "$MODULE" >&"$PYZCRX_OUT"
