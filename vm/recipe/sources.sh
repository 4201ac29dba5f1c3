# mmdebstrap --setup-hook, $1 = the tree: apt must know the backports too. On a machine
# whose own apt names no Debian archive, mmdebstrap has written the line of the suite
# from its default, and the one for the backports is made from that.
set -e
list=$1/etc/apt/sources.list
if ! grep -rqs "$BACKPORTS" "$list" "$list.d"; then
    sed -n "s/^\(deb .*\) $SUITE /\1 $BACKPORTS /p" "$list" >"$list.d/backports.list"
fi
