#!/usr/bin/env bash
# Fuzzes what comes from outside: each target for so many seconds (the first argument, or 60), or only those named
# after it. What is found lies in target/fuzz/artifacts; run one again by naming its file:
#     target/fuzz/x86_64-unknown-linux-gnu/release/TARGET target/fuzz/artifacts/TARGET/FILE
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(client_hello event log_reader manifest http_bodies)

version=0.13.2
tool=target/tools/bin/cargo-fuzz
[ "$($tool --version 2>/dev/null || true)" = "cargo-fuzz $version" ] ||
    cargo install cargo-fuzz --locked --quiet --version "$version" --root target/tools

# No sanitizer: the code is safe Rust, and without one the stable toolchain is enough.
built=(--sanitizer none --target-dir target/fuzz)
PATH="$PWD/target/tools/bin:$PATH" cargo fuzz build "${built[@]}"

host=$(rustc -vV | sed -n 's/^host: //p')
for target in "${targets[@]}"; do
    mkdir -p "target/fuzz/corpus/$target" "target/fuzz/artifacts/$target"
    options=(-max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=1)
    options+=(-artifact_prefix="target/fuzz/artifacts/$target/")
    [ ! -e "fuzz/seeds/$target.dict" ] || options+=(-dict="fuzz/seeds/$target.dict")
    echo "fuzz: $target, $seconds s" >&2
    "target/fuzz/$host/release/$target" "${options[@]}" "target/fuzz/corpus/$target" "fuzz/seeds/$target" \
        2>"target/fuzz/$target.log" || {
        tail -n 60 "target/fuzz/$target.log" >&2
        exit 1
    }
    grep -E 'number_of_executed_units|average_exec_per_sec' "target/fuzz/$target.log" >&2
done
