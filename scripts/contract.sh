#!/usr/bin/env bash
# Holds a server against its own contract: schemathesis calls every operation of docs/openapi.json with what the
# contract allows and with what it forbids. It fails on a 5xx and on an answer that the contract does not name.
# SEED=n runs the cases of an earlier run again; logs of the runs lie in target/contract.
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

# A read that waits for an event far ahead is answered after ten seconds: hence the patience, and four runs side by side,
# each with one thread (CPython 3.11 cannot parse in several at once: python/cpython#106905).
options=(--url "http://$api" --header "Authorization: Bearer $token" --workers 1 --request-timeout 30)
options+=(--checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance)
options+=(--phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-20}" --continue-on-failure)
[ -z "${SEED:-}" ] || options+=(--seed "$SEED")
share() {
    SCHEMATHESIS_HOOKS=scripts/contract_hooks.py HYPOTHESIS_STORAGE_DIRECTORY="$dir/$1" \
        "$tool/bin/schemathesis" run docs/openapi.json "${options[@]}" "${@:2}" >"target/contract/$1.log" 2>&1
}
runs=()
reads=(--exclude-method POST --exclude-method DELETE --exclude-method PUT)
share reads-of-apps "${reads[@]}" --exclude-path-regex '^/(?!v1/orgs)' & runs+=($!)
share reads "${reads[@]}" --exclude-path-regex '^/v1/orgs' & runs+=($!)
share writes-of-apps --exclude-method GET --exclude-path-regex '^/(?!v1/(orgs|node))' & runs+=($!)
share writes --exclude-method GET --exclude-path-regex '^/v1/(orgs|node)' & runs+=($!)
failed=
for run in "${runs[@]}"; do wait "$run" || failed=1; done
for name in reads-of-apps reads writes-of-apps writes; do
    echo "contract: $name" >&2
    sed -n '/= FAILURES =/,/= SUMMARY =/p;/= ERRORS =/,/= SUMMARY =/p;/SUMMARY/,$p' "target/contract/$name.log" >&2
done
[ -z "$failed" ] || { echo "contract: what the server answers is not what docs/openapi.json says" >&2; exit 1; }
kill -0 "$server" || { tail -n 40 target/contract/server.log >&2; exit 1; }
