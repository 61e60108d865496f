#!/usr/bin/env bash
# Runs on this machine what compose.yaml runs in containers: Redis, two replicas, HAProxy before them, a relay, and a
# site of nginx that reports to the relay.
#
#   deploy/replicas.sh DIRECTORY [PORT [acts]]
#
# DIRECTORY is made; everything is kept there, and DIRECTORY/*.pid has the process ids. HAProxy listens at PORT (default
# 8989), and Redis, the servers, the relay, nginx, and the servers for HTTP at the next seven. The relay takes syslog at
# its port, too. Without nginx there is no site. Ctrl-C or SIGTERM ends all of it. With ONLINE_BUS=URL they use a bus
# that runs already, of any kind that servers take (redis+sentinel://, kafka:// ...), and no Redis is started.
#
# With `acts` it kills a server, and then the bus, says what became of hits and questions, and ends: with 0 if both
# servers have the same users in the end, and all of them. DIRECTORY must then be new, as users of before would count.
set -euo pipefail

directory=${1:?usage: deploy/replicas.sh DIRECTORY [PORT [acts]]}
port=${2:-8989}
acts=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
if [ "$acts" = acts ] && [ -e "$directory/a" ]; then
    echo "$directory has what servers kept before; for acts, name a directory that is new" >&2
    exit 2
fi
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
online=${ONLINE:-online}
bus=${ONLINE_BUS:-redis://127.0.0.1:$((port + 1))/0}
export ONLINE_LISTEN=127.0.0.1:$port ONLINE_A=127.0.0.1:$((port + 2)) ONLINE_B=127.0.0.1:$((port + 3))
relay=127.0.0.1:$((port + 4)) site=127.0.0.1:$((port + 5))
a_http=127.0.0.1:$((port + 6)) b_http=127.0.0.1:$((port + 7))
PATH=$PATH:/usr/sbin # where Debian keeps servers

pids=()
start() { # NAME COMMAND ...
    local name=$1
    shift
    "$@" >>"$directory/$name.log" 2>&1 &
    pids+=($!)
    echo $! >"$directory/$name.pid"
}
finish() {
    trap - EXIT INT TERM
    kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap finish EXIT
trap 'exit 143' INT TERM

start_bus() {
    start redis redis-server --bind 127.0.0.1 --port $((port + 1)) --dir "$directory" --save "" \
        --appendonly yes --maxmemory-policy noeviction
}
start_server() { # NAME ADDRESS ADDRESS-FOR-HTTP
    start "$1" $online serve --listen "$2" --http "$3" --public count --bus "$bus" --state "$directory/$1"
}
start_site() {
    local settings="s/\${SITE_LISTEN}/$site/; s/\${RELAY_SYSLOG}/$relay/; s/\${A_HTTP}/$a_http/; s/\${B_HTTP}/$b_http/"
    sed "$settings" "$here/nginx.conf" >"$directory/site.conf"
    cat >"$directory/nginx.conf" <<END
daemon off; master_process off; pid $directory/nginx.run; error_log $directory/nginx.log;
events {}
http {
    client_body_temp_path $directory/body; proxy_temp_path $directory/proxy; fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi; scgi_temp_path $directory/scgi;
    include $directory/site.conf;
}
END
    start nginx nginx -c "$directory/nginx.conf" -p "$directory"
}

if [ -z "${ONLINE_BUS:-}" ]; then start_bus; fi
start_server a "$ONLINE_A" "$a_http"
start_server b "$ONLINE_B" "$b_http"
start relay $online relay --listen "$relay" --syslog "$relay" --bus "$bus" --http ''
start haproxy haproxy -db -f "$here/haproxy.cfg"
if command -v nginx >/dev/null; then start_site; else site="none, as nginx is not installed"; fi
echo "online at $ONLINE_LISTEN, replicas at $ONLINE_A and $ONLINE_B, relay at $relay, site at $site, bus ${bus##*@}"
if [ "$acts" != acts ]; then
    wait
    exit
fi

ask() { # ADDRESS VERB ...: the first line of the answer
    local address=$1 line
    shift
    { exec 3<>"/dev/tcp/${address/:/\/}"; } 2>/dev/null || return 1
    printf '%s\r\n' "$*" >&3
    IFS= read -r -t 1 line <&3 || line=
    exec 3>&-
    echo "${line%$'\r'}"
}
has() { # ADDRESS NUMBER: whether so many people are online there
    [ "$(ask "$1" COUNT)" = ":$2" ]
}
until_so() { # COMMAND ...
    local end=$((SECONDS + 60))
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            echo "failed: not within a minute: $*" >&2
            exit 1
        fi
        sleep 0.05
    done
}
come() { # ADDRESS FIRST LAST: these users come
    local n
    for n in $(seq "$2" "$3"); do
        [ "$(ask "$1" HIT "user-$n" "/page-$((n % 7))")" = "+OK" ] || return 1
    done
}
slay() { # NAME
    kill -9 "$(cat "$directory/$1.pid")"
    wait "$(cat "$directory/$1.pid")" 2>/dev/null || true
}
digest() { # NAME: a number that is the same for the same users, on the same pages, at the same times
    $online state check --digest "$directory/$1" | sed -n 's/^digest *//p'
}
same() {
    local of_a of_b
    of_a=$(digest a) of_b=$(digest b)
    [ -n "$of_a" ] && [ "$of_a" = "$of_b" ]
}

for each in "$ONLINE_LISTEN" "$ONLINE_A" "$ONLINE_B"; do until_so has "$each" 0; done
until_so come "$relay" 1 100
until_so has "$ONLINE_A" 100
until_so has "$ONLINE_B" 100
echo "100 users came to the relay, and both servers know them."

slay a
began=$(date +%s%N)
until_so has "$ONLINE_LISTEN" 100
echo "Server a was killed. HAProxy had an answer, of all 100, after $((($(date +%s%N) - began) / 1000000)) ms."
until_so come "$ONLINE_LISTEN" 101 150
until_so come "$relay" 151 200
until_so has "$ONLINE_LISTEN" 200
echo "100 more came meanwhile, half of them to the relay: b knows 200."
start_server a "$ONLINE_A" "$a_http"
until_so has "$ONLINE_A" 200
echo "Server a was started again, and knows 200."

people=200
if [ -z "${ONLINE_BUS:-}" ]; then
    slay redis
    until_so come "$ONLINE_A" 201 220
    until_so come "$ONLINE_B" 221 240
    until_so come "$relay" 241 260
    echo "The bus was killed. Both servers and the relay took 20 users each; a knows $(ask "$ONLINE_A" COUNT | tr -d :)."
    start_bus
    people=260
    until_so has "$ONLINE_A" $people
    until_so has "$ONLINE_B" $people
    echo "The bus was started again, and both servers know $people."
fi
until_so same
echo "Both servers have the same $people users: digest $(digest a)."
