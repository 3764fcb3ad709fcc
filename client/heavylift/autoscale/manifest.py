"""A HorizontalPodAutoscaler as YAML or JSON holds it, read into what the algorithm needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

from heavylift.autoscale.hpa import DOWN_DEFAULT, UP_DEFAULT, Behavior, Hpa, Policy, PolicyType, Rules, Select
from heavylift.errors import InvalidInputError
from heavylift.spec.quantities import to_milli

KIND: Final = "HorizontalPodAutoscaler"
WINDOW_MAX_S: Final = 3600
PERIOD_MAX_S: Final = 1800
"""Bounds of the API server's own validation, as is ``WINDOW_MAX_S``."""


def find(documents: Iterable[Any], name: str = "") -> Mapping[str, Any]:
    """Return the one HorizontalPodAutoscaler among documents, lists of ``kubectl get -o yaml`` included.

    Raises:
        InvalidInputError: none, or several and none of that name.
    """
    found = [entry for document in documents for entry in _flat(document) if entry.get("kind") == KIND]
    named = [entry for entry in found if not name or _name(entry) == name]
    if len(named) == 1:
        return named[0]
    if not found:
        raise InvalidInputError(
            f"there is no {KIND} in that file: pass what `helm template` or `kubectl get hpa` prints"
        )
    names = ", ".join(_name(entry) for entry in found)
    raise InvalidInputError(f"name one of the {KIND}s in that file: {names}")


def parse(manifest: Mapping[str, Any]) -> Hpa:
    """Return the algorithm's view of an ``autoscaling/v2`` object with one External metric and an averageValue.

    Raises:
        InvalidInputError: it is of another version, follows another metric, or a field has a value the API refuses.
    """
    if manifest.get("apiVersion") != "autoscaling/v2":
        raise InvalidInputError(f"apiVersion {manifest.get('apiVersion')!r}: the simulation knows autoscaling/v2")
    spec = _mapping(manifest, "spec")
    metrics = spec.get("metrics")
    if not isinstance(metrics, list) or len(metrics) != 1 or metrics[0].get("type") != "External":
        raise InvalidInputError("spec.metrics: the simulation follows exactly one metric of type External")
    target = _mapping(_mapping(metrics[0], "external"), "target")
    if "averageValue" not in target:
        raise InvalidInputError("spec.metrics[0].external.target: the simulation follows an averageValue")
    return checked(
        Hpa(
            average_milli=to_milli(str(target["averageValue"])),
            minimum=_integer(spec, "minReplicas", 1),
            maximum=_integer(spec, "maxReplicas", None),
            behavior=None if spec.get("behavior") is None else behavior(_mapping(spec, "behavior")),
        )
    )


def checked(hpa: Hpa) -> Hpa:
    """Return the object's view unless the API server would refuse such an object.

    Raises:
        InvalidInputError: it would.
    """
    if hpa.average_milli < 1:
        raise InvalidInputError("the averageValue must be more than 0")
    if hpa.minimum < 0 or hpa.maximum < 1 or hpa.maximum < hpa.minimum:
        raise InvalidInputError(
            f"minReplicas {hpa.minimum} and maxReplicas {hpa.maximum}: the first is 0 or more, the second at least that"
        )
    return hpa


def behavior(raw: Mapping[str, Any]) -> Behavior:
    """Return ``spec.behavior`` with what it leaves out as the API server fills it in.

    Raises:
        InvalidInputError: a field has a value the API refuses.
    """
    unknown = sorted(raw.keys() - {"scaleUp", "scaleDown"})
    if unknown:
        _refuse(f"behavior has no field {unknown[0]!r}: it has scaleUp and scaleDown")
    return Behavior(_rules(raw, "scaleUp", UP_DEFAULT), _rules(raw, "scaleDown", DOWN_DEFAULT))


def _rules(raw: Mapping[str, Any], name: str, default: Rules) -> Rules:
    given = raw.get(name)
    if given is None:
        return default
    if not isinstance(given, Mapping):
        _refuse(f"behavior.{name} is a mapping")
    window = _integer(given, "stabilizationWindowSeconds", default.window)
    if not 0 <= window <= WINDOW_MAX_S:
        _refuse(f"behavior.{name}.stabilizationWindowSeconds: 0 to {WINDOW_MAX_S}, not {window}")
    policies = default.policies if given.get("policies") is None else _policies(given["policies"], name)
    tolerance = given.get("tolerance")
    return replace(
        default,
        policies=policies,
        window=window,
        select=Select(_word(given.get("selectPolicy") or default.select, Select, f"{name}.selectPolicy")),
        tolerance=None if tolerance is None else to_milli(str(tolerance)) / 1000,
    )


def _policies(given: object, name: str) -> tuple[Policy, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        _refuse(f"behavior.{name}.policies: a list with at least one policy")
    return tuple(_policy(entry, f"{name}.policies[{index}]") for index, entry in enumerate(given))


def _policy(entry: object, name: str) -> Policy:
    if not isinstance(entry, Mapping):
        _refuse(f"behavior.{name}: write {{type: Pods, value: 4, periodSeconds: 15}}")
    kind = PolicyType(_word(entry.get("type"), PolicyType, f"{name}.type"))
    value, period = _integer(entry, "value", None), _integer(entry, "periodSeconds", None)
    if value < 1:
        _refuse(f"behavior.{name}.value: 1 or more, not {value}")
    if not 1 <= period <= PERIOD_MAX_S:
        _refuse(f"behavior.{name}.periodSeconds: 1 to {PERIOD_MAX_S}, not {period}")
    return Policy(kind, value, period)


def _word(value: object, words: type[PolicyType | Select], name: str) -> str:
    if value not in {word.value for word in words}:
        _refuse(f"behavior.{name}: one of {', '.join(word.value for word in words)}, not {value!r}")
    return str(value)


def _integer(raw: Mapping[str, Any], key: str, default: int | None) -> int:
    value = raw.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(f"{key}: a whole number, not {value!r}")
    return value


def _mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    if not isinstance(value, Mapping):
        _refuse(f"{key} is missing, or no mapping")
    return value


def _flat(document: object) -> list[Mapping[str, Any]]:
    if not isinstance(document, Mapping):
        return []
    items = document.get("items")
    return [entry for entry in items if isinstance(entry, Mapping)] if isinstance(items, list) else [document]


def _name(manifest: Mapping[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""


def _refuse(message: str) -> NoReturn:
    raise InvalidInputError(message)
