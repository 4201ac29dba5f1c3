# mmdebstrap --customize-hook, $1 = a tree that only apt knows of: the distribution's kernel
# source of the series $SERIES goes out, as it is packed there.
set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir "$1/source"
cd "$1/source"
apt-get download "linux-source-$SERIES" >&2
dpkg-deb --fsys-tarfile linux-source-*.deb |
    tar --wildcards --strip-components=3 -xf - './usr/src/linux-source-*.tar.xz'
mv linux-source-*.tar.xz linux-source.tar.xz
tar -cf - linux-source.tar.xz >&"$PYZCRX_OUT"
