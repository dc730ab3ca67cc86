#!/bin/sh
# Send every input of a directory, each with a journal of its own. Run it as often as you like:
#   sync_inbox.sh INBOX STATE
# It says nothing while all goes well. A signal is handed on, and waited for: so it may be a container's first process.
set -u
inbox=$1
state=$2
mkdir -p "$inbox/done"
worst=0
child=
stopped=
trap 'stopped=143; [ -n "$child" ] && kill -TERM "$child"' TERM INT HUP
for input in "$inbox"/*.[cC][sS][vV] "$inbox"/*.[jJ][sS][oO][nN][lL]; do
    [ -e "$input" ] || continue
    [ -z "$stopped" ] || break
    name=$(basename "$input")
    altcraft-async sync "$input" --quiet --journal "$state/$name.journal" --failed "$state/failed-$name" \
        --deadline 15m </dev/null &
    child=$!
    wait "$child"
    code=$?
    while [ -n "$stopped" ] && kill -0 "$child" 2>/dev/null; do # the signal ended the wait, not the child
        wait "$child"
        code=$?
    done
    child=
    [ "$code" -gt "$worst" ] && worst=$code
    case $code in
        0) mv "$input" "$inbox/done/" ;; # every change is made
        4 | 129 | 130 | 143) break ;;    # the token was refused, or somebody wants an end: so for all inputs
    esac
done
[ -n "$stopped" ] && [ "$worst" -lt "$stopped" ] && worst=$stopped
exit "$worst"
