#!/usr/bin/env bash
# Runs every benchmark of the workspace, one after the other so that they do not disturb each other,
# and prints what they wrote to target/bench/*.json. With an argument: only that package.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target/bench
found=
for manifest in crates/*/Cargo.toml; do
    grep -q '^\[\[bench\]\]' "$manifest" || continue
    package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -n1)
    [ $# -eq 0 ] || [ "$package" = "$1" ] || continue
    found=yes
    mapfile -t benches < <(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$manifest")
    for bench in "${benches[@]}"; do
        echo "bench: $package $bench" >&2
        HOLDFAST_BENCH_DIR=$PWD/target/bench cargo bench --quiet --workspace --bench "$bench"
    done
done
[ -n "$found" ] || { echo "bench: no package has a [[bench]]" >&2; exit 1; }

for file in target/bench/*.json; do
    [ -e "$file" ] || { echo "bench: nothing was written to target/bench" >&2; exit 1; }
    echo
    echo "== $file"
    sed -e 's/[{}",]//g' -e 's/^[[:space:]]*//' -e '/^$/d' "$file"
done
