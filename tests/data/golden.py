#!/usr/bin/env python3
"""Computes the golden decisions, independently of the engine: from the formulas of the native format alone.

Usage: golden.py [--check] [--vectors CSV]

Writes golden_experiments.json (a native config) and golden_decisions.json (visitors and what is decided for them)
beside itself; with --check it compares instead, and exits 1 when they differ. --vectors names a file of
`seed,key,hash,bucket` rows to check the hash against, beside the few vectors in here. Standard library only.

Nothing here depends on the clock: every time is decades ago or ahead, so that the cases also hold in a running Envoy.
"""

import csv
import json
import pathlib
import re
import sys
from datetime import datetime

HERE = pathlib.Path(__file__).parent
NOW = "2026-11-20T12:00:00Z"
VISITORS = 1000
CACHE_KEY_BUDGET = 64


# The hash and the formulas.


def murmur3_x86_32(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32, after https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp."""
    mask = 0xFFFFFFFF

    def rotl(x, r):
        return ((x << r) | (x >> (32 - r))) & mask

    def mixed(k):
        return (rotl((k * 0xCC9E2D51) & mask, 15) * 0x1B873593) & mask

    h = seed
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        h ^= mixed(int.from_bytes(data[i : i + 4], "little"))
        h = (rotl(h, 13) * 5 + 0xE6546B64) & mask
    if data[whole:]:
        h ^= mixed(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h ^= h >> 16
    h = (h * 0x85EBCA6B) & mask
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & mask
    return h ^ (h >> 16)


def bucket(text: str) -> int:
    return (murmur3_x86_32(text.encode()) * 10000) >> 32


def time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def on_route(route: dict, visitor: dict) -> bool:
    path = visitor["path"].split("?")[0]
    host = visitor["host"].split(":")[0].lower()
    methods = route.get("methods", [])
    return (
        (not route.get("paths") or any(matches(p, path) for p in route["paths"]))
        and (not route.get("hosts") or any(matches(h, host) for h in route["hosts"]))
        and (not methods or visitor["method"] in methods)
    )


def share_now(traffic) -> int:
    """One share, or a list of steps: the last that has begun counts, before the first it is 0."""
    if isinstance(traffic, int):
        return traffic
    begun = [step["share"] for step in traffic if time(step["from"]) <= time(NOW)]
    return begun[-1] if begun else 0


def decide(config: dict, experiment: dict, visitor: dict):
    """The variant, or None, and the reason: the first of the steps that applies."""
    path = visitor["path"].split("?")[0]
    if any(matches(pattern, path) for pattern in PLUGIN["paths"]["exclude"]):
        return None, "path_excluded"
    if experiment["state"] == "paused":
        return None, "paused"
    if not on_route(experiment.get("route", {}), visitor):
        return None, "route"
    if experiment["state"] == "concluded":
        return experiment["winner"], "winner"
    if experiment.get("starts") and time(NOW) < time(experiment["starts"]):
        return None, "not_started"
    if experiment.get("ends") and time(experiment["ends"]) <= time(NOW):
        return None, "ended"
    unit = visitor[experiment.get("unit", "id")]
    if unit is None:
        return None, "no_unit"
    if unit in experiment.get("forced", {}):
        return experiment["forced"][unit], "forced"
    audience = experiment.get("audience")
    if audience and visitor["country"] not in audience["country"]["$in"]:
        return None, "audience"
    if bucket(f"holdout/{config['holdout']['key']}/{unit}") < config["holdout"]["share"]:
        return None, "holdout"
    layer = experiment.get("layer")
    if layer and not layer["slots"][0] <= bucket(f"layer/{layer['name']}/{unit}") < layer["slots"][1]:
        return None, "layer"
    salt = experiment.get("salt", experiment["key"])
    if bucket(f"{salt}/traffic/{unit}") >= share_now(experiment.get("traffic", 10000)):
        return None, "traffic"
    point, end = bucket(f"{salt}/variant/{unit}"), 0
    for variant in experiment["variants"]:
        end += variant["weight"]
        if point < end:
            return variant["key"], "bucketed"
    raise AssertionError("the weights do not add up")


def encoded(name: str, plain: str) -> str:
    return "".join(chr(b) if chr(b) in plain else f"%{b:02X}" for b in name.encode())


ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def outputs(config: dict, decisions: list):
    """The assignments header and the cache key."""
    assigned, cached = [], []
    for experiment, (variant, _) in sorted(zip(config["experiments"], decisions), key=lambda pair: pair[0]["key"]):
        if variant is None:
            continue
        pair = (experiment["key"], variant)
        assigned.append("=".join(encoded(name, ALPHANUMERIC + "_.~-") for name in pair))
        if not any(v["key"] == variant and v.get("baseline") for v in experiment["variants"]):
            cached.append(".".join(encoded(name, ALPHANUMERIC + "_-") for name in pair))
    return ", ".join(assigned), "~".join(cached)


# The config.


def variants(*pairs, baseline=0):
    made = [{"key": key, "weight": weight} for key, weight in pairs]
    made[baseline]["baseline"] = True
    return made


def halves(a="control", b="green"):
    return variants((a, 5000), (b, 5000))


def at(*paths, **more):
    return {"paths": list(paths), **more}


# What the filter's plugin configuration has to say for the cases to hold.
PLUGIN = {
    "visitor": {
        "id": [{"header": "x-user-id"}],
        "mint": None,
        "attributes": {"country": "header.x-country"},
        "bots": "include",
    },
    "paths": {"include": ["/*"], "exclude": ["/static/*"]},
}

CONFIG = {
    "schema": 1,
    "revision": "golden-1",
    "holdout": {"key": "q4", "share": 500},
    "experiments": [
        # Everywhere.
        {"key": "button", "state": "running", "variants": halves()},
        {"key": "nav", "state": "concluded", "winner": "mega menu", "variants": halves("control", "mega menu")},
        {"key": "old-banner", "state": "paused", "variants": halves()},
        # /checkout: two in one layer, and one that asks for a method and a host too.
        {"key": "upsell", "state": "running", "layer": {"name": "checkout", "slots": [0, 5000]},
         "route": at("/checkout*"), "variants": halves()},
        {"key": "express", "state": "running", "layer": {"name": "checkout", "slots": [5000, 10000]},
         "route": at("/checkout*"), "variants": halves("off", "on")},
        {"key": "pay-later", "state": "running", "salt": "pay-later-2",
         "route": at("/checkout/pay", methods=["GET"], hosts=["*.example"]), "variants": halves()},
        # /search
        {"key": "ranking", "state": "running", "route": at("/search*"),
         "variants": variants(("a", 3333), ("b", 3333), ("c", 3334))},
        {"key": "facets", "state": "running", "traffic": 1000, "route": at("/search*"), "variants": halves()},
        # /product: names that have to be encoded, and a weight of 0.
        {"key": "größe-試験", "state": "running", "salt": "Salz/☃", "route": at("/product/*"),
         "variants": variants(("klein", 4000), ("groß ~.ü", 6000))},
        {"key": "zoom", "state": "running", "route": at("/product/*"), "forced": {"qa-zero": "never"},
         "variants": variants(("control", 2500), ("never", 0), ("lens", 7500))},
        # /deals
        {"key": "countdown", "state": "running", "route": at("/deals", "/deals/*/end"), "variants": halves(),
         "traffic": [{"from": "2020-01-01T00:00:00Z", "share": 1000},
                     {"from": "2021-06-01T00:00:00+02:00", "share": 6000},
                     {"from": "2099-01-01T00:00:00Z", "share": 10000}]},
        {"key": "price-tag", "state": "running", "traffic": 0, "route": at("/deals*"), "variants": halves(),
         "forced": {"qa-1": "green", "qa-2": "control", "qa-Zoë 東京": "green"}},
        {"key": "dach", "state": "running", "audience": {"country": {"$in": ["DE", "AT", "Österreich"]}},
         "route": at("/deals*"), "forced": {"qa-1": "green"}, "variants": halves()},
        # /region: another unit, steps that have all yet to begin, a winner that is the baseline.
        {"key": "currency", "state": "running", "unit": "country", "forced": {"日本": "local"},
         "route": at("/region*"), "variants": halves("euro", "local")},
        {"key": "map", "state": "running", "traffic": [{"from": "2099-01-01T00:00:00Z", "share": 10000}],
         "route": at("/region*"), "variants": halves()},
        {"key": "flags", "state": "concluded", "winner": "control", "route": at("/region*"), "variants": halves()},
        # /season: over, to come, and under way.
        {"key": "spring", "state": "running", "ends": "2020-04-01T00:00:00Z", "route": at("/season*"),
         "variants": halves()},
        {"key": "tomorrow", "state": "running", "starts": "2099-01-01T00:00:00Z", "route": at("/season*"),
         "variants": halves()},
        {"key": "decades", "state": "running", "starts": "2020-01-01T00:00:00Z", "ends": "2099-01-01T00:00:00Z",
         "route": at("/season*"), "variants": variants(("x", 1), ("y", 9999), baseline=1)},
    ],
}

PATHS = [
    "/", "/checkout", "/checkout/pay", "/checkout/pay?step=2&next=/search", "/checkout/pay/", "/search",
    "/search?q=a+b&q=%C3%BC", "/searching/for", "/product/1", "/product/shoe%20red", "/product", "/deals",
    "/deals/42/end", "/deals/42/a/b/end", "/deals/42", "/region", "/region/north?x=1", "/season", "/season/2026",
    "/static/app.js", "/about", "/Checkout",
]  # fmt: skip
COUNTRIES = ["DE", "DE", "AT", "CH", "US", "FR", "Österreich", "日本", None]
FORCED_PATHS = ["/product/1", "/deals", "/deals/42", "/search"]
FORCED_IDS = ["qa-1", "qa-2", "qa-zero", "qa-Zoë 東京"]


def visitor(number: int) -> dict:
    """A visitor made of nothing but the number."""

    def pick(what, choices):
        return choices[murmur3_x86_32(f"golden/{what}/{number}".encode()) % len(choices)]

    n = murmur3_x86_32(f"golden/id/{number}".encode())
    shapes = [
        f"user-{n}", f"user-{number}", str(number), str(n), f"{n:08x}-{number:04x}-4000-8000-{n:012x}",
        f"Zoë-{n}", f"東京{number}", f"🦊 {n}", f"Ana María {number}", f"a/b?c=d&e%20{n}", f"mail+{n}@shop.example",
        "x" * (500 - number % 300) + str(n % 100), "ß" * 256, f'"quoted", {n}; \\', None,
    ]  # fmt: skip
    # Every tenth is somebody whose variant is forced, mostly where it is.
    forced = number % 10 == 7
    return {
        "id": pick("forced", FORCED_IDS) if forced else pick("shape", shapes),
        "method": pick("method", ["GET"] * 7 + ["POST"]),
        "host": pick("host", ["shop.example"] * 5 + ["SHOP.Example:8443", "other.test"]),
        "path": pick("path", FORCED_PATHS if forced else PATHS),
        "country": pick("country", COUNTRIES),
    }


def cases() -> list:
    made = []
    for number in range(VISITORS):
        person = visitor(number)
        decisions = [decide(CONFIG, experiment, person) for experiment in CONFIG["experiments"]]
        assignments, cache_key = outputs(CONFIG, decisions)
        made.append({**person, "decisions": decisions, "assignments": assignments, "cache_key": cache_key})
    return made


# Checks of the data itself.


def check_hash(vectors):
    for text, seed, expected in [("", 0, 0), ("", 1, 0x514E28B7), ("hello", 0, 0x248BFA47),
                                 ("aUfEsdPN1twuEjff9Sl", 467569525, 2488980051)]:  # fmt: skip
        assert murmur3_x86_32(text.encode(), seed) == expected, text
    # Asserted by Optimizely's SDK tests: the same scaling as `bucket`, with seed 1.
    assert (murmur3_x86_32(b"ppid11886780721", 1) * 10000) >> 32 == 5254
    if vectors:
        with open(vectors, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        for seed, key, expected, _ in rows:
            assert murmur3_x86_32(key.encode(), int(seed)) == int(expected), key
        print(f"{len(rows)} vectors of {vectors} agree")


def check_coverage(made):
    experiments = CONFIG["experiments"]
    keys = sorted(experiment["key"] for experiment in experiments)
    # With these the order of keys, of encoded keys and of pairs is one and the same.
    assert keys == sorted(keys, key=lambda key: encoded(key, ALPHANUMERIC + "_-"))
    assert not any(b.startswith(a) for a in keys for b in keys if a != b), "a key begins with another"
    for experiment in experiments:
        assert sum(v["weight"] for v in experiment["variants"]) == 10000, experiment["key"]
    # No path is under more cache-key combinations than the budget, in every state of the experiments.
    for path in PATHS:
        product = 1
        for experiment in experiments:
            if on_route({**experiment.get("route", {}), "methods": [], "hosts": []}, {"path": path, "host": ""}):
                product *= 1 + sum(not v.get("baseline", False) for v in experiment["variants"])
        assert product <= CACHE_KEY_BUDGET, (path, product)
    seen = {(e["key"], *d) for case in made for e, d in zip(experiments, case["decisions"])}
    reasons = {reason for _, _, reason in seen}
    missing = set("path_excluded paused route winner not_started ended no_unit forced audience holdout layer traffic "
                  "bucketed".split()) - reasons  # fmt: skip
    assert not missing, missing
    for experiment in experiments:
        found = {variant for key, variant, reason in seen if key == experiment["key"] and reason == "bucketed"}
        assert "never" not in found
        if experiment["state"] == "running" and found and experiment["key"] != "decades":
            assert found | {"never"} >= {v["key"] for v in experiment["variants"]}, experiment["key"]
        for variant in experiment.get("forced", {}).values():
            assert (experiment["key"], variant, "forced") in seen, experiment["key"]
    for case in made:
        assert case["id"] is None or (0 < len(case["id"].encode()) <= 512 and case["id"] == case["id"].strip())


def main():
    arguments = sys.argv[1:]
    vectors = arguments[arguments.index("--vectors") + 1] if "--vectors" in arguments else None
    check_hash(vectors)
    made = cases()
    check_coverage(made)

    def line(value):
        return json.dumps(value, ensure_ascii=False)

    head = {"about": "Written by golden.py. `decisions` are [variant, reason] in the order of the experiments.",
            "now": NOW, "plugin": PLUGIN}  # fmt: skip
    lines = ",\n".join(line(case) for case in made)
    files = {
        "golden_experiments.json": json.dumps(CONFIG, ensure_ascii=False, indent=1) + "\n",
        "golden_decisions.json": line(head)[:-1] + ',\n"visitors": [\n' + lines + "\n]}\n",
    }
    stale = []
    for name, text in files.items():
        json.loads(text)
        if "--check" not in arguments:
            (HERE / name).write_text(text, encoding="utf-8")
        elif (HERE / name).read_text(encoding="utf-8") != text:
            stale.append(name)
    sys.exit(f"not what golden.py writes: {', '.join(stale)}" if stale else 0)


if __name__ == "__main__":
    main()
