#!/usr/bin/env bash
# What `make check` needs besides the build's own. Versions are pinned, so that a check means the same tomorrow; one that
# is present is taken as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

for component in fmt:rustfmt clippy:clippy; do
    if ! cargo "${component%%:*}" --version >/dev/null 2>&1; then
        rustup component add "${component##*:}"
    fi
done
cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2
cargo machete --version >/dev/null 2>&1 || cargo install --locked cargo-machete@0.9.2

# What scripts/check-deploy.sh reads compose files, rules and YAML with. Services that these packages start are not used.
missing=()
command -v docker-compose >/dev/null || missing+=(docker-compose)
command -v promtool >/dev/null || missing+=(prometheus)
command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
command -v yamllint >/dev/null || missing+=(yamllint)
/usr/bin/python3 -c 'import yaml' 2>/dev/null || missing+=(python3-yaml)
if [ ${#missing[@]} -gt 0 ]; then
    install_packages "The checks need" "${missing[@]}"
fi
