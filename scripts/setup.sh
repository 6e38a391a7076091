#!/usr/bin/env bash
# Installs the Debian packages that the demo and the tests drive, if any is missing, and checks the
# Rust toolchain. Says what it does; asks nothing.
set -euo pipefail

packages=(runc conmon docker-registry skopeo umoci busybox-static wrk nftables iproute2 prometheus \
    chromium chromium-driver python3-venv curl openssl)
# Of these only the programs are wanted: docker-registry is started by tests on free ports, and of
# prometheus promtool alone is used.
services=(docker-registry prometheus)

if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is not Debian or Ubuntu; install these yourself: ${packages[*]}" >&2
    exit 1
fi

# Fetches what the browser tests judge pages with and log in at; any npm will do.
command -v npm >/dev/null || packages+=(npm)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "setup: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2
            exit 1
        }
        root=(sudo)
    fi
    echo "setup: installing ${missing[*]}" >&2
    "${root[@]}" apt-get update -q >&2
    # Services that come with it now stay off, from the first moment; those that were there before are left
    # as they are.
    fresh=()
    for service in "${services[@]}"; do
        [[ " ${missing[*]} " = *" $service "* ]] && fresh+=("$service")
    done
    [ ${#fresh[@]} -eq 0 ] || "${root[@]}" systemctl mask --runtime "${fresh[@]}" >/dev/null 2>&1 || true
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        "${missing[@]}" >&2
    for service in "${fresh[@]}"; do
        "${root[@]}" systemctl disable "$service" >/dev/null 2>&1 || true
        "${root[@]}" systemctl unmask --runtime "$service" >/dev/null 2>&1 || true
    done
fi

if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    echo "setup: containers and network namespaces need root; run make as root or install sudo" >&2
    exit 1
fi

command -v cargo >/dev/null || {
    echo "setup: no Rust toolchain; install one from https://rustup.rs" >&2
    exit 1
}
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
    echo "setup: Rust $wanted or newer is needed, this is $found; run: rustup update stable" >&2
    exit 1
fi

# What the browser tests judge pages with. Not in the repository: 550 kB that others keep.
axe_version=4.14.1
axe_sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
axe=target/tools/axe.min.js
holds() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$axe_sum" ]; }
if ! holds "$axe"; then
    echo "setup: fetching axe-core $axe_version" >&2
    mkdir -p target/tools
    unpacked=$(mktemp -d)
    trap 'rm -rf "$unpacked"' EXIT
    npm pack --silent --pack-destination "$unpacked" "axe-core@$axe_version" >/dev/null
    tar -xzf "$unpacked/axe-core-$axe_version.tgz" -C "$unpacked" package/axe.min.js
    holds "$unpacked/package/axe.min.js" || {
        echo "setup: axe-core $axe_version is not what it was; nothing of it is used" >&2
        exit 1
    }
    mv "$unpacked/package/axe.min.js" "$axe"
fi

# The OpenID provider that logins are tested against: each file by the hash in its lock file, no script run.
provider=target/tools/provider
wanted=crates/holdfast/tests/provider
if ! cmp -s "$wanted/package-lock.json" "$provider/installed.json"; then
    echo "setup: fetching an OpenID provider for the tests" >&2
    rm -rf "$provider"
    mkdir -p "$provider"
    cp "$wanted/package.json" "$wanted/package-lock.json" "$provider/"
    (cd "$provider" && npm ci --silent --ignore-scripts --no-audit --no-fund >/dev/null)
    mv "$provider/package-lock.json" "$provider/installed.json"
fi
