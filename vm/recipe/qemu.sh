# mmdebstrap --extract-hook, $1 = a tree with QEMU's packages unpacked: the program, its
# modules and libraries, and the firmware go out.
set -e
cd "$1"
find "$LIBRARIES" \( -name '*.so*' -o -path "$LIBRARIES/qemu/*" \) \( -type f -o -type l \) \
    ! -path '*/gconv/*' ! -path '*/perl*/*' >files
for each in $FIRMWARE; do [ ! -d "$each" ] || echo "$each"; done >>files
echo "$PROGRAM" >>files
tar -cf - -T files >&"$PYZCRX_OUT"
