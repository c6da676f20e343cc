#!/usr/bin/env bash
# Trains a few steps on eight processes, for their speed.
#   bash test/train_performance_8p.sh --data_path=DIR [--NAME=VALUE ...]      -h explains; output goes to ./output/<device id>/
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$root/dist/src/cli/main.js
if [[ ! -f $program ]]; then
  echo "riffle is not built: run 'npm ci && npm run build' in $root" >&2
  exit 6
fi
# Which ranks there are; every machine of a cluster finds its own there.
export RANK_TABLE_FILE=${RANK_TABLE_FILE:-$root/test/8p.json}
exec node "$program" launch train_performance_8p "$@"
