#!/usr/bin/env bash
# Runs on this machine what compose.yaml runs in containers: Redis, two replicas, HAProxy before them, and a relay.
#
#   deploy/replicas.sh DIRECTORY [PORT]
#
# DIRECTORY is made; everything is kept there, and DIRECTORY/*.pid has the process ids. HAProxy listens at PORT (default
# 8989), Redis, the servers and the relay at the next four. Ctrl-C or SIGTERM ends all of it. With ONLINE_BUS=URL they
# use a bus that runs already, of any kind that servers take (redis+sentinel://, kafka:// ...), and no Redis is started.
set -euo pipefail

directory=${1:?usage: deploy/replicas.sh DIRECTORY [PORT]}
port=${2:-8989}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$directory"
online=${ONLINE:-online}
bus=${ONLINE_BUS:-redis://127.0.0.1:$((port + 1))/0}
export ONLINE_LISTEN=127.0.0.1:$port ONLINE_A=127.0.0.1:$((port + 2)) ONLINE_B=127.0.0.1:$((port + 3))
relay=127.0.0.1:$((port + 4))

pids=()
start() { # NAME COMMAND ...
    local name=$1
    shift
    "$@" >"$directory/$name.log" 2>&1 &
    pids+=($!)
    echo $! >"$directory/$name.pid"
}
finish() {
    trap - EXIT INT TERM
    kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap finish EXIT INT TERM

if [ -z "${ONLINE_BUS:-}" ]; then
    start redis redis-server --bind 127.0.0.1 --port $((port + 1)) --dir "$directory" --save "" \
        --appendonly yes --maxmemory-policy noeviction
fi
start a $online serve --listen "$ONLINE_A" --bus "$bus" --state "$directory/a"
start b $online serve --listen "$ONLINE_B" --bus "$bus" --state "$directory/b"
start relay $online relay --listen "$relay" --bus "$bus" --http ''
start haproxy haproxy -db -f "$here/haproxy.cfg"
echo "online at $ONLINE_LISTEN, replicas at $ONLINE_A and $ONLINE_B, relay at $relay, bus ${bus##*@}"
wait
