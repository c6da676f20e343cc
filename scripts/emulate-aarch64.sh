#!/bin/bash
# Runs the engine's kernel tests as aarch64 (NEON) under qemu's user emulation: on a processor that multiplies bf16,
# then every 20th shape on one that does not. By hand, not in CI: about 45 s to build and 30 s to run.
#
#     scripts/emulate-aarch64.sh
#
# Debian: apt-get install g++-aarch64-linux-gnu qemu-user
set -euo pipefail
cd "$(dirname "$0")/.."

export CXX=aarch64-linux-gnu-g++
for tool in "$CXX" qemu-aarch64; do
  command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }
done
program=$(node scripts/native-test.mjs --arch arm64 --static --build-only)
qemu-aarch64 -cpu max "$program"
exec qemu-aarch64 -cpu cortex-a72 "$program" neon 20
