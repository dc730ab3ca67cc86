#!/bin/sh
# Send every input of a directory, each with a journal of its own. Run it as often as you like:
#   sync_inbox.sh INBOX STATE
set -u
inbox=$1
state=$2
mkdir -p "$inbox/done"
worst=0
for input in "$inbox"/*.csv; do
    [ -e "$input" ] || continue
    name=$(basename "$input" .csv)
    altcraft-async sync "$input" --journal "$state/$name.journal" --failed "$state/$name.failed.csv" --deadline 15m
    code=$?
    [ "$code" -gt "$worst" ] && worst=$code
    case $code in
        0) mv "$input" "$inbox/done/" ;; # every change is made
        4 | 130 | 143) break ;;          # the token was refused, or somebody wants an end: so for all inputs
    esac
done
exit "$worst"
