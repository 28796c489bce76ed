"""Filled CORs: leave out one COR after the other, fill it, and compare (lab/results/fill.md).

    python lab/benchmarks/bench_fill.py [--cors CORS.tsv] [--seed N] [--series N]

`--cors` is a table of CORs picked by hand, with the columns scan and cor_px; its series are those
of the default `inventory.series_pattern`. Without it lists of the same kind are simulated: stacks
of two to four heights, of which some were recorded in reversed order, single scans, and a series
that is no stack. Then come single series: lines, steps, walks, interleaved positions, sines; those
of few scans once more, as many of each number. The last table is about outliers: right CORs of
little confidence in series that step or alternate, and wrong ones in series that do not.
"""

import argparse
import csv
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tomopipe.config import FixCorBlock
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.fill import N_SERIES, Point
from tomopipe.cor.outliers import Fix, Member, fix_series
from tomopipe.cor.series_fill import fix_best, point_of

N_COLS = 4096
OPTIONS = FixCorBlock()
MOST_LEFT_OUT = 8  # scans of one simulated series
Scans = list[tuple[int, float]]  # index and COR
RNG = np.random.Generator


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cors", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--series", type=int, default=1000)
    options = parser.parse_args()
    if options.cors:
        print_list(options.cors.name, [read_list(options.cors)])
    rng = np.random.default_rng([options.seed, 1])
    lists = [beamtime(rng) for _ in range(options.series // 20)]
    print_list(f"{len(lists)} simulated beamtimes", lists)
    print_series(options.seed, options.series)
    print_short(options.seed, options.series)
    print_outliers(options.seed, options.series)


def read_list(path: Path) -> dict[str, Scans]:
    """Read a table of CORs by series."""
    result: dict[str, Scans] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            match = re.match(r"^(.*?)[._-]*(\d+)$", row["scan"])
            assert match, row
            result.setdefault(match[1], []).append((int(match[2]), float(row["cor_px"])))
    return result


def beamtime(rng: RNG) -> dict[str, Scans]:
    """Simulate the CORs of a beamtime, in steps of 0.5 px: mostly stacks at heights of a stage."""
    n_heights, base_px = int(rng.integers(2, 5)), rng.uniform(500, 3000)
    heights_px = np.cumsum(rng.uniform(2, 12, n_heights)) * rng.choice([-1, 1])
    spread_px, scatter_px = rng.uniform(0.2, 1.5), rng.uniform(0.1, 0.6)
    result: dict[str, Scans] = {}
    number, drift_px = 1, 0.0
    for sample in range(int(rng.integers(6, 25))):
        drift_px += rng.normal(0, spread_px) + (rng.random() < 0.05) * rng.uniform(-20, 20)
        kind = rng.random()
        if kind < 0.15:
            cors_px = np.array([rng.choice(heights_px)])
        elif kind < 0.22:
            cors_px = np.sort(rng.uniform(-15, 15, int(rng.integers(4, 8))))
        else:
            cors_px = heights_px[::-1] if rng.random() < 0.15 else heights_px
        cors_px = cors_px + base_px + drift_px + rng.normal(0, scatter_px, len(cors_px))
        rounded = np.round(2 * cors_px) / 2
        result[f"s{sample:02d}"] = [(number + k, float(px)) for k, px in enumerate(rounded)]
        number += len(cors_px)
    return result


def series_of(kind: str, rng: RNG, n: int | None = None) -> Scans:
    """Simulate the CORs of one series; some numbers are missing in a third of them."""
    n = n or int(rng.integers(4, 40))
    index = np.arange(n)
    if rng.random() < 1 / 3:
        index = np.cumsum(rng.integers(1, 3, n))
    noise_px = 10 ** rng.uniform(-1.7, 0)
    if kind == "line":
        cors_px = rng.uniform(-4, 4) * index
    elif kind == "steps":
        at = rng.integers(0, n, int(rng.integers(1, 4)))
        cors_px = sum((index >= index[k]) * rng.uniform(-80, 80) for k in at)
    elif kind == "walk":
        cors_px = np.cumsum(rng.normal(0, 10 ** rng.uniform(-1, 1), n))
    elif kind == "interleaved":
        n_places = int(rng.integers(2, 4))
        cors_px = rng.uniform(-40, 40, n_places)[index % n_places]
    else:
        cors_px = rng.uniform(1, 40) * np.sin(index * 2 * np.pi / rng.uniform(4, 60))
    return list(
        zip(index.tolist(), (2000 + cors_px + rng.normal(0, noise_px, n)).tolist(), strict=True)
    )


KINDS = ("line", "steps", "walk", "interleaved", "sine")


def members_of(key: str, scans: Scans, hidden: int | None = None) -> list[Member]:
    """Return the scans of a series with their CORs by hand, one of them without."""
    return [
        Member(
            f"{key}_{index:03d}",
            index,
            N_COLS,
            CorText("" if index == hidden else f"{cor_px:.2f}"),
            position=position,
            length=len(scans),
        )
        for position, (index, cor_px) in enumerate(sorted(scans), start=1)
    ]


def points_around(campaign: Mapping[str, Scans], key: str) -> list[Point]:
    """Return the scans of the series of equal length before and after one."""
    alike = [each for each in campaign if len(campaign[each]) == len(campaign[key])]
    at = alike.index(key)
    return [
        point_of(member, order)
        for order in range(-N_SERIES, N_SERIES + 1)
        if order and 0 <= at + order < len(alike)
        for member in members_of(alike[at + order], campaign[alike[at + order]])
    ]


def left_out(
    campaign: Mapping[str, Scans], key: str, most: int | None = None
) -> Iterator[tuple[float, Fix, float | None]]:
    """Yield the true COR, its row by `best`, and the COR by `series`, of each scan left out."""
    scans, around = sorted(campaign[key]), points_around(campaign, key)
    chosen = scans[:: max(1, math.ceil(len(scans) / most))] if most else scans
    for index, cor_px in chosen:
        members = members_of(key, scans, index)
        best = next(row for row in fix_best(members, around, OPTIONS) if row.index == index)
        rules = fix_series(members, max_delta_px=OPTIONS.max_delta_px, protect_manual=True)
        yield cor_px, best, next(row.after_px for row in rules if row.index == index)


def print_list(name: str, lists: Sequence[Mapping[str, Scans]]) -> None:
    """Print how well the scans of series of three and more are filled."""
    results = [
        (abs(row.after_px - cor_px), row, None if rules_px is None else abs(rules_px - cor_px))
        for campaign in lists
        for key, scans in campaign.items()
        if len(scans) >= 3
        for cor_px, row, rules_px in left_out(campaign, key)
        if row.after_px is not None
    ]
    print(f"\n{name}: {len(results)} scans left out")
    by_rules = [away_px for *_, away_px in results if away_px is not None]
    print(f"  series: median error {statistics.median(by_rules):.2f} px")
    for source in ("", "neighbours", "series-mean", "line", "place"):
        rows = [(px, row) for px, row, _ in results if source in ("", row.source)]
        if rows:
            print(f"  {source or 'best':12}{summary(rows)}")


def summary(rows: Sequence[tuple[float, Fix]]) -> str:
    """Return the number of fills, their median and stated errors, and how many errors cover."""
    covers = [e is not None and px <= e + 1e-9 for px, row in rows for e in [row.fill_error_px]]
    stated = [row.fill_error_px for _, row in rows if row.fill_error_px is not None]
    return (
        f"n {len(rows):5}  median error {statistics.median(px for px, _ in rows):6.2f} px, "
        f"stated {statistics.median(stated):6.2f} px, covers {sum(covers) / len(covers):.3f}"
    )


def print_series(seed: int, n_series: int) -> None:
    """Print errors of `best` and `series` by kind of series, and where `best` is worse."""
    print(f"\n{n_series} single series: mean error (px) over the scans left out of each")
    for kind in KINDS:
        rng, rows, pairs = np.random.default_rng([seed, 2, KINDS.index(kind)]), [], []
        for _ in range(n_series // len(KINDS)):
            each = list(left_out({"s": series_of(kind, rng)}, "s", MOST_LEFT_OUT))
            filled = [(abs(row.after_px - px), row, abs(by - px)) for px, row, by in each if by]
            rows += [(px, row) for px, row, _ in filled]
            pairs.append(tuple(statistics.fmean(r[k] for r in filled) for k in (0, 2)))
        worse = sum(best > 1.1 * by and best > by + 0.2 for best, by in pairs)
        better = sum(by > 1.1 * best and by > best + 0.2 for best, by in pairs)
        means = [statistics.fmean(pair[k] for pair in pairs) for k in (0, 1)]
        print(
            f"  {kind:12} best {means[0]:6.2f}, series {means[1]:6.2f}; better in {better}, worse "
            f"in {worse} of {len(pairs)}; {summary(rows)}"
        )


def print_short(seed: int, n_series: int) -> None:
    """Print how many of the stated errors cover, by kind and number of scans, all left out."""
    numbers = range(3, 9)
    print(f"\n{n_series // 20} series of each kind and number of scans: stated error covers")
    print(f"  {'scans':12}" + "".join(f"{n:8}" for n in numbers))
    for kind in KINDS:
        shares = []
        for n in numbers:
            rng = np.random.default_rng([seed, 4, KINDS.index(kind), n])
            rows = [
                each
                for _ in range(n_series // 20)
                for each in left_out({"s": series_of(kind, rng, n)}, "s")
            ]
            is_covered = [
                row.fill_error_px is not None and abs(row.after_px - px) <= row.fill_error_px + 1e-9
                for px, row, _ in rows
            ]
            shares.append(sum(is_covered) / len(is_covered))
        print(f"  {kind:12}" + "".join(f"{share:8.3f}" for share in shares))


def print_outliers(seed: int, n_series: int) -> None:
    """Print how many right CORs are replaced by wrong ones, and how many wrong ones are replaced.

    Confidence 0.5 to 0.95: not protected.
    """
    rng = np.random.default_rng([seed, 3])
    n_right = harmed = harmed_rules = n_wrong = mended = mended_rules = kept = 0
    for number in range(n_series):
        kind = ("steps", "interleaved", "walk", "line")[number % 4]
        scans = sorted(series_of(kind, rng))
        steps = any(abs(b - a) > 10 for (_, a), (_, b) in pairwise(scans))
        cors_px = dict(scans)
        wrong = {}
        if kind in ("walk", "line") and not steps:  # one or two wrong CORs in a still series
            for index in rng.choice(list(cors_px), 1 + int(len(scans) > 20), replace=False):
                wrong[int(index)] = cors_px[int(index)] + rng.choice([-1, 1]) * rng.uniform(15, 60)
        elif not steps:
            continue
        members = [
            Member(
                f"s_{index:03d}",
                index,
                N_COLS,
                predicted_px=round(wrong.get(index, cor_px), 2),
                confidence=float(rng.uniform(0.5, 0.95)),
                position=position,
                length=len(scans),
            )
            for position, (index, cor_px) in enumerate(scans, start=1)
        ]
        best = {row.index: row for row in fix_best(members, [], OPTIONS)}
        limits = {"max_delta_px": OPTIONS.max_delta_px, "protect_manual": True}
        rules = {row.index: row for row in fix_series(members, protect_confident=0.95, **limits)}
        for index, cor_px in scans:
            off = [abs((each[index].after_px or 0.0) - cor_px) for each in (best, rules)]
            if index in wrong:
                n_wrong += 1
                mended, mended_rules = mended + (off[0] < 5), mended_rules + (off[1] < 5)
                kept += best[index].flagged and best[index].source != "outlier"
            else:
                n_right += 1
                harmed, harmed_rules = harmed + (off[0] > 1), harmed_rules + (off[1] > 1)
    print(f"\noutliers: of {n_right} right CORs, replaced by one more than 1 px wrong:")
    print(f"  best {harmed}, series {harmed_rules}")
    print(f"  of {n_wrong} wrong ones, mended to 5 px: best {mended}, series {mended_rules};")
    print(f"  best keeps {kept} more as doubtful")


if __name__ == "__main__":
    main()
