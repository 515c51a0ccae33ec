#!/usr/bin/python3
"""What must be true of docker-compose.yml, Dockerfile, deploy/ and prometheus/ beyond their syntax: check-deploy.sh runs it
with the compose file as docker-compose resolves it. Prints every breach and fails where there is one."""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
breaches = []


def must(condition, breach):
    if not condition:
        breaches.append(breach)


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def documents(name):
    return [document for document in yaml.safe_load_all(text(name)) if document]


# ---- Compose ----------------------------------------------------------------------------------------------------------


def check_services(resolved):
    for name, service in resolved["services"].items():
        def has(condition, what):
            must(condition, f"docker-compose.yml: {name} {what}")

        image = service.get("image", "")
        has(re.search(r":v?\d+\.\d+", image), f"has no pinned version: {image}")
        has(service.get("healthcheck", {}).get("test"), "has no health check")
        has(service.get("restart") == "unless-stopped", "is not started again")
        has(service.get("read_only") is True, "has a file system that it can write")
        has(service.get("cap_drop") == ["ALL"], "keeps capabilities")
        has("no-new-privileges:true" in service.get("security_opt", []), "can gain privileges")
        has(not re.match(r"(0|root)?(:|$)", str(service.get("user", "root"))), "runs as root")
        for limit in ("cpus", "mem_limit", "pids_limit"):
            has(service.get(limit), f"has no {limit}")
        # Compose 1 writes ports and volumes as text, Compose 2 as tables.
        for port in service.get("ports", []):
            address = port.get("host_ip", "") if isinstance(port, dict) else str(port).split(":")[0]
            has(address == "127.0.0.1", f"is open to every network by default: {port}")
        has(not service.get("privileged"), "is privileged")
    for volume in resolved["services"].values():
        for mount in volume.get("volumes", []):
            source = mount["source"] if isinstance(mount, dict) else str(mount).split(":", 1)[0]
            must(source.startswith("/") or source in resolved["volumes"], f"docker-compose.yml: no volume is called {source}")


def check_variables():
    files = ["docker-compose.yml", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy/compose").glob("*.yml"))]
    written = "\n".join(text(name) for name in files)
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", written))
    told = set(re.findall(r"^#?(\w+)=", text(".env.example"), re.M))
    must(used <= told, f".env.example does not tell of {sorted(used - told)}")
    must(told <= used | {"COMPOSE_PROFILES"}, f".env.example tells of what nobody reads: {sorted(told - used)}")
    for line in written.splitlines():
        setting = re.match(r"\s+(\w*(?:PASSWORD|SECRET|CREDS_\w+))\w*:\s*(.*)", line)
        if setting and setting[1] not in ("POSTGRES_PASSWORD_FILE",):
            must(setting[2].startswith("${"), f"docker-compose.yml: a secret does not come from .env: {line.strip()}")
    secrets = [line for line in text(".env.example").splitlines() if re.match(r"\w*(PASSWORD|SECRET|CREDS)\w*=", line)]
    for line in secrets:
        must(line.endswith("=generated"), f".env.example: {line} is not generated")


# ---- The image, Kubernetes, systemd -----------------------------------------------------------------------------------


def check_image():
    lines = [line for line in text("Dockerfile").splitlines() if not line.startswith("#")]
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    for base in bases:
        must(re.search(r":[\w.-]*\d+[\w.-]*$", base), f"Dockerfile: {base} is not pinned")
    last = lines[max(place for place, line in enumerate(lines) if line.startswith("FROM ")):]
    for needed in ("USER 65532:65532", "HEALTHCHECK ", "STOPSIGNAL SIGTERM", "LABEL ", 'ENTRYPOINT ["/usr/local/bin/tollgate"]'):
        must(any(line.startswith(needed) for line in last), f"Dockerfile: the image has no {needed.strip()}")
    must(any("cargo build --locked --release" in line for line in lines), "Dockerfile: not built as Cargo.lock says")
    version = re.search(r'^version = "(.*)"', text("Cargo.toml"), re.M)[1]
    must(f'image.version="{version}"' in text("Dockerfile"), f"Dockerfile: its label is not the version {version}")
    must(f":-tollgate:{version}}}" in text("docker-compose.yml"), f"docker-compose.yml: the image is not of the version {version}")
    must(f"image: tollgate:{version}" in text("deploy/kubernetes/statefulset.yaml"), f"kubernetes: the image is not of {version}")
    let_in = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    for line in lines:
        copied = re.match(r"COPY (?!--from)(?:--chmod=\d+ )?(.*)", line)
        for source in copied[1].split()[:-1] if copied else []:
            must((ROOT / source).exists() and source in let_in, f"Dockerfile: {source} is not there, or .dockerignore keeps it out")


def grace():
    seconds = int(re.search(r"^grace_seconds = (\d+)", text("config/tollgate.toml"), re.M)[1])
    # What else a stop may take at the worst, docs/drop-in.md.
    return seconds + 10 + 20


def check_kubernetes():
    folder = ROOT / "deploy/kubernetes"
    kinds = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in documents(path):
            must({"apiVersion", "kind"} <= set(document), f"{path.name}: no kind")
            kinds[document["kind"]] = document
    listed = set(kinds["Kustomization"]["resources"])
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "servicemonitor.optional.yaml"}
    must(listed == there, f"kustomization.yaml lists {sorted(listed ^ there)} or does not")
    spec = kinds["StatefulSet"]["spec"]
    pod, container = spec["template"]["spec"], spec["template"]["spec"]["containers"][0]
    must(spec["replicas"] >= 2 and kinds["PodDisruptionBudget"]["spec"]["minAvailable"] >= 1, "kubernetes: one replica is none")
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    must(pod["terminationGracePeriodSeconds"] >= grace() + wait + 5, "kubernetes: streams are cut off before their grace is over")
    must(pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"], "kubernetes: too many rights")
    ports = {port["name"] for port in container["ports"]}
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz/self")):
        asks = container[probe]["httpGet"]
        must(asks["path"] == path and asks["port"] in ports, f"kubernetes: {probe} asks {asks}")
    keys = set(kinds["Secret"]["stringData"])
    named = set(re.findall(r'"/run/secrets/tollgate/([\w.-]+)"', kinds["ConfigMap"]["data"]["tollgate.toml"]))
    must(keys == named, f"kubernetes: the configuration and the secret differ in {sorted(keys ^ named)}")
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    must(mounted == volumes, f"kubernetes: volumes and mounts differ in {sorted(mounted ^ volumes)}")
    labels = spec["template"]["metadata"]["labels"]
    for kind in ("StatefulSet", "PodDisruptionBudget"):
        must(kinds[kind]["spec"]["selector"]["matchLabels"] == labels, f"kubernetes: {kind} selects other pods")


def seconds_of(duration):
    return int(re.fullmatch(r"(\d+)s", str(duration))[1]) if not re.fullmatch(r"\d+m\d+s", str(duration)) else sum(
        int(number) * unit for number, unit in zip(re.findall(r"\d+", duration), (60, 1)))


def check_stopping(resolved):
    stop = seconds_of(resolved["services"]["tollgate"]["stop_grace_period"])
    must(stop >= grace(), f"docker-compose.yml: {stop} s is less than a stop may take")
    unit = re.search(r"^TimeoutStopSec=(\d+)$", text("deploy/systemd/tollgate.service"), re.M)
    must(unit and int(unit[1]) >= grace(), "systemd: TimeoutStopSec is less than a stop may take")


# ---- Alerts -----------------------------------------------------------------------------------------------------------

# Of others: Prometheus itself, the node exporter, the blackbox exporter.
FOREIGN = {
    "up", "scrape_samples_scraped", "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes",
    "node_filesystem_avail_bytes", "node_filesystem_size_bytes", "probe_ssl_earliest_cert_expiry", "probe_success",
    "alertmanager_notifications_failed_total",
}  # fmt: skip


def rules():
    for path in sorted((ROOT / "prometheus/rules").glob("*.yml")):
        for group in documents(path)[0]["groups"]:
            yield from group["rules"]


def metrics_of(expression):
    """The names that an expression reads: whatever is neither a function, a keyword, a label nor in quotes or brackets."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", "", bare)
    names = re.findall(r"[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return {name for name in names if name not in {"and", "or", "unless", "bool"} and re.search(r"[_:]|^up$", name)}


def check_rules():
    ours = set(re.findall(r"^([a-z]\w*)", text("src/telemetry/metrics/snapshots/" + SNAPSHOT), re.M))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    read = set()
    for rule in rules():
        names = metrics_of(rule["expr"])
        must(names, f"{rule.get('alert', rule.get('record'))} reads no metric")
        read |= names
        for name in names - ours - recorded - FOREIGN:
            must(False, f"{rule.get('alert', rule.get('record'))} reads {name}, which nothing shows")
    must(FOREIGN <= read, f"scripts/check-deploy.py: no rule reads {sorted(FOREIGN - read)}")
    must(recorded <= read, f"recording.yml: nobody reads {sorted(recorded - read)}")


def check_alerts():
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    sections = set(re.findall(r"^## (\w+)$", text("docs/runbooks.md"), re.M))
    must(sections == set(alerts), f"docs/runbooks.md and the alerts differ in {sorted(sections ^ set(alerts))}")
    for link in re.findall(r"\]\(#(\w+)\)", text("docs/runbooks.md")):
        must(link in {name.lower() for name in alerts}, f"docs/runbooks.md: there is no section #{link}")
    for section in text("docs/runbooks.md").split("\n## ")[1:]:
        must("\nLook at:\n" in section and "\nDo:\n" in section, f"docs/runbooks.md: {section.split()[0]} says too little")
    for name, alert in alerts.items():
        must(alert["labels"].get("severity") in ("critical", "warning", "info"), f"{name}: no severity")
        must(alert["labels"].get("about"), f"{name}: nothing that it is about")
        must({"summary", "description"} <= set(alert["annotations"]), f"{name}: no summary or description")
        must(alert["annotations"].get("runbook_url") == f"docs/runbooks.md#{name.lower()}", f"{name}: another runbook_url")
    fires, quiet = set(), set()
    for path in sorted((ROOT / "prometheus/tests").glob("*.yml")):
        for case in documents(path)[0]["tests"]:
            must(case.get("input_series"), f"{path.name}: {case.get('name')} has no series")
            for told in case.get("alert_rule_test", []):
                (fires if told.get("exp_alerts") else quiet).add(told["alertname"])
    must(fires == set(alerts), f"prometheus/tests: no case in which these fire: {sorted(set(alerts) ^ fires)}")
    must(quiet == set(alerts), f"prometheus/tests: no case in which these stay quiet: {sorted(set(alerts) ^ quiet)}")
    abouts = {alert["labels"]["about"] for alert in alerts.values()}
    for rule in documents("prometheus/alertmanager/routes.yml")[0]["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, values = re.fullmatch(r'(\w+)=~?"(.*)"', matcher).groups()
            known = {"alertname": set(alerts), "about": abouts, "severity": {"critical", "warning", "info"}}[label]
            must(set(values.split("|")) <= known, f"routes.yml: {matcher} names what is not there")


SNAPSHOT = next((ROOT / "src/telemetry/metrics/snapshots").glob("*.snap")).name


def main():
    resolved = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    check_services(resolved)
    check_variables()
    check_image()
    check_kubernetes()
    check_stopping(resolved)
    check_rules()
    check_alerts()
    for breach in breaches:
        print(breach, file=sys.stderr)
    sys.exit(1 if breaches else 0)


main()
