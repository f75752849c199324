"""Run as a script: a Ray of its own on loopback, `Gauges` in an actor, and what Ray's agent then exports, as JSON.

``first``: soon after a row; ``later``: when Ray would have forgotten gauges that were set once; ``gone``: after
the end of the actor.
"""

import json
import os
import secrets
import sys
import time
import urllib.request

REPORT_SECONDS = 5
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_metrics_report_interval_ms": str(1000 * REPORT_SECONDS),
}
DEADLINE_SECONDS = 120


def main(row, wanted):
    import ray

    from cluster.prometheus import Gauges

    @ray.remote(num_cpus=0)
    class Rank0:
        def __init__(self):
            self.gauges = Gauges("digits")
            self.gauges.target(500)

        def row(self, row):
            self.gauges.row(row)
            self.gauges.saved(40)
            self.gauges.restarted(2)

    ray.init(
        address="local",
        _node_ip_address="127.0.0.1",
        num_cpus=1,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
        rank0 = Rank0.remote()
        ray.get(rank0.row.remote(row))
        first = scrape_until(url, lambda text: all(f"\n{name}{{" in text for name in wanted))
        time.sleep(3 * REPORT_SECONDS)
        later = scrape(url)
        ray.kill(rank0)
        gone = scrape_until(url, lambda text: "ray_gmvae_drit_step{" not in text)
    finally:
        ray.shutdown()
    json.dump({"first": first, "later": later, "gone": gone}, sys.stdout)


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def scrape_until(url, satisfied):
    """What is exported once it satisfies, or at the deadline."""
    deadline, text = time.monotonic() + DEADLINE_SECONDS, ""
    while not satisfied(text) and time.monotonic() < deadline:
        time.sleep(1)
        text = scrape(url)
    return text


if __name__ == "__main__":
    main(**json.load(sys.stdin))
