#!/usr/bin/env bash
# Writes .env for docker-compose.yml from .env.example, with secrets of its own. LIBRECHAT_ENV names LibreChat's .env, whose
# two JWT secrets are taken; without it they are made, for a LibreChat that comes along. Never touches a .env that is there, and
# fails where that has another secret than LibreChat.
# make-env.sh [FILE] writes elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
file=${1:-.env}
librechat=${LIBRECHAT_ENV:-}

if [ -n "$librechat" ] && [ ! -r "$librechat" ]; then
    echo "LIBRECHAT_ENV: $librechat cannot be read." >&2
    exit 1
fi

random_hex() {
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

value_in() {
    sed -n "s/^$2=//p" "$1" | tail -n 1 | tr -d "\"'\r"
}

of_librechat() {
    [ -n "$librechat" ] && value_in "$librechat" "$1"
}

if [ -e "$file" ]; then
    echo "$file is there already; it was left as it is."
    theirs=$(of_librechat JWT_SECRET || true)
    if [ -n "$theirs" ] && [ "$theirs" != "$(value_in "$file" JWT_SECRET)" ]; then
        echo "JWT_SECRET in it is not LibreChat's: copy JWT_SECRET and JWT_REFRESH_SECRET from $librechat into it." >&2
        exit 1
    fi
    exit 0
fi

secret() {
    local value=""
    case $1 in
        JWT_SECRET | JWT_REFRESH_SECRET) value=$(of_librechat "$1" || true) ;;
    esac
    # In single quotes Compose takes it as it is, dollars too.
    if [ -n "$value" ]; then
        printf "'%s'" "$value"
    elif [ "$1" = CREDS_IV ]; then
        random_hex 16
    else
        random_hex 32
    fi
}

umask 077
trap 'rm -f "$file.unfinished"' EXIT
while IFS= read -r line; do
    case $line in
        [A-Z]*=generated) printf '%s=%s\n' "${line%%=*}" "$(secret "${line%%=*}")" ;;
        *) printf '%s\n' "$line" ;;
    esac
done < .env.example > "$file.unfinished"
mv "$file.unfinished" "$file"

if [ -n "$librechat" ] && [ -z "$(of_librechat JWT_SECRET || true)" ]; then
    echo "$librechat has no JWT_SECRET; one was made, and LibreChat must be given it." >&2
fi
echo "$file is written. Look through it, above all LIBRECHAT_URL, TOLLGATE_ORGS and TOLLGATE_LIMITS; then: docker compose up -d"
