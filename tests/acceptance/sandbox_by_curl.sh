#!/bin/sh
# Seeds, breaks and checks a sandbox from a shell, through its admin API alone. Usage: sandbox_by_curl.sh BASE_URL TOKEN
set -eu
base=$1 token=$2
admin=$base/_sandbox
json='Content-Type: application/json'

call() { # METHOD PATH [BODY]: calls the admin API; fails where it refuses
    if [ $# -gt 2 ]; then
        curl -sS --fail-with-body -X "$1" "$admin$2" -H "$json" -d "$3"
    else
        curl -sS --fail-with-body -X "$1" "$admin$2"
    fi
}
update() { # LINE STATUS ID: sends one update; the answer's body, or nothing where the connection broke
    curl -sS --max-time 10 "$base/api/v1.1/market/orders/update_order_line_status" -H "$json" -H "Request-ID: $3" \
        -d "{\"token\": \"$token\", \"order_external_id\": \"order_1\", \"order_line_external_id\": \"$1\", \"status_external_id\": \"$2\"}" \
        2>/dev/null || true
}
expect() { # WHAT PATTERN TEXT
    case $3 in
    *"$2"*) echo "ok: $1" ;;
    *) echo "FAILED: $1: no $2 in: $3" >&2; exit 1 ;;
    esac
}

expect "it is up" '"status":"ok"' "$(call GET /health)"
call POST /reset >/dev/null
expect "it is seeded" '"lines":4' "$(call POST /seed '{"orders": 2, "lines_per_order": 2}')"
call GET /snapshot >snapshot.json

call PUT /faults '{"script": ["reset_after"]}' >/dev/null
expect "the first answer is lost" '<nothing>' "<$(update line_1_1 delivered one | grep . || echo nothing)>"
expect "the repeat is answered" '"error":0' "$(update line_1_1 delivered one)"
expect "the loss can be seen" '"fault":"reset_after"' "$(call GET '/requests?search=reset_after')"

call PUT /faults '{"preset": "down"}' >/dev/null
expect "it is down" '502 Bad Gateway' "$(update line_1_2 delivered two)"
call PUT /faults '{"preset": "none"}' >/dev/null
expect "it is up again" '"error":0' "$(update line_1_2 delivered two)"

expect "a wrong status is refused" '"error":400' "$(update line_1_2 shipped three)"
expect "the reason is there" "'shipped' is neither a system status" "$(call GET /refusals)"

expected='{"expected": [["order_1", "line_1_1", "delivered"], ["order_1", "line_1_2", "delivered"]]}'
expect "all arrived, once" '"ok":true' "$(call POST /ledger/check "$expected")"
expect "a loss would be found" '"lost":1' "$(call POST /ledger/check '{"expected": [["order_2", "line_2_1", "new"]]}')"
expect "the ledger is content" '"ok":true' "$(call GET /ledger)"

call POST /restore @snapshot.json >/dev/null
expect "the snapshot is back" '"status":"new"' "$(call GET /orders/order_1/lines/line_1_1)"
case $(call GET /requests; call GET /snapshot) in
*"$token"*) echo "FAILED: the token is shown" >&2; exit 1 ;;
esac
echo "all is well"
