#!/usr/bin/env bash
# Runs a command on two ranks of Open MPI, each on a machine of its own: two network namespaces joined by a link.
#
#     scripts/two-machines.sh 1gbit node dist/src/cli/main.js train ...
#
# Needs root, iproute2 and Open MPI; leaves nothing behind. The rate is tc's word for the link's bandwidth in each direction.
set -euo pipefail
rate=$1
shift
one=riffle-$$-1 two=riffle-$$-2
folder=$(mktemp -d)
remove() {
  ip netns delete "$one" 2> /dev/null || true
  ip netns delete "$two" 2> /dev/null || true
  rm -rf "$folder"
}
trap remove EXIT

ip netns add "$one"
ip netns add "$two"
ip link add "v$$a" netns "$one" type veth peer name "v$$b" netns "$two"
join_link() { # namespace, device, address
  ip -n "$1" address add "$3/24" dev "$2"
  ip -n "$1" link set "$2" up
  ip -n "$1" link set lo up
  tc -n "$1" qdisc add dev "$2" root tbf rate "$rate" burst 256kb latency 50ms
}
join_link "$one" "v$$a" 10.77.13.1
join_link "$two" "v$$b" 10.77.13.2

# What Open MPI starts its daemon on the other machine with: HOST COMMAND...
cat > "$folder/agent" << AGENT
#!/bin/bash
shift
exec ip netns exec $two unshare --uts bash -c 'hostname machine-2; eval "\$*"' agent "\$@"
AGENT
chmod +x "$folder/agent"

net=10.77.13.0/24
ip netns exec "$one" unshare --uts bash -c 'hostname machine-1; exec "$@"' mpirun \
  mpirun.openmpi --allow-run-as-root -n 2 --host 10.77.13.1:1,10.77.13.2:1 --bind-to none \
  --mca plm_rsh_agent "$folder/agent" --mca btl_tcp_if_include "$net" --mca oob_tcp_if_include "$net" \
  --mca btl tcp,self "$@"
