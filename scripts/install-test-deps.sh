#!/usr/bin/env bash
# What the tests need besides the build's own: the real redis-server, PostgreSQL, Prometheus and Chromium. The tests start their own, on free
# ports with directories of their own; a server that the package itself starts is neither used nor disturbed.
# Does nothing where they are present.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

missing=()
has_postgresql() {
    # Debian keeps these away from PATH.
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}
command -v redis-server >/dev/null || missing+=(redis-server)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
has_postgresql || missing+=(postgresql)
command -v prometheus >/dev/null || missing+=(prometheus)

if [ ${#missing[@]} -gt 0 ]; then
    install_packages "The tests need" "${missing[@]}"
fi
