#!/usr/bin/env bash
# Everything about deploying that can be said without an engine: the compose files as docker-compose reads them with the .env
# that `make env` writes, Prometheus' configuration, rules and their tests, Alertmanager's configuration and routes, the unit,
# YAML of all kinds, dashboards, and what check-deploy.py asks of them beyond that.
set -euo pipefail
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

yamllint --strict --config-file .yamllint docker-compose.yml deploy prometheus grafana

grafana/source/build.py --check

LIBRECHAT_ENV="" scripts/make-env.sh "$place/.env" >/dev/null
compose() {
    # Neither the shell's variables nor a .env of this folder get in.
    env -i PATH="$PATH" HOME="$place" docker-compose --env-file "$place/.env" -p tollgate "$@" 2>"$place/said" || {
        cat "$place/said" >&2
        return 1
    }
    if grep -i warning "$place/said" >&2; then return 1; fi
}
compose -f docker-compose.yml --profile librechat config >"$place/resolved.yml"
compose -f docker-compose.yml -f deploy/compose/librechat-network.yml config >/dev/null
scripts/check-deploy.py "$place/resolved.yml"

promtool check config prometheus/prometheus.yml >"$place/said" || { cat "$place/said" >&2; exit 1; }
promtool check rules prometheus/rules/*.yml >"$place/said" || { cat "$place/said" >&2; exit 1; }
# Each case starts a database of its own; the files beside each other.
test_rules() {
    promtool test rules "$1" >"$2/${1##*/}.said" 2>&1 || { cat "$2/${1##*/}.said" >&2; return 1; }
}
export -f test_rules
printf '%s\0' prometheus/tests/*.yml | xargs -0 -P "$(nproc)" -I{} bash -c 'test_rules "$1" "$2"' - {} "$place"

for address in "" "https://alerts.example/in?key=it's&more"; do
    ALERT_PAGE_WEBHOOK=$address ALERT_TICKET_WEBHOOK="" prometheus/alertmanager/render.sh >"$place/alertmanager.yml"
    amtool check-config "$place/alertmanager.yml" >"$place/said" || { cat "$place/said" >&2; exit 1; }
done
for severity in critical:page warning:ticket info:ticket; do
    amtool config routes test --config.file "$place/alertmanager.yml" --verify.receivers "${severity#*:}" "severity=${severity%:*}" \
        >"$place/said" 2>&1 || { cat "$place/said" >&2; exit 1; }
done

# A real Alertmanager holds back what follows from something else, and nothing that does not.
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
alertmanager=$(command -v prometheus-alertmanager || command -v alertmanager)
"$alertmanager" --config.file="$place/alertmanager.yml" --storage.path="$place/alerts" --web.listen-address="127.0.0.1:$port" \
    --cluster.listen-address= >"$place/alertmanager.log" 2>&1 &
running=$!
trap 'kill "$running" 2>/dev/null || true; rm -rf "$place"' EXIT
am() { amtool --alertmanager.url="http://127.0.0.1:$port" "$@"; }
# Until it answers, and then until it has judged all five.
for _ in $(seq 100); do am alert query >/dev/null 2>&1 && break; sleep 0.1; done
am alert add alertname=TollgateUpstreamDown severity=critical about=upstream job=tollgate instance=a
am alert add alertname=TollgateErrorBudgetBurn14x severity=critical about=availability job=tollgate
am alert add alertname=TollgateJournalFull severity=critical about=journal job=tollgate instance=a
am alert add alertname=TollgateJournalGrowing severity=warning about=journal job=tollgate instance=a
am alert add alertname=TollgateJournalGrowing severity=warning about=journal job=tollgate instance=b
names() { am alert query "$1" --output=extended | sed -n 's/.*alertname="\([^"]*\)".*instance="\([^"]*\)".*/\1@\2/p; t; s/.*alertname="\([^"]*\)".*/\1/p' | sort | xargs; }
told="TollgateJournalFull@a TollgateJournalGrowing@b TollgateUpstreamDown@a"
held="TollgateErrorBudgetBurn14x TollgateJournalGrowing@a"
for _ in $(seq 100); do
    if [ "$(names --active)" = "$told" ] && [ "$(names --inhibited)" = "$held" ]; then break; fi
    sleep 0.1
done
if [ "$(names --active)" != "$told" ] || [ "$(names --inhibited)" != "$held" ]; then
    echo "Alertmanager tells of $(names --active), and holds back $(names --inhibited)." >&2
    exit 1
fi

# Where there is a systemd of one's own; the unit's program need not be installed.
if command -v systemd-analyze >/dev/null; then
    sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' deploy/systemd/tollgate.service >"$place/tollgate.service"
    systemd-analyze verify "$place/tollgate.service"
fi
echo "The compose files, the image's recipe, deploy/ and prometheus/ are as they should be."
