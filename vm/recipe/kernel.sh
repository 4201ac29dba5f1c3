# mmdebstrap --customize-hook, $1 = a tree that only apt knows of: out goes, unpacked, the
# newest kernel whose version begins with $VERSION, with its modules.
set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir "$1/debs" "$1/kernel"
cd "$1/debs"
# Where Debian splits the package, linux-binary has the image and linux-image is empty, and
# what is built in stands in linux-base.
version=$(printf '%s' "$VERSION" | sed 's/\./\\./g')
for kind in linux-binary linux-image; do
    name=$(apt-cache pkgnames "$kind-" | sort -V |
        grep -E "^$kind-$version(\.[0-9]+)*(\+[a-z0-9.]+)?-amd64$" | tail -n 1)
    [ -z "$name" ] || break
done
[ -n "$name" ] || { echo "pyzcrx: none" >&2; exit 1; }
release=${name#"$kind"-}
more=$(apt-cache pkgnames linux- | grep -Fx -e "linux-modules-$release" -e "linux-base-$release") ||
    true # all in one
# shellcheck disable=SC2086
apt-get download "$name" $more >&2
for deb in *.deb; do
    dpkg-deb -x "$deb" "$1/kernel"
done
tar -C "$1/kernel" -cf - . >&"$PYZCRX_OUT"
