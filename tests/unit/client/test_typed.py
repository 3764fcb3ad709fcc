"""Typed data: a task's annotations decide, when it is enqueued and again before it is called."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field

from heavylift.errors import InvalidPayloadError
from heavylift.typed import Schema

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # as users import what they only annotate with

Year = NewType("Year", int)


class Format(Enum):
    """A format."""

    PDF = "pdf"
    PNG = "png"


@dataclasses.dataclass
class Row:
    """A row."""

    name: str
    points: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Report:
    """A report as a dataclass."""

    year: int
    rows: tuple[Row, ...] = ()
    format: Format = Format.PDF
    due: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse years before the measurements."""
        if self.year < 1973:
            raise ValueError(f"there are no measurements for {self.year}")


class ReportDict(TypedDict):
    """A report as a TypedDict."""

    year: int
    region: NotRequired[str]


class Base(TypedDict, total=False):
    """What may be there."""

    note: str


class Derived(Base):
    """And what must be."""

    year: int


class ReportModel(BaseModel):
    """A report as a pydantic model."""

    year: Annotated[int, Field(ge=1973)]
    rows: list[Row] = []
    due: date | None = None


def by_dataclass(report: Report) -> None:
    """Take a dataclass as the data itself."""


def by_dict(report: ReportDict) -> None:
    """Take a TypedDict as the data itself."""


def by_derived(report: Derived) -> None:
    """Take an inherited TypedDict."""


def by_model(*, report: ReportModel) -> None:
    """Take a model as the data itself."""


def plain(  # type: ignore[no-untyped-def]  # as users write it  # noqa: PLR0913, PLR0917 - one of each
    year: Year,
    ratio: float = 1.0,
    tags: Sequence[str] | None = None,
    kind: Literal["a", 2] = "a",
    pair: tuple[int, str] = (1, "x"),
    by_name: Mapping[str, Decimal] | None = None,
    row: Row | None = None,
    old: Optional[int] = None,  # noqa: UP045 - as older code writes it
    wait: timedelta = timedelta(0),
    home: Path = Path(),
    key: UUID | int = 0,
    mixed: int | str | list[int] = 0,
    names: set[str] = frozenset(),  # type: ignore[assignment]  # a default no one calls with
    unknown: Unknown = None,
    loose=None,  # noqa: ANN001 - as users write it
) -> None:
    """Take plain parameters."""


def variadic(first: int, *rest: int, **labels: str) -> None:
    """Take any number."""


def of(function: Callable[..., Any]) -> Schema:
    """Return a function's schema."""
    return Schema.of(function, skip_first=False)


def both_ways(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the data of a call, and what the function would be called with in the pod."""
    schema = of(function)
    data = json.loads(json.dumps(schema.data(args, kwargs)))
    if data.keys() == {"args", "kwargs"}:
        return data, *schema.call(data["args"], data["kwargs"])
    return data, *schema.call([], data)


DUE = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("function", "given", "data"),
    [
        (
            by_dataclass,
            Report(2026, (Row("a", [1.0]),), Format.PNG, DUE),
            {
                "year": 2026,
                "rows": [{"name": "a", "points": [1.0]}],
                "format": "png",
                "due": "2026-11-22T09:00:00+00:00",
            },
        ),
        (by_dict, {"year": 2026, "region": "north"}, {"year": 2026, "region": "north"}),
        (by_dict, {"year": 2026}, {"year": 2026}),
        (by_derived, {"year": 2026}, {"year": 2026}),
    ],
)
def test_one_model_is_the_data_itself(function: Callable[..., Any], given: Any, data: dict[str, Any]) -> None:
    """What was enqueued arrives in the pod as it was, made of plain JSON in between."""
    assert both_ways(function, given) == (data, (given,), {})


def test_a_pydantic_model_is_the_data_itself() -> None:
    """Its own rules decide; it arrives as a model again, by keyword if the function wants that."""
    model = ReportModel(year=2026, rows=[Row("a")], due=date(2026, 1, 31))
    data, args, kwargs = both_ways(by_model, report=model)
    assert data == {"year": 2026, "rows": [{"name": "a", "points": []}], "due": "2026-01-31"}
    assert (args, kwargs) == ((), {"report": model})


class Strict(BaseModel):
    """A model with what makes dumps and inputs differ."""

    model_config = ConfigDict(extra="forbid", alias_generator=str.upper)

    year: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def century(self) -> int:
        """Follows from the year."""
        return self.year // 100 + 1


@dataclasses.dataclass
class Numbered:
    """A dataclass with a field of its own making."""

    year: int
    century: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Make it."""
        self.century = self.year // 100 + 1


def test_what_a_model_makes_itself_is_made_again() -> None:
    """Aliases, computed fields and fields that are not given do not keep a model from arriving."""

    def strict(report: Strict) -> None: ...
    def numbered(report: Numbered) -> None: ...

    assert both_ways(strict, Strict(YEAR=2026)) == ({"YEAR": 2026}, (Strict(YEAR=2026),), {})
    assert both_ways(numbered, Numbered(2026)) == ({"year": 2026, "century": 21}, (Numbered(2026),), {})


def test_no_data_leaves_the_default() -> None:
    """As a call without arguments does."""

    def annual(report: Report = Report(2000)) -> None: ...

    assert of(annual).data((), {}) == {}
    assert of(annual).call([], {}) == ((), {})
    assert of(annual).call([], {"year": 2026}) == ((Report(2026),), {})


def test_data_enqueued_by_parameter_name_is_understood_too() -> None:
    """A producer that wraps the one model under the parameter's name means the same."""
    assert of(by_dataclass).call([], {"report": {"year": 2026}}) == ((Report(2026),), {})
    assert of(by_dataclass).call([{"year": 2026}], {}) == ((Report(2026),), {})


@pytest.mark.parametrize(
    ("name", "given", "sent", "arrives"),
    [
        ("ratio", 2, 2, 2.0),
        ("tags", ("a", "b"), ["a", "b"], ["a", "b"]),
        ("tags", None, None, None),
        ("kind", 2, 2, 2),
        ("pair", (7, "y"), [7, "y"], (7, "y")),
        ("by_name", {"a": Decimal("1.10")}, {"a": "1.10"}, {"a": Decimal("1.10")}),
        ("row", Row("r"), {"name": "r", "points": []}, Row("r")),
        ("wait", timedelta(seconds=90), 90.0, timedelta(seconds=90)),
        ("wait", "1h30m", "1h30m", timedelta(hours=1.5)),
        ("home", Path("/data"), "/data", Path("/data")),
        ("key", UUID(int=7), str(UUID(int=7)), UUID(int=7)),
        ("key", 7, 7, 7),
        ("old", None, None, None),
        ("old", 3, 3, 3),
        ("mixed", "x", "x", "x"),
        ("mixed", [1], [1], [1]),
        ("names", {"b", "a"}, ["a", "b"], {"a", "b"}),
        ("unknown", {"any": 1}, {"any": 1}, {"any": 1}),
        ("loose", [1, "x"], [1, "x"], [1, "x"]),
    ],
)
def test_plain_parameters_travel_as_json_and_arrive_typed(name: str, given: Any, sent: Any, arrives: Any) -> None:
    """Each annotation has one spelling in JSON, and the function gets the annotated type."""
    data, args, kwargs = both_ways(plain, 2026, **{name: given})
    assert data == {"year": 2026, name: sent}
    bound = of(plain).signature.bind(*args, **kwargs).arguments
    assert bound[name] == arrives
    assert type(bound[name]) is type(arrives)


@pytest.mark.parametrize(
    ("function", "data", "words"),
    [
        (plain, {"year": "2026"}, 'data.year is "2026": give a whole number'),
        (plain, {"year": True}, "data.year is true: give a whole number"),
        (plain, {"year": 1.0}, "data.year is 1.0: give a whole number"),
        (plain, {"year": None}, "data.year is null: give a whole number"),
        (plain, {"year": 1, "ratio": "x"}, 'data.ratio is "x": give a number'),
        (plain, {"year": 1, "tags": ["a", 2]}, "data.tags[1] is 2: give text"),
        (plain, {"year": 1, "tags": "a"}, 'data.tags is "a": give a list'),
        (plain, {"year": 1, "kind": "2"}, "data.kind is \"2\": give one of 'a', 2"),
        (plain, {"year": 1, "pair": [1]}, "data.pair is [1]: give a list of 2"),
        (plain, {"year": 1, "by_name": {"a": "x"}}, 'data.by_name.a is "x": give a decimal number'),
        (plain, {"year": 1, "row": {"points": []}}, "data.row.name is missing"),
        (plain, {"year": 1, "row": {"name": "r", "points": [1, None]}}, "data.row.points[1] is null: give a number"),
        (plain, {"year": 1, "wait": "soon"}, 'data.wait is "soon": give a duration'),
        (
            plain,
            {"year": 1, "mixed": 1.5},
            "data.mixed is 1.5: give a whole number; or data.mixed is 1.5: give text; or",
        ),
        (by_dataclass, {"year": "x"}, 'data.year is "x": give a whole number'),
        (by_dataclass, {"yeer": 1}, "data.yeer is not known: Report has year, rows, format, due"),
        (by_dataclass, {"year": 1900}, "data: there are no measurements for 1900"),
        (by_dataclass, {"year": 2026, "format": "gif"}, "data.format is \"gif\": give one of 'pdf', 'png'"),
        (by_dataclass, {"year": 2026, "due": "today"}, 'data.due is "today": give a time like'),
        (by_dict, {}, "data.year is missing"),
        (by_dict, {"year": 1, "other": 2}, "data.other is not known: ReportDict has year, region"),
        (by_derived, {"note": "x"}, "data.year is missing"),
        (by_model, {"year": 1900, "rows": [{"name": 1}]}, "data.year: Input should be greater than or equal to 1973"),
        (by_model, {"year": 1900, "rows": [{"name": 1}]}, "data.rows[0].name: Input should be a valid string"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(function: Callable[..., Any], data: dict[str, Any], words: str) -> None:
    """The producer is told before anything is stored, and the pod before the function runs, in the same words."""
    with pytest.raises(InvalidPayloadError) as in_pod:
        of(function).call([], data)
    assert words in str(in_pod.value)
    given = ((data,), {}) if function in {by_dataclass, by_dict, by_derived} else ((), data)
    with pytest.raises(InvalidPayloadError) as at_enqueue:
        of(function).data(given[0], {"report": data} if function is by_model else given[1])
    assert words in str(at_enqueue.value)


def test_each_of_many_is_checked() -> None:
    """Variadic parameters are held against their annotation one by one."""
    assert both_ways(variadic, 1, 2, 3, unit="kg") == (
        {"args": [1, 2, 3], "kwargs": {"unit": "kg"}},
        (1, 2, 3),
        {"unit": "kg"},
    )
    with pytest.raises(InvalidPayloadError, match=r"data\.rest\[1\] is \"x\""):
        of(variadic).data((1, 2, "x"), {})
    with pytest.raises(InvalidPayloadError, match=r"data\.unit is 5: give text"):
        of(variadic).data((1,), {"unit": 5})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 3000) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.sampled_from(["report", *of(plain).kinds]))
def test_any_data_is_taken_or_refused_by_name(value: Any, name: str) -> None:
    """Whatever JSON comes, the answer is typed arguments or an InvalidPayloadError that begins with the path."""
    for function, data in (
        (plain, {"year": 2026, name: value} if name != "report" else {"year": value}),
        (by_dataclass, {"year": 2026, "rows": value}),
        (by_dataclass, {"year": value, "format": value, "due": value}),
        (by_derived, {"year": value, "note": value}),
        (by_model, {"year": 2026, "rows": value, "due": value}),
    ):
        refused = "data"
        try:
            of(function).call([], data)
        except InvalidPayloadError as error:
            refused = str(error)
        assert refused.startswith(("data", "a key of data"))


def test_annotations_can_be_left_out_of_it() -> None:
    """What was written for RQ, which never looked at annotations, is called as it is."""
    schema = Schema.of(plain, skip_first=False, check=False)
    assert schema.call([], {"year": "2026"}) == (("2026",), {})
    assert Schema.of(by_dataclass, skip_first=False, check=False).whole is None


@pytest.mark.parametrize("data", [{"year": 1, "nothing": 2}, {}])
def test_a_call_the_function_cannot_take_is_a_type_error(data: dict[str, Any]) -> None:
    """Names come before types."""
    with pytest.raises(TypeError):
        of(plain).call([], data)
