# SPDX-License-Identifier: GPL-2.0
"""The results of a run as a table, with what does not fit into one below it."""

import hotpot_report

HEAD = ["case", "ours p50", "p99", "p99.9", "ops/s", "peer", "peer p50", "p99", "ops/s", "ratio", "quartiles", "goal", "met"]
YES = {True: "yes", False: "NO"}


def cells(r):
    o = r["ours"]
    made = [r["case"], f"{o['p50_us']:.0f}", f"{o['p99_us']:.0f}", f"{o['p999_us']:.0f}", f"{o['ops_per_s']:.0f}", r["peer"]]
    if "skipped" in r:
        made.append("skipped")
    elif "ratio" in r:
        p = r["peer_figures"]
        made += [f"{p['p50_us']:.0f}", f"{p['p99_us']:.0f}", f"{p['ops_per_s']:.0f}", f"{r['ratio']:.2f}",
                 "{:.2f} to {:.2f}".format(*r["ratio_quartiles"]),
                 f"<= {r['goal']}" if "goal" in r else "", YES.get(r.get("met"), "")]
    return made


def idle(m):
    return (f"memory of an idle node: {m['per_node_mib']} MiB, of it rings {m['rings_mib']} MiB, beyond them "
            f"{m['beyond_rings_mib']} MiB (goal <= 8 MiB: {YES[m['met']]}); {m['note']}")


def clients(m):
    return (f"memory node state per client: {m['bytes_before']} bytes before, {m['bytes_with']} with {m['clients']} client "
            f"processes attached: {m['per_client']} bytes a client (goal 0: {YES[m['met']]}); {m['note']}")


def share(m):
    return (f"share of the high class under load: {m['high_percent']} % of the bytes, {m['without_classes']} % without classes "
            f"(goal: high_share, {m['goal']:.0f}: {YES[m['met']]}); {m['note']}")


def retries(m):
    below = ", ".join(f"{s['pages']} pages: {s['retries_below_half']}" for s in m["sizes"])
    above = ", ".join(f"{s['pages']} pages: {s['retries_above_half']} in {s['allocations_above_half']}, "
                      f"{s['most_retries']} at most in one" for s in m["sizes"])
    return (f"allocation retries (the core, on the host, {m['seeds']} seeds, {m['pool_pages']} pages; allocation-retries.svg): "
            f"below half full {below} (goal 0: {YES[m['met']]}); above half full {above}")


FIGURES = [("memory", "memory of an idle node", idle), ("clients", "memory node state per client", clients),
           ("share", "share of the high class", share), ("allocation_retries", "allocation retries", retries),
           ("promotion", "promotion", hotpot_report.promotion),
           ("recovery", "recovery by PM size", hotpot_report.recovery),
           ("traffic", "network bytes per committed byte", hotpot_report.traffic)]


def table(result):
    rows = [cells(r) for r in result["rows"]]
    rows += [[name, "failed", "", "", "", why] for name, why in result["failed"].items()]
    rows = [r + [""] * (len(HEAD) - len(r)) for r in rows]
    widths = [max(len(r[i]) for r in [HEAD, *rows]) for i in range(len(HEAD))]
    line = lambda r: "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |"
    out = [line(HEAD), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows), ""]
    skipped = {r["peer"]: r["skipped"] for r in result["rows"] if "skipped" in r}
    out += [f"{peer}: skipped: {why}" for peer, why in skipped.items()]
    out += [f"{name}: not measured: {why}" for name, why in result["absent"].items()]
    for key, name, show in FIGURES:
        if key in result:
            figure = result[key]
            out.append(f"{name}: skipped: {figure['skipped']}" if "skipped" in figure else show(figure))
    return "\n".join(out)
