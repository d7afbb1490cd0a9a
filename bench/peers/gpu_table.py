#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our figures and the peers' of one run side by side, with the ratios that bars are set in.

    gpu_table.py bench.json peers.json
"""
import json
import sys


def main():
    ours = json.load(open(sys.argv[1], encoding="utf-8"))
    peers = json.load(open(sys.argv[2], encoding="utf-8"))
    by_case = {}
    for row in peers["rows"]:
        by_case.setdefault((row["case"], row["m"]), {})[row["peer"]] = row["us"]
    print(f"{'kernel':16s} {'case':22s} {'x':9s} {'w':16s} {'M':>5s} {'us':>9s} {'of read':>8s}  peers: us (peer / ours)")
    for row in ours:
        name = "moe 5760x2880" if row["case"].startswith("moe 5760") else row["case"]
        others = by_case.get((name, row["m"]), {})
        share = row["floor_us"] / row["us"] if row["floor_us"] else 0
        text = "  ".join(f"{p} {us:.1f} ({us / row['us']:.2f})" for p, us in others.items())
        print(
            f"{row['kernel']:16s} {row['case']:22s} {row['x']:9s} {row['w']:16s} {row['m']:5d} {row['us']:9.2f} "
            f"{share:8.2f}  {text}" if share else
            f"{row['kernel']:16s} {row['case']:22s} {row['x']:9s} {row['w']:16s} {row['m']:5d} {row['us']:9.2f} {'':8s}  {text}"
        )


main()
