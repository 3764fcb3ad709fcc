"""Label selectors: what is one, what it matches, what is refused and why."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_operator.metrics_api.selector import InvalidSelectorError, Operator, Requirement, Selector, parse

LABELS = {"queue": "reports", "namespace": "analytics", "n": "7"}

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,10}[A-Za-z0-9])?", fullmatch=True)
KEYS = st.one_of(
    NAMES, st.builds("{}/{}".format, st.from_regex(r"[a-z0-9]{1,5}(\.[a-z0-9]{1,5})?", fullmatch=True), NAMES)
)
VALUES = st.one_of(st.just(""), NAMES)
SPACE = st.text(alphabet=" \t", max_size=2)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, Requirement]:
    """Draw a requirement and one of the ways to write it."""
    key, a, b = draw(KEYS), draw(SPACE), draw(SPACE)
    operator = draw(st.sampled_from(Operator))
    match operator:
        case Operator.EXISTS:
            return f"{a}{key}{b}", Requirement(key, operator)
        case Operator.ABSENT:
            return f"{a}!{b}{key}", Requirement(key, operator)
        case Operator.IN | Operator.NOT_IN:
            values = draw(st.lists(VALUES, min_size=1, max_size=4))
            return f"{key} {operator}{a}({b}{f'{a},{b}'.join(values)})", Requirement(key, operator, frozenset(values))
        case Operator.GREATER | Operator.LESS:
            value = str(draw(st.integers(0, 2**63 - 1)))
            return f"{key}{a}{operator}{b}{value}", Requirement(key, operator, frozenset({value}))
        case Operator.EQUALS:
            value, sign = draw(VALUES), draw(st.sampled_from(["=", "=="]))
            return f"{key}{a}{sign}{b}{value}", Requirement(key, operator, frozenset({value}))
        case _:
            value = draw(VALUES)
            return f"{key}{a}!={b}{value}", Requirement(key, operator, frozenset({value}))


@given(st.lists(written(), max_size=4))
def test_what_is_written_is_what_is_read(parts: list[tuple[str, Requirement]]) -> None:
    """Each way to write a requirement reads as that requirement, joined by commas."""
    assert parse(",".join(text for text, _ in parts)) == Selector(tuple(one for _, one in parts))


@given(st.lists(written(), max_size=4))
def test_a_selector_reads_back_from_its_own_words(parts: list[tuple[str, Requirement]]) -> None:
    """Text of a selector is a selector, the same one; the HPA's request is such a text."""
    selector = Selector(tuple(one for _, one in parts))
    assert parse(str(selector)) == selector


@given(st.text(max_size=40) | st.text(alphabet="ab=!(),<> \tin", max_size=25))
def test_any_text_is_a_selector_or_refused_in_words(text: str) -> None:
    """Nothing crashes, nothing else is raised, and what is accepted can be written again."""
    selector = None
    with contextlib.suppress(InvalidSelectorError):
        selector = parse(text)
    assert selector is None or parse(str(selector)) == selector


@given(written(), st.dictionaries(KEYS, VALUES, max_size=3))
def test_each_negation_matches_what_the_other_does_not(part: tuple[str, Requirement], labels: dict[str, str]) -> None:
    """Equal and unequal, in and notin, exists and not: exactly one of both matches any labels."""
    _, one = part
    opposite = {Operator.EQUALS: Operator.NOT_EQUALS, Operator.IN: Operator.NOT_IN, Operator.EXISTS: Operator.ABSENT}
    if one.operator in opposite:
        other = Requirement(one.key, opposite[one.operator], one.values)
        for held in (labels, {**labels, one.key: next(iter(one.values), "x")}):
            assert one.matches(held) is not other.matches(held)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        (" ", True),
        ("queue=reports", True),
        ("queue==reports", True),
        ("queue=other", False),
        ("queue!=reports", False),
        ("queue!=other", True),
        ("absent!=x", True),
        ("absent=", False),
        ("queue in (a,reports)", True),
        ("queue in (a)", False),
        ("queue notin (a)", True),
        ("absent notin (a)", True),
        ("queue notin (reports , a)", False),
        ("queue", True),
        ("absent", False),
        ("!absent", True),
        ("!queue", False),
        ("n>6", True),
        ("n>7", False),
        ("n<8", True),
        ("queue>1", False),
        ("absent<1", False),
        ("queue=reports,namespace=analytics,!x", True),
        ("queue=reports,namespace=other", False),
        ("queue=default,tier in (a,b),!x", False),
        ("in in (in)", False),
        ("queue in (,reports)", True),
        ("queue in ()", False),
        ("queue notin ()", True),
    ],
)
def test_what_matches(text: str, expected: bool) -> None:
    """Every operator, alone and joined."""
    assert parse(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=a", "found '=', expected a key"),
        ("a,", "found the end, expected a key after ','"),
        (",a", "found ',', expected a key"),
        ("a b", "found 'b', expected one of"),
        ("a=b=c", "found '=', expected ',' or the end"),
        ("!a=b", "found '=', expected ',' or the end"),
        ("!", "found the end, expected a key"),
        ("a in", "found the end, expected '('"),
        ("a in (", "found the end"),
        ("a in (b", "expected ',' or ')'"),
        ("a in (b c)", "expected ',' or ')'"),
        ("a in b", "expected '('"),
        ("a>x", "is no whole number"),
        ("a>", "is no whole number"),
        ("a<9223372036854775808", "is no whole number"),
        ("a=b c", "found 'c'"),
        ("a=-b", "'-b' is no value of the label a"),
        ("a=" + "x" * 64, "is no value"),
        ("a" * 64, "is no label key"),
        ("/a", "is no label key"),
        ("UP/a", "is no label key"),
        ("a/b/c", "is no label key"),
        ("a=b\x00", "is no value"),
        ("a\N{NO-BREAK SPACE}=b", "is no label key"),
        ("x" * 8001, "at most 8000"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    """The message says where it stops being a selector."""
    with pytest.raises(InvalidSelectorError) as caught:
        parse(text)
    assert words in str(caught.value)
