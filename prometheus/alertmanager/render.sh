#!/bin/sh
# Writes Alertmanager's whole configuration to standard output: routes.yml, and the two receivers from the environment,
# since Alertmanager itself reads no variables. An address that is not set gives a receiver that tells nobody.
set -eu

receiver() {
    printf '  - name: %s\n' "$1"
    case $2 in
        "") ;;
        http://* | https://*)
            # In single quotes YAML knows no escape but '' for a quote.
            printf "    webhook_configs:\n      - url: '%s'\n        send_resolved: true\n" "$(printf %s "$2" | sed "s/'/''/g")"
            ;;
        *)
            echo "The address of the receiver $1 must begin with http:// or https://." >&2
            exit 64
            ;;
    esac
}

cat "$(dirname "$0")/routes.yml"
echo "receivers:"
receiver page "${ALERT_PAGE_WEBHOOK:-}"
receiver ticket "${ALERT_TICKET_WEBHOOK:-}"
