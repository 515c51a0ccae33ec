"""Servers: the machines that Tollgate runs on, one for each replica."""

from parts import DATABASE, GREEN, RED, YELLOW, dashboard, lines, more_is_worse, prom, sql, stat, steps, table, tidy, variable  # fmt: skip

SERVERS = tidy("""
SELECT DISTINCT server
FROM system_metrics
WHERE $__timeFilter(time)
ORDER BY 1""")

CHOSEN = "server = ANY (ARRAY[${server:sqlstring}]::TEXT[]) AND $__timeFilter(time)"
RATIO = steps((GREEN, None), (YELLOW, 0.8), (RED, 0.9))
WARN = steps((GREEN, None), (YELLOW, 80), (RED, 90))


def graph(title, about, values, unit, width=8, **more):
    """One line for each server and value, on average over the graph's own steps."""
    columns = ", ".join(f'{value} AS "{name}"' for name, value in values.items())
    return lines(title, about,
                 sql(f"""
SELECT $__timeGroupAlias(time, $__interval), server AS metric, {columns}
FROM system_metrics
WHERE {CHOSEN}
GROUP BY 1, 2
ORDER BY 1""", series=True), unit, width, **more)  # fmt: skip


def highest(title, about, value, unit="percent", **more):
    return stat(title, about,
                sql(f"""
SELECT MAX({value}) AS highest
FROM (SELECT DISTINCT ON (server) * FROM system_metrics WHERE {CHOSEN} ORDER BY server, time DESC) AS latest"""),
                unit, width=4, decimals=1, **more)  # fmt: skip


MEMORY = "100.0 * memory_used_bytes / NULLIF(memory_total_bytes, 0)"
DISK = "100.0 * disk_used_bytes / NULLIF(disk_total_bytes, 0)"
# What is counted since the row before, by the time since then: rows come every five seconds.
A_SECOND = "SUM({}) / NULLIF(COUNT(*), 0) / 5.0"

# What CertificateExpiresSoon goes by.
CERTIFICATES = "probe_ssl_earliest_cert_expiry or tollgate_tls_certificate_expiry_timestamp_seconds"

DASHBOARD = dashboard(
    "servers", "Servers", "The machines that Tollgate runs on, one for each replica, as it looks at them every five seconds.",
    [
        ("Now", [
            stat("Servers", "That told of themselves in this time.", sql(f"SELECT COUNT(DISTINCT server) AS servers\nFROM system_metrics\nWHERE {CHOSEN}"), width=4),
            highest("CPU, the busiest", "Of all cores, at the latest look.", "cpu_percent", thresholds=WARN),
            highest("Memory, the fullest", "At the latest look.", MEMORY, thresholds=WARN),
            highest("Disk, the fullest", "The one that Tollgate writes to, at the latest look.", DISK, thresholds=WARN),
            highest("Load, the highest", "Of the last minute.", "load_1m", "short"),
            highest("Last heard of", "The server that has been silent longest.", "EXTRACT(EPOCH FROM now() - time)", "s", thresholds=more_is_worse(30, 120)),
            table("Each server", "At its latest look. 80 % are looked at, 90 % wake someone.",
                  sql(f"""
SELECT DISTINCT ON (server) server AS "Server", time AS "Looked at", cpu_percent AS "CPU", load_1m AS "Load", {MEMORY} AS "Memory",
    swap_used_bytes AS "Swap", {DISK} AS "Disk", process_cpu_percent AS "Tollgate's CPU", process_memory_bytes AS "Tollgate's memory",
    process_open_files AS "Open files", process_threads AS "Threads"
FROM system_metrics
WHERE {CHOSEN}
ORDER BY server, time DESC"""),
                  units={"Looked at": "dateTimeFromNow", "CPU": "percent", "Load": "short", "Memory": "percent", "Swap": "bytes", "Disk": "percent",
                         "Tollgate's CPU": "percent", "Tollgate's memory": "bytes", "Open files": "short", "Threads": "short"},
                  coloured={"CPU": WARN, "Memory": WARN, "Disk": WARN}, width=24, height=6),
        ]),
        ("The machine", [
            graph("CPU", "Of all cores. 80 % for a while are looked at, 90 % wake someone.", {"value": "AVG(cpu_percent)"}, "percent", max=100, thresholds=WARN),
            graph("Memory", "What is not available to whoever asks for more.", {"value": f"AVG({MEMORY})"}, "percent", max=100, thresholds=WARN),
            graph("Load of one minute", "The average of one minute.", {"value": "AVG(load_1m)"}, "short"),
            graph("Disk", "Of the one that Tollgate writes to: journal, log files, SQLite.", {"value": f"AVG({DISK})"}, "percent", max=100, thresholds=WARN),
            graph("Disks a second", "Read from and written to all disks.",
                  {"read": A_SECOND.format("disk_read_bytes"), "written": A_SECOND.format("disk_written_bytes")}, "Bps"),
            graph("Network a second", "Over all networks but the loopback.",
                  {"received": A_SECOND.format("network_received_bytes"), "sent": A_SECOND.format("network_sent_bytes")}, "Bps"),
        ]),
        ("As alerts see it", [
            lines("CPU of five minutes", "Of all cores, by replica: what alerts go by.", prom("instance:tollgate_system_cpu:ratio_avg5m", "{{instance}}"), "percentunit",
                  6, max=1, thresholds=RATIO),
            lines("Memory and disk", "By replica.",
                  [prom("tollgate_system_memory_ratio", "memory of {{instance}}"), prom("tollgate_system_disk_ratio", "disk of {{instance}}")], "percentunit", 6,
                  max=1, thresholds=RATIO),
            lines("Load", "The averages of one, five and fifteen minutes, by replica.",
                  [prom(f"tollgate_system_load{minutes}", f"{minutes} min, {{{{instance}}}}") for minutes in (1, 5, 15)], "short", 6),
            lines("Certificates", "How long each is valid yet: of replicas that end TLS, and of the address that people open, where Prometheus asks it.",
                  prom(f"({CERTIFICATES}) - time()", "{{instance}}"), "s", 6, thresholds=steps((RED, None), (YELLOW, 3 * 86400), (GREEN, 14 * 86400))),
        ]),
        ("LibreChat behind it", [
            lines("LibreChats that answer", "1 while it answered when it was last asked, by LibreChat and replica.",
                  prom("tollgate_upstream_up", "{{upstream}} from {{instance}}"), "none", 24, 6, max=1, thresholds=steps((RED, None), (GREEN, 1))),
        ]),
        ("Tollgate on it", [
            graph("CPU of Tollgate", "Of one core.", {"value": "AVG(process_cpu_percent)"}, "percent", 6),
            graph("Memory of Tollgate", "Resident.", {"value": "AVG(process_memory_bytes)"}, "bytes", 6),
            graph("Open files", "Files and sockets of Tollgate.", {"value": "AVG(process_open_files)"}, "short", 6),
            graph("Threads", "Of Tollgate.", {"value": "AVG(process_threads)"}, "short", 6),
        ]),
    ],
    [variable("server", "Servers", "The servers that told of themselves in this time", SERVERS, DATABASE, several=True)],
    since="now-6h",
    refresh="30s",
)  # fmt: skip
