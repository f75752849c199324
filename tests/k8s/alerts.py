"""Series that make each alert fire, and series at which all must stay silent, for `promtool test rules`."""

# One value a minute for three hours: `a+bxn` is promtool's way to write a line, `_` a missing sample.
RUN = {"run": "digits", "namespace": "gmvae-drit"}
LENGTH = 180


def series(name, values, /, **labels):
    """One series of a run's metric."""
    text = ", ".join(f'{label}="{value}"' for label, value in {**RUN, "WorkerId": "first", **labels}.items())
    return {"series": f"ray_{name}{{{text}}}", "values": values}


def ours(name, values, /, **labels):
    """One series of ours."""
    return series(f"gmvae_drit_{name}", values, **labels)


SOUND = {
    "step": f"0+50x{LENGTH}",
    "target_steps": f"100000+0x{LENGTH}",
    "last_saved_step": f"_ _ _ 150+0x9 600+0x19 1600+0x29 3100+0x49 5600+0x{LENGTH}",
    "data_wait_ratio": f"0.05+0x{LENGTH}",
    "restarts_total": f"1+0x{LENGTH}",
    "skipped_steps_total": f"3+0x{LENGTH}",
    "loss": f"2+0x{LENGTH}",
    "component_share_ratio": f"0.5+0x{LENGTH}",
}
LABELS = {
    "loss": [{"name": "kl"}],
    "component_share_ratio": [{"domain": "0", "component": "0"}, {"domain": "0", "component": "1"}],
}


def run(**changed):
    """The series of a sound run, but for those that are given; None leaves one out."""
    values = {**SOUND, **changed}
    return [
        ours(name, text, **labels)
        for name, text in values.items()
        if text is not None
        for labels in LABELS.get(name, [{}])
    ]


NODE = [
    series("node_mem_used", f"50+0x{LENGTH}", pod="train-head"),
    series("node_mem_total", f"100+0x{LENGTH}", pod="train-head"),
]
FULL_NODE = [
    series("node_mem_used", f"97+0x{LENGTH}", pod="train-head"),
    series("node_mem_total", f"100+0x{LENGTH}", pod="train-head"),
]
# A worker is lost in minute 70, and the run resumes two minutes later from its newest checkpoint, as new series.
RESUMED = [
    ours("step", "0+50x69"),
    ours("last_saved_step", f"0+0x9 500+0x29 1500+0x{LENGTH - 40}"),
    ours("step", f"{'_ ' * 72}1500+50x{LENGTH - 72}", WorkerId="second"),
    ours("last_saved_step", f"{'_ ' * 80}1900+10x{LENGTH - 80}", WorkerId="second"),
    ours("target_steps", f"100000+0x{LENGTH}"),
    ours("restarts_total", f"{'_ ' * 72}1+0x{LENGTH - 72}", WorkerId="second"),
    ours("loss", "2+0x69", name="kl"),
    ours("loss", f"{'_ ' * 72}2+0x{LENGTH - 72}", name="kl", WorkerId="second"),
]
ENDED = run(**{name: text.split("x")[0] + "x60 stale" for name, text in SOUND.items() if name != "last_saved_step"},
            last_saved_step="0+50x60 stale")  # fmt: skip

QUIET = {"sound": run() + NODE, "resumed": RESUMED, "ended": ENDED, "one component": [
    ours("component_share_ratio", f"1+0x{LENGTH}", domain="0", component="0")]}  # fmt: skip
"""Series at which no alert fires, ever."""

FIRES = {
    "GmvaeRunStalled": (run(step=f"0+50x60 3000+0x{LENGTH}"), "1h45m", {}),
    "GmvaeRunDoesNotStart": (run(step=None, last_saved_step=None, loss=None), "35m", {}),
    "GmvaeRunWaitsForData": (run(data_wait_ratio=f"0.45+0x{LENGTH}"), "40m", {}),
    "GmvaeRunRestarts": (run(restarts_total=f"1+0x60 1+1x4 5+0x{LENGTH}"), "1h15m", {}),
    "GmvaeRunSkipsSteps": (run(skipped_steps_total=f"3+0x60 3+2x20 43+0x{LENGTH}"), "1h15m", {}),
    "GmvaeLossNotFinite": (run(loss=f"2+0x60 {'stale ' * 30}"), "1h10m", {"name": "kl"}),
    "GmvaeCheckpointsFail": (run(last_saved_step=f"_ _ 100+0x{LENGTH}"), "1h40m", {}),
    "GmvaeComponentsCollapsed": (
        [
            *run(component_share_ratio=None),
            ours("component_share_ratio", f"0.995+0x{LENGTH}", domain="0", component="0"),
            ours("component_share_ratio", f"0.005+0x{LENGTH}", domain="0", component="1"),
        ],
        "1h10m",
        {"domain": "0"},
    ),
    "GmvaeMemoryNearlyFull": (run() + FULL_NODE, "10m", {"pod": "train-head"}),
}
"""{alert: (series, when it fires, its labels beside those of the run)}"""


def tests(rules):
    """A file for `promtool test rules`. ``rules`` are those of the manifest, by the name of the alert."""
    found = []
    for name, given in QUIET.items():
        moments = [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
                   for alert in rules for minute in range(0, LENGTH, 10)]  # fmt: skip
        found.append({"name": name, "interval": "1m", "input_series": given, "alert_rule_test": moments})
    for alert, (given, moment, more) in FIRES.items():
        labels = {"namespace": RUN["namespace"], "severity": rules[alert]["labels"]["severity"], **more}
        if "pod" not in more:
            labels["run"] = RUN["run"]
        wanted = [{"exp_labels": labels}]
        moments = [{"eval_time": moment, "alertname": alert, "exp_alerts": wanted}]
        found.append({"name": alert, "interval": "1m", "input_series": given, "alert_rule_test": moments})
    return {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": found}
