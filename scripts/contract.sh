#!/usr/bin/env bash
# Holds a server against its own contract: schemathesis calls every operation of docs/openapi.json with what the
# contract allows and with what it forbids. It fails on a 5xx and on an answer that the contract does not name.
# SEED=n runs the cases of an earlier run again; the log of the run lies in target/contract/run.log.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
tool=target/tools/schemathesis
[ "$($tool/bin/schemathesis --version 2>/dev/null | grep -o '[0-9.]*$' || true)" = "$version" ] || {
    echo "contract: fetching schemathesis $version" >&2
    rm -rf "$tool"
    python3 -m venv "$tool"
    "$tool/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
}

dir=$(mktemp -d)
server=
ends() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; }
    rm -rf "$dir"
}
trap ends EXIT
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

holdfast=$PWD/target/debug/holdfast
api=127.0.0.1:$(free)
own=(--data-dir "$dir/data" --name one --peer "127.0.0.1:$(free)" --api "http://$api")
token=$("$holdfast" cluster init "${own[@]}" 2>/dev/null | grep -o 'hf_[A-Za-z0-9_]*' | head -n1)
[ -n "$token" ] || { echo "contract: no token was printed" >&2; exit 1; }
mkdir -p target/contract
"$holdfast" server --listen "$api" --data-dir "$dir/data" >target/contract/server.log 2>&1 &
server=$!
for _ in $(seq 100); do
    curl --silent --fail "http://$api/health/ready" >/dev/null && break
    sleep 0.1
done

# A read that waits for an event far ahead is answered after ten seconds, hence the workers and the patience.
options=(--url "http://$api" --header "Authorization: Bearer $token" --workers 8 --request-timeout 30)
options+=(--checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance)
options+=(--phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-20}" --continue-on-failure)
[ -z "${SEED:-}" ] || options+=(--seed "$SEED")
SCHEMATHESIS_HOOKS=scripts/contract_hooks.py \
    "$tool/bin/schemathesis" run docs/openapi.json "${options[@]}" >target/contract/run.log 2>&1 || {
    tail -n 80 target/contract/run.log >&2
    exit 1
}
kill -0 "$server" || { tail -n 40 target/contract/server.log >&2; exit 1; }
sed -n '/SUMMARY/,$p' target/contract/run.log >&2
