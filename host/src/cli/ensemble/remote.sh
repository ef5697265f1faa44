# Starts, stops or finds a server. Runs on the server's host, by `sh`, after `config`, `binary`,
# `action` and `seconds` are set. Every line for whoever asked begins with `zabra-ensemble `: a
# login may print other things.

say() {
    printf 'zabra-ensemble %s\n' "$*"
}

fail() {
    say "failed $*"
    exit 0
}

# The last line of a key counts, as for the server.
setting() {
    sed -n "s/^[[:space:]]*$1[[:space:]]*[=:][[:space:]]*//p" "$config" | sed 's/[[:space:]]*$//' |
        sed -n '$p'
}

# Whether a process is this server: its id may have gone to another since it was written.
runs() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
    kill -0 "$1" 2>/dev/null || return 1
    if [ -r "/proc/$1/cmdline" ]; then
        line=$(tr '\000' ' ' <"/proc/$1/cmdline")
    else
        line=$(ps -o args= -p "$1" 2>/dev/null)
    fi
    # What has ended and was not waited for has no arguments.
    case $line in *" server --config $config" | *" server --config $config ") return 0 ;; esac
    return 1
}

start() {
    if runs "$pid"; then
        say "already $pid"
        return
    fi
    command -v "$binary" >/dev/null 2>&1 ||
        fail "there is no program $binary there; name it by --binary, with its path"
    mkdir -p "$data" || fail "its dataDir $data cannot be created"
    : >>"$log" || fail "its log $log cannot be written"
    before=$(($(wc -c <"$log")))
    nohup "$binary" server --config "$config" </dev/null >>"$log" 2>&1 &
    pid=$!
    if ! echo "$pid" >"$pid_file"; then
        kill "$pid"
        fail "$pid_file cannot be written"
    fi
    # A wrong configuration, a port in use or a locked directory shows at once.
    sleep 1
    if runs "$pid"; then
        say "started $pid"
        return
    fi
    wait "$pid"
    code=$?
    rm -f "$pid_file"
    say "log $log"
    tail -c "+$((before + 1))" "$log" | tail -n 8 | sed 's/^/zabra-ensemble line /'
    fail "it ended with exit code $code as soon as it was started"
}

stop() {
    if ! runs "$pid"; then
        rm -f "$pid_file"
        say "idle $pid_file"
        return
    fi
    kill -TERM "$pid" || fail "process $pid cannot be told to end"
    waited=0
    while runs "$pid"; do
        [ "$waited" -lt "$seconds" ] ||
            fail "process $pid has not ended within $seconds s; kill -9 $pid there ends it by force"
        sleep 1
        waited=$((waited + 1))
    done
    rm -f "$pid_file"
    say "stopped $pid"
}

look() {
    if runs "$pid"; then
        say "running $pid"
    else
        say "idle $pid_file"
    fi
    # No others: there may be passwords among them.
    keys='clientPort|clientPortAddress|server[.][0-9]+'
    dynamic=$(setting dynamicConfigFile)
    for file in "$config" ${dynamic:+"$dynamic"}; do
        grep -E "^[[:space:]]*($keys)[[:space:]]*[=:]" "$file" 2>/dev/null |
            sed 's/^/zabra-ensemble setting /'
    done
    [ -r "$data/myid" ] && say "myid $(cat "$data/myid")"
}

main() {
    # Not to be taken for options.
    case $config in -*) config=./$config ;; esac
    [ -r "$config" ] || fail "expected a configuration at $config, which cannot be read"
    data=$(setting dataDir)
    [ -n "$data" ] || fail "expected a line dataDir=… in $config, found none"
    case $data in -*) data=./$data ;; esac
    pid_file=$data/zabra.pid
    log=$data/zabra.log
    pid=$(cat "$pid_file" 2>/dev/null)
    "$action"
}

# The whole script is read before anything of it runs.
main
exit 0
