# SPDX-License-Identifier: GPL-2.0
"""hotpot's figures as text."""

YES = {True: "yes", False: "NO"}


def traffic(m):
    out = [f"network bytes per committed byte ({m['commits']} commits of n1 for each; {m['note']}; "
           f"hotpot-traffic.svg):"]
    cases = {}
    for r in m["rows"]:
        cases.setdefault((r["mode"], r["owner"], r["copies"]), []).append(r)
    for (mode, owner, copies), rows in cases.items():
        where = "its own node" if owner == "n1" else "another node"
        each = ", ".join(f"{r['pages']} pages {r['on_wires']:.2f} ({r['in_calls']:.2f})" for r in rows)
        out.append(f"  {mode.upper()}, pages of {where}, copies {copies}: {each}")
    return "\n".join(out)


def promotion(m):
    each = "; ".join(f"{r['owned_mib']} MiB {r['seconds']:.3f} s ({r['seconds_per_gib']:.1f} s/GiB; goal <= "
                     f"{r['goal_seconds']:.3f} s: {YES[r['met']]})" for r in m["rows"])
    return f"promotion ({m['note']}; hotpot-promotion.svg): {each}"


def recovery(m):
    each = "; ".join(f"{r['device_mib']} MiB, {r['owned_mib']} MiB owned: mount {r['mount_seconds']:.3f} s, served after "
                     f"{r['served_seconds']:.3f} s" for r in m["rows"])
    return f"recovery by PM size ({m['note']}; hotpot-recovery.svg): {each}"
