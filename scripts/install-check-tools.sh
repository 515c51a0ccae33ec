#!/usr/bin/env bash
# What `make check` needs besides the build's own. Versions are pinned, so that a check means the same tomorrow; one that
# is present is taken as it is.
set -euo pipefail

for component in fmt:rustfmt clippy:clippy; do
    if ! cargo "${component%%:*}" --version >/dev/null 2>&1; then
        rustup component add "${component##*:}"
    fi
done
cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny@0.20.2
cargo machete --version >/dev/null 2>&1 || cargo install --locked cargo-machete@0.9.2
