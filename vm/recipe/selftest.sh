# mmdebstrap --customize-hook, $1 = a tree with a compiler and, unless a kernel tree comes in
# with liburing, the distribution's kernel source: out goes one tar of the network selftests,
# built, with the Python modules that they import and the tools that the guest lacks.
set -e
work=$1/selftests
mkdir -p "$work"
tar -C "$work" -xf "/proc/self/fd/$PYZCRX_IN"
if [ ! -d "$work/tree" ]; then
    mkdir "$work/tree"
    source=$(echo "$1"/usr/src/linux-source-*.tar.xz)
    # shellcheck disable=SC2086
    tar -C "$work/tree" --strip-components=1 --wildcards -xJf "$source" \
        $(for path in $KERNEL_FILES; do echo "linux-source-*/$path"; done)
fi
# YNL's generator walks up from where it is until it finds this file.
touch "$work/tree/MAINTAINERS"
cp -r "$work"/liburing/include/* "$1/usr/include/"
cp "$work/liburing/liburing.a" "$1/usr/lib/"

cat >"$work/build" <<'END'
set -e
cd /selftests/tree/tools/testing/selftests
build() {
    # Absolute targets and HAS_IOURING_ZCRX: the makefiles leave out, without a word, what
    # they do not recognise. Their `echo -e` needs bash.
    (cd "$1" && make SHELL=/bin/bash HAS_IOURING_ZCRX=y OUTPUT="$PWD" "$PWD/$2" >/tmp/log 2>&1) || {
        tail -n 8 /tmp/log
        echo "selftest: $1/$2 cannot be built"
        [ "$2" != iou-zcrx ]
    }
}
for each in csum gro xdp_helper; do build net/lib $each; done
for each in napi_id_helper so_txtime psp_responder; do build drivers/net $each; done
for each in iou-zcrx toeplitz ncdevmem; do build drivers/net/hw $each; done
for each in net/lib/*.bpf.c drivers/net/hw/*.bpf.c; do
    bpf-gcc -O2 -g -gbtf -idirafter /usr/include -idirafter "/usr/include/$(gcc -dumpmachine)" \
        -c "$each" -o "${each%.c}.o" || echo "selftest: $each cannot be built"
done
END
chroot "$1" bash /selftests/build >&2

# The suite's ethtool knows less than the tests ask for; that of sid runs here as well.
list=$1/etc/apt/sources.list
sed -sn "s/^\(deb .*\) $SUITE /\1 sid /p" "$list" | head -n 1 >"$list.d/sid.list"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
# A mirror that lags does no harm.
(cd "$work" && apt-get -qq -o Acquire::Check-Valid-Until=false update &&
    apt-get -qq download ethtool/sid) >&2
dpkg-deb -x "$work"/ethtool_*.deb "$1" # for this folder and for what follows

# Tools that the guest lacks, with the libraries that it may lack.
mkdir "$work/python" "$work/bin" "$work/lib"
for each in $TOOLS; do
    path=$(chroot "$1" sh -c "command -v $each")
    cp -L "$1$path" "$work/bin/"
    for library in $(chroot "$1" ldd "$path" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p'); do
        case ${library##*/} in
        libc.so.* | libm.so.* | libpthread.so.*) ;;
        *) cp -L "$1$library" "$work/lib/" ;;
        esac
    done
done
cp -r "$1"/usr/lib/python3/dist-packages/. "$work/python/"
tar -C "$work" -cf "$work/selftests.tar" tree python bin lib
tar -C "$work" -cf - selftests.tar >&"$PYZCRX_OUT"
