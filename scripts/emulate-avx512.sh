#!/bin/bash
# Runs the engine's kernel tests with AVX-512 on a machine that has none: Bochs emulates a Skylake-X that boots
# Debian's kernel with the test program in its initial file system; every 7th shape of the long lists is tested. By
# hand, not in CI: about two minutes to build, boot and run (ten with every shape).
#
#     scripts/emulate-avx512.sh [minutes]      gives up after so many, 60 unless told
#
# Debian: apt-get install bochs bochsbios vgabios grub-pc-bin grub-common xorriso mtools cpio; the
# kernel (26 MB, once) comes through apt-get download. qemu is no help: 7.2 emulates AVX2 at most.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in bochs grub-mkrescue xorriso mformat cpio; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: see the packages in $0" >&2; exit 1; }
done
program=$(node scripts/native-test.mjs --static --build-only)
folder=$PWD/build/emulate-avx512
mkdir -p "$folder"/{root,image/boot/grub}
cd "$folder"

if ! ls kernel/boot/vmlinuz-* > /dev/null 2>&1; then
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
  apt-get download -qq -o APT::Sandbox::User=root "$package"
  mkdir -p kernel
  dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -C kernel --wildcards './boot/vmlinuz-*'
  rm "$package"_*.deb
fi

# The first process: runs the tests, says how they ended and switches the machine off.
cat > init.cc << 'END'
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>

int main() {
  int status = 0;
  if (fork() == 0) {
    execl("/kernel-tests", "kernel-tests", "avx512", "7", nullptr);
    _exit(127);
  }
  wait(&status);
  std::printf("kernel-tests ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  std::fflush(stdout);
  tcdrain(1);
  reboot(RB_POWER_OFF);
}
END
g++ -O1 -static init.cc -o root/init
cp "$program" root/kernel-tests
(cd root && find . | cpio --quiet -o -H newc | gzip -1 > ../image/boot/initrd.gz)
cp kernel/boot/vmlinuz-* image/boot/vmlinuz
# Bochs 2.7 reports the size of the compacted XSAVE area wrongly, whereupon Linux would switch AVX off: hide XSAVEC and
# XSAVES (CPUID bits 10*32+1 and 10*32+3).
cat > image/boot/grub/grub.cfg << 'END'
set timeout=0
linux /boot/vmlinuz console=ttyS0 clearcpuid=321,323 nokaslr mitigations=off tsc=reliable loglevel=2 panic=-1
initrd /boot/initrd.gz
boot
END
grub-mkrescue -o disc.iso image 2> /dev/null
cat > bochsrc << 'END'
config_interface: textconfig
display_library: rfb, options="timeout=0"
megs: 1024
cpu: model=corei7_skylake_x, ips=100000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios-stdvga.bin
ata0-master: type=cdrom, path=disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.log
log: bochs.log
panic: action=fatal
END
echo c > continue   # Debian's Bochs starts in its debugger
: > serial.log
echo "booting; the tests follow after about a minute"
# Its screen is offered over the network and watched by nobody; it ends with an error when the machine switches
# itself off.
timeout "${1:-60}m" bochs -q -f bochsrc -rc continue > screen.log 2>&1 < /dev/null || true
tr -d '\r' < serial.log | grep -aE '^(ok|FAIL|skip|     |kernel-tests|[0-9]+ passed)' || true
grep -qa '^kernel-tests ended with 0' serial.log || { echo "the tests did not pass; see $folder/serial.log" >&2; exit 1; }
