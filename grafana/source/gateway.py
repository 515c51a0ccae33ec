"""Gateway: how Tollgate itself does, for whoever is woken by it."""

from parts import GREEN, INSTANCE, RED, YELLOW, dashboard, lines, more_is_worse, prom, stat, steps, table, to  # fmt: skip

# Without a format: the data source escapes what is chosen for a string of PromQL, which `regex` does not.
CHOSEN = 'instance=~"$instance"'


def rate(metric, by, labels="", per=""):
    picked = f"{CHOSEN}, {labels}" if labels else CHOSEN
    return f"{per}sum by ({by}) (rate({metric}{{{picked}}}[$__rate_interval]))"


def quantiles(metric, by="", wanted=((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))):
    return [prom(f"histogram_quantile({q}, {rate(metric + '_bucket', 'le' + by)})", legend) for q, legend in wanted]


UP = [{"type": "value", "options": {"0": {"text": "away", "color": RED, "index": 0}, "1": {"text": "up", "color": GREEN, "index": 1}}}]
IS_UP = steps((RED, None), (GREEN, 1))


def up(title, about, metric):
    return stat(title, about, prom(f"min({metric}{{{CHOSEN}}})", title, now=True), mappings=UP, thresholds=IS_UP)


DASHBOARD = dashboard(
    "gateway", "Gateway", "How Tollgate itself does: rate, errors and duration by kind of route, what it adds, and what it stands on.",
    [
        ("Whether it works", [
            stat("Replicas", "Tollgates that answer Prometheus.", prom('sum(up{job="tollgate"})', "replicas", now=True), thresholds=steps((RED, None), (GREEN, 1))),
            up("Store", "Whether the store of counters answers, everywhere.", "tollgate_store_up"),
            up("Database", "Whether the database takes rows. While it does not they wait in the journal.", "tollgate_records_up"),
            up("Journal", "Whether the journal can be written.", "tollgate_journal_up"),
            stat("Open streams", "Streams that clients read right now.", prom(f"sum(tollgate_streams_open{{{CHOSEN}}})", "streams"), graph=True),
            stat("Running answers", "Generations that are not settled.", prom(f"sum(tollgate_generations_open{{{CHOSEN}}})", "generations"), graph=True),
            stat("Server errors", "Of requests in the last hour. 0.1 % is the objective for a month.",
                 prom("job:tollgate_request_errors:ratio_rate1h or vector(0)", "errors", now=True), "percentunit", thresholds=more_is_worse(0.001, 0.0144), decimals=2),
            stat("Slow requests", "Requests of the last hour to which more than 25 ms were added. 1 % is the objective.",
                 prom("job:tollgate_added_latency_slow:ratio_rate1h", "slow", now=True), "percentunit", thresholds=more_is_worse(0.01, 0.144), decimals=2),
            table("Parts that do not work", "What readiness lists, by replica. Empty is how it should be.",
                  prom(f"max by (component, instance) (tollgate_degraded{{{CHOSEN}}}) == 1", now=True, table=True), hidden=["Time", "Value"], width=12, height=6,
                  empty="Everything works"),
            table("Replicas and versions", "Each replica with the version that runs, and since when.",
                  prom(f"tollgate_build_info{{{CHOSEN}}} * on (instance) group_left () (process_start_time_seconds{{{CHOSEN}}} * 1000)", now=True, table=True),
                  hidden=["Time", "__name__", "job"], units={"Value": "dateTimeFromNow"}, width=12, height=6),
        ]),
        ("Rate, errors, duration by kind of route", [
            lines("Requests a second", "On the public listener, by kind of route.", prom(rate("tollgate_requests_total", "route"), "{{route}}"), "reqps", 8, stacked=True),
            lines("Server errors a second", "Answered with 5xx, by kind of route.",
                  prom(rate("tollgate_requests_total", "route", 'code=~"5.."'), "{{route}}"), "reqps", 8, stacked=True),
            lines("Duration, 95 %", "From a request's head to the end of its answer; of a stream, its whole life.",
                  prom(f"histogram_quantile(0.95, {rate('tollgate_request_duration_seconds_bucket', 'le, route')})", "{{route}}"), "s", 8),
            lines("Requests by status", "On the public listener.", prom(rate("tollgate_requests_total", "code"), "{{code}}"), "reqps", 8, stacked=True),
            lines("Client errors a second", "Answered with 4xx, by kind of route: refusals are among them.",
                  prom(rate("tollgate_requests_total", "route", 'code=~"4.."'), "{{route}}"), "reqps", 8, stacked=True),
            lines("Error budget", "How many times faster than it may the month's budget of server errors is used up. 14.4 wakes someone.",
                  [prom(f"job:tollgate_request_errors:ratio_rate{window} / 0.001", window) for window in ("5m", "1h", "6h", "1d")], "short", 8,
                  thresholds=steps((GREEN, None), (YELLOW, 1), (RED, 14.4))),
        ]),
        ("What it adds", [
            lines("Added latency", "What Tollgate adds to a request, LibreChat's own time aside. 25 ms are the objective for 99 %.",
                  quantiles("tollgate_added_latency_seconds"), "s", 8, thresholds=steps((GREEN, None), (RED, 0.025))),
            lines("Admission", "From the end of a chat's body to its forwarding or refusal: counting, deciding, reserving, writing down.",
                  quantiles("tollgate_admission_duration_seconds"), "s", 8),
            lines("First token", "From admission to the first piece of the answer: LibreChat's and the provider's time.",
                  quantiles("tollgate_time_to_first_token_seconds"), "s", 8),
            lines("Open streams", "Streams that clients read, by replica.", prom(f"tollgate_streams_open{{{CHOSEN}}}", "{{instance}}"), "short", 6, stacked=True),
            lines("Oldest running answer", "How long ago it was admitted, by replica.", prom(f"tollgate_generation_oldest_seconds{{{CHOSEN}}}", "{{instance}}"),
                  "s", 6, thresholds=steps((GREEN, None), (YELLOW, 1800))),
            lines("Answers a minute", "Settled generations by how they ended.",
                  prom(rate("tollgate_generations_total", "status", per="60 * "), "{{status}}"), "short", 6, stacked=True),
            lines("Charged over estimated", "How many times what was estimated at the start an answer was charged. 1 is a perfect estimate.",
                  quantiles("tollgate_estimate_ratio"), "short", 6),
        ]),
        ("The store of counters", [
            lines("Calls a second", "By what is asked.", prom(rate("tollgate_store_operations_total", "verb"), "{{verb}}"), "ops", 8, stacked=True),
            lines("Duration, 99 %", "By what is asked.",
                  prom(f"histogram_quantile(0.99, {rate('tollgate_store_operation_duration_seconds_bucket', 'le, verb')})", "{{verb}}"), "s", 8),
            lines("Failed calls a second", "By what is asked.",
                  prom(rate("tollgate_store_operations_total", "verb", 'result="error"'), "{{verb}}"), "ops", 8, thresholds=steps((GREEN, None), (RED, 0.1))),
            lines("Repaired counters", "Counters that were not what their rows add up to, since each replica started.",
                  prom(f"sum by (resource, window) (tollgate_counter_repairs_total{{{CHOSEN}}})", "{{resource}} a {{window}}"), "short", 12, 7),
            lines("Counted anew", "How often counters were counted from the rows, since each replica started.",
                  prom(f"sum by (result) (tollgate_counters_counted_total{{{CHOSEN}}})", "{{result}}"), "short", 12, 7),
        ]),
        ("Journal and database", [
            lines("Journal in use", "Of what it may take. From 50 % on it is looked at, at 100 % new chats are refused.",
                  prom(f"tollgate_journal_bytes{{{CHOSEN}}} / tollgate_journal_max_bytes{{{CHOSEN}}}", "{{instance}}"), "percentunit", 6, max=1,
                  thresholds=steps((GREEN, None), (YELLOW, 0.5), (RED, 0.9))),
            lines("Oldest row in the journal", "How long it has waited for the database.", prom(f"tollgate_journal_oldest_seconds{{{CHOSEN}}}", "{{instance}}"), "s", 6,
                  thresholds=steps((GREEN, None), (YELLOW, 900))),
            lines("Rows that wait", "Of audit for the journal, and in the journal for the database.",
                  prom(f"sum by (kind) (tollgate_records_queue_rows{{{CHOSEN}}})", "{{kind}}"), "short", 6),
            lines("Connections to the database", "That questions are asked on: of each replica four at most. Rows are written on others.",
                  prom(f"sum by (state) (tollgate_database_connections{{{CHOSEN}}})", "{{state}}"), "short", 6, stacked=True),
            lines("Rows written a second", "By kind.", prom(rate("tollgate_records_written_total", "kind"), "{{kind}}"), "rps", 8, stacked=True),
            lines("Rows lost", "Since each replica started: the queue was full, or the database refuses them. Nothing may be lost.",
                  prom(f"sum by (kind) (tollgate_records_dropped_total{{{CHOSEN}}})", "{{kind}}"), "short", 8, thresholds=steps((GREEN, None), (RED, 1))),
            lines("Where numbers come from", "Usage rows a minute by source: `context` and `counted` are estimates.",
                  prom(rate("tollgate_usage_source_total", "source", per="60 * "), "{{source}}"), "short", 8, stacked=True),
        ]),
        ("The process", [
            lines("CPU", "Of one core, by replica.", prom(f"rate(process_cpu_seconds_total{{{CHOSEN}, job=\"tollgate\"}}[$__rate_interval])", "{{instance}}"), "percentunit", 8),
            lines("Memory", "Resident, by replica.", prom(f"process_resident_memory_bytes{{{CHOSEN}, job=\"tollgate\"}}", "{{instance}}"), "bytes", 8),
            lines("Open files", "Of what the process may have open.",
                  prom(f"process_open_fds{{{CHOSEN}, job=\"tollgate\"}} / process_max_fds{{{CHOSEN}, job=\"tollgate\"}}", "{{instance}}"), "percentunit", 8,
                  thresholds=steps((GREEN, None), (YELLOW, 0.7), (RED, 0.9))),
            lines("Lines of log files", "A second, by what became of them.", prom(rate("tollgate_log_file_lines_total", "result"), "{{result}}"), "short", 8, stacked=True),
            lines("Taken over", "Generations of replicas that fell silent, since each replica started.",
                  prom(f"sum by (instance) (tollgate_generations_taken_over_total{{{CHOSEN}}})", "{{instance}}"), "short", 8),
            lines("Chats that are not in the journal", "Since each replica started: they went on without having been written down first.",
                  prom(f"sum by (instance) (tollgate_unrecorded_starts_total{{{CHOSEN}}})", "{{instance}}"), "short", 8, thresholds=steps((GREEN, None), (RED, 1))),
        ]),
    ],
    [INSTANCE],
    since="now-3h",
    refresh="30s",
)  # fmt: skip
