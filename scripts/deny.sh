#!/usr/bin/env bash
# Licences, duplicate and banned crates, and where crates come from. Advisories are left out: their
# database is fetched from the network at every run, and a check that depends on the day is not one
# that a commit can be judged by.
set -euo pipefail

if ! command -v cargo-deny >/dev/null; then
    echo "deny: cargo-deny is missing; building it takes some minutes, once" >&2
    cargo install cargo-deny --locked --debug --target-dir target/tools
fi
exec cargo deny --log-level error check bans licenses sources
