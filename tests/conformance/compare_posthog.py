"""Compares edgesplit's decisions on random definitions with those of PostHog's SDK for Python, and prints differences.

    compare_posthog.py COMMAND [PAYLOADS [SEED]]

The SDK for node decides otherwise in places: it orders texts, reads more texts as dates, and names other reasons.
"""

import datetime
import json
import logging
import random
import subprocess
import sys
import tempfile
import types
import warnings
from collections import Counter

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

from posthog import feature_flags
from posthog.client import Client

VISITORS = 25
DIFFERENCES_SHOWN_MAX = 20
NOW = datetime.datetime(2026, 3, 31, 12, tzinfo=datetime.timezone.utc)

KEYS = ["country", "plan", "age", "score", "premium", "version", "joined", "email", "tags"]
VALUES = [
    "DE", "at", "PRO", "pro", "", " x", "true", "FALSE", True, False, 0, 18, 18.5, "18", "0x1", "1e3", ".5", "-1", None,
    [], ["DE", "pro"], ["true", True], ["a", 1], {"a": 1}, "1.2.3", "v1.2", "2.0.0-beta", "1.2.3.4", "01.2",
    "2026-03-01", "2026-03-01T10:00:00Z", "2026-02-28 12:00:00+02:00", "soon", "größe", "Größe", "a@b.com", "x\n",
    "10.0.0", 1e20, 100,
]
PATTERNS = [
    r"\.com$", "^p", "[a-z]+@", "(a|b)+$", r"\d+", r"^\w+$", r"\bx", "(?i)a", "(", "a**", "x*", "[^a-z]", "a{2}",
    "(ab)?c", r"\s", r"[\w-]+", "a|", "^$", ".", "é", r"\W", r"[a-\d]", "(?:a)b", "()?p", r"[\x61-c]", "[\\",
]
DATES = [
    "-30d", "6h", "-2m", "-1y", "-3w", "1m", "-12m", "13m", "99999d", "2026-03-01", "2026-01-31T00:00:00Z", "soon", "-1q",
    "-5y",
]
VERSIONS = ["1.2.3", "1.2", "2", "v1.0.0", "1.*", "1.2.*", "*", "0.0.3", "0.2.1", "x", "1.2.3-beta", "1.2.3.*"]
NUMBERS = [0, 18, "18", "x", 18.5, "-1", True, None]
OPERANDS = {
    **dict.fromkeys(["exact", "is_not", "is_set", "is_not_set", "unknown", None], VALUES),
    **dict.fromkeys([no + name for no in ("", "not_") for name in ("icontains", "starts_with", "ends_with")], VALUES),
    **dict.fromkeys(["regex", "not_regex"], PATTERNS),
    **dict.fromkeys(["gt", "gte", "lt", "lte"], NUMBERS),
    **dict.fromkeys(["is_date_before", "is_date_after"], DATES),
    **dict.fromkeys([f"semver_{name}" for name in "eq neq gt gte lt lte tilde caret wildcard".split()], VERSIONS),
}
UNDECIDED = ["experience_continuity", "unsupported_definition", "unresolved_dependency", "missing_context"]
OFF = ["flag_disabled", "no_group_type", "out_of_rollout_bound", "no_condition_match"]


class FixedDatetime(datetime.datetime):
    """The time at which both sides decide."""

    @classmethod
    def now(cls, tz=None):
        return NOW if tz else NOW.replace(tzinfo=None)


feature_flags.datetime = types.SimpleNamespace(**{**vars(datetime), "datetime": FixedDatetime})


class Generator:
    """Random definitions and visitors."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, share):
        return self.random.random() < share

    def pick(self, choices):
        return self.random.choice(choices)

    def property(self, cohorts, flags):
        kind = self.random.random()
        if kind < 0.1:
            own = {"key": "id", "type": "cohort", "value": self.pick([*cohorts, 99])}
            return {**own, "operator": self.pick(["in", "not_in", "exact", "gt"])} if self.chance(0.5) else own
        if kind < 0.2 and flags:
            key = self.pick([*flags, "gone"])
            chain = [key] if self.chance(0.8) else [*self.random.sample(flags, 1), key]
            operator = "flag_evaluates_to" if self.chance(0.95) else "exact"
            value = self.pick([True, False, "a", "b", "control", None, 1])
            return {"key": key, "type": "flag", "operator": operator, "value": value, "dependency_chain": chain}
        operator = self.pick(list(OPERANDS))
        key = self.pick([*KEYS, "distinct_id", "$group_key", "tier"])
        own = {"key": key, "type": self.pick(["person", "group"]), "value": self.pick(OPERANDS[operator])}
        return own if operator is None else {**own, "operator": operator}

    def tree(self, cohorts, flags, depth=0):
        if self.chance(0.05):
            return self.pick([{}, {"type": "XOR", "values": []}, {"type": "AND"}]) if depth else {}

        def value():
            if depth < 2 and self.chance(0.5):
                return self.tree(cohorts, flags, depth + 1)
            negation = {"negation": self.chance(0.8)} if self.chance(0.3) else {}
            return {**self.property(cohorts, flags), **negation}

        return {"type": self.pick(["AND", "OR"]), "values": [value() for _ in range(self.random.randint(0, 3))]}

    def group(self, cohorts, flags):
        group = {"properties": [self.property(cohorts, flags) for _ in range(self.pick([0, 1, 1, 2, 3]))]}
        if self.chance(0.8):
            group["rollout_percentage"] = self.pick([0, 10, 50, 100, 33.3, None])
        if self.chance(0.3):
            group["variant"] = self.pick(["a", "b", "gone", None])
        if self.chance(0.15):
            group["aggregation_group_type_index"] = self.pick([0, 1, 5, None])
        return group

    def flag(self, key, cohorts, flags):
        filters = {"groups": [self.group(cohorts, flags) for _ in range(self.random.randint(0, 3))]}
        if self.chance(0.5):
            keys = self.random.sample(["a", "b", "control"], self.random.randint(0, 3))
            variants = [{"key": variant, "rollout_percentage": self.pick([0, 20, 33.3, 50])} for variant in keys]
            filters["multivariate"] = {"variants": variants}
        if self.chance(0.2):
            filters["aggregation_group_type_index"] = self.pick([0, 1, 7])
        if self.chance(0.2):
            filters["early_exit"] = self.chance(0.8)
        if self.chance(0.2):
            own = {"id": self.random.randint(1, 9), "exclusion_percentage": self.pick([0, 50, 100, 150, None])}
            filters["holdout"] = self.pick([None, own, {"exclusion_percentage": 5}])
        if self.chance(0.3):
            filters["payloads"] = {self.pick(["a", "b", "true", "control"]): self.pick(["1", '{"x": 1}', '"t"'])}
        flag = {"key": key, "active": self.chance(0.93), "filters": filters}
        if self.chance(0.06):
            flag["ensure_experience_continuity"] = True
        if self.chance(0.12):
            flag["bucketing_identifier"] = "device_id"
        if self.chance(0.3):
            flag["has_experiment"] = self.chance(0.5)
        return flag

    def definitions(self):
        keys = [f"flag-{number}" for number in range(self.random.randint(3, 8))]
        cohorts = {"1": self.tree([], []), "2": self.tree([1], []), "3": self.tree([1, 2], keys[:2])}
        flags = [self.flag(key, [1, 2, 3], keys[:position]) for position, key in enumerate(keys)]
        version = {"property_matching_version": self.pick([1, 2])} if self.chance(0.5) else {}
        return {"flags": flags, "cohorts": cohorts, "group_type_mapping": {"0": "company", "1": "team"}, **version}

    def visitor(self):
        attributes = {key: self.pick(VALUES) for key in KEYS if self.chance(0.7)}
        if self.chance(0.5):
            attributes["$device_id"] = f"d{self.random.randint(1, 99)}"
        if self.chance(0.6):
            attributes["$groups"] = {
                name: f"g{self.random.randint(1, 99)}" for name in ("company", "team") if self.chance(0.7)
            }
            if self.chance(0.6):
                own = {key: self.pick(VALUES) for key in [*KEYS, "tier"] if self.chance(0.5)}
                attributes["$group_properties"] = {"company": own}
        return {"id": f"user-{self.random.randint(1, 10**6)}", "attributes": attributes}


def payload_of(flag, result):
    """The value of a decision: its payload, else the result."""
    text = flag["filters"].get("payloads", {}).get(str(result).lower() if isinstance(result, bool) else result)
    return result if text is None or result is False else json.loads(text)


def decided_by_sdk(client, definitions, visitor):
    """A function that decides a flag for a visitor. None stands for a flag whose evaluation crashes the SDK."""
    attributes = dict(visitor["attributes"])
    device, groups = attributes.pop("$device_id", None), attributes.pop("$groups", {})
    _, group_properties = client._add_local_person_and_group_properties(
        groups, attributes, attributes.pop("$group_properties", {})
    )
    properties = client._person_properties_for_local_evaluation(visitor["id"], attributes)
    snapshot = {
        **{"property_matching_version": 1, **definitions},
        "flags_by_key": {flag["key"]: flag for flag in definitions["flags"]},
    }

    def decide(flag):
        try:
            result = client._compute_flag_locally(
                flag, visitor["id"], groups=groups, person_properties=properties, group_properties=group_properties,
                device_id=device, _definition_snapshot=snapshot,
            )
        except (feature_flags.InconclusiveMatchError, feature_flags.RequiresServerEvaluation) as error:
            return {"variant": None, "value": None, "undecided": error.reason.value}
        except Exception:
            return None
        variant = result if isinstance(result, str) else None
        return {"variant": variant, "value": payload_of(flag, result), "undecided": None}

    return decide


def decided_by_edgesplit(command, definitions, visitors):
    """The decisions for each visitor, by key."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(definitions, config)
        config.flush()
        now = NOW.isoformat().replace("+00:00", "Z")
        arguments = ["evaluate", "--format", "posthog", "--config", config.name, "--now", now]
        lines = "".join(json.dumps(visitor) + "\n" for visitor in visitors)
        answers = subprocess.run([command, *arguments], input=lines, capture_output=True, text=True, check=False)
    decisions = [json.loads(line)["decisions"] for line in answers.stdout.splitlines()]
    assert len(decisions) == len(visitors), answers.stderr
    return [{decision["key"]: comparable(decision) for decision in row} for row in decisions]


def comparable(decision):
    reason = decision["reason"]
    undecided = reason if reason in UNDECIDED else None
    value = False if reason in OFF else decision["value"]
    return {"variant": decision["variant"], "value": value, "undecided": undecided}


def kind(decision):
    if decision["undecided"]:
        return "undecided"
    return "variant" if decision["variant"] is not None else "off" if decision["value"] is False else "on"


def main(command, payloads="2000", seed="1"):
    generator, client = Generator(int(seed)), Client("phc_x", sync_mode=True, send=False)
    kinds, crashes, differences = Counter(), 0, 0
    for number in range(int(payloads)):
        definitions = generator.definitions()
        visitors = [generator.visitor() for _ in range(VISITORS)]
        for visitor, found in zip(visitors, decided_by_edgesplit(command, definitions, visitors)):
            decide = decided_by_sdk(client, definitions, visitor)
            for flag in definitions["flags"]:
                expected = decide(flag)
                if expected is None:
                    crashes += 1
                    continue
                kinds[kind(expected)] += 1
                if found.get(flag["key"]) == expected:
                    continue
                differences += 1
                if differences <= DIFFERENCES_SHOWN_MAX:
                    print(f"posthog: payload {number}, {flag['key']}, {json.dumps(visitor)}")
                    print(f"  SDK       {json.dumps(expected)}\n  edgesplit {json.dumps(found.get(flag['key']))}")
                    print(f"  payload   {json.dumps({'flag': flag, 'cohorts': definitions['cohorts']})}")
    shares = ", ".join(f"{name} {count}" for name, count in kinds.items())
    print(
        f"posthog: {payloads} payloads, {kinds.total()} decisions ({shares}), {crashes} more that the SDK cannot make, "
        f"{differences} differences"
    )
    return min(differences, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
