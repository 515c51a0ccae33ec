#!/usr/bin/env bash
# What the build needs besides Rust: a C compiler with its headers (cryptography, SQLite), make and cmake (Pingora's
# zlib-ng). Does nothing where they are present.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

if ! command -v cargo >/dev/null; then
    echo "The build needs Rust (stable): see https://rustup.rs, then open a new shell or run: . \"\$HOME/.cargo/env\"" >&2
    exit 1
fi

missing=()
c_compiler_works() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}
c_compiler_works || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
command -v cmake >/dev/null || missing+=(cmake)

if [ ${#missing[@]} -gt 0 ]; then
    install_packages "The build needs" "${missing[@]}"
fi
