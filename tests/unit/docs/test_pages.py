"""The pages hang together: links lead somewhere, examples are what they claim to be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from heavylift.contract.outcomes import CONFIGURABLE
from heavylift.spec import HeavyQueue, default_rules, rules_from_settings, settings

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the page's code blocks of one language."""
    for found, text in _BLOCK.findall(page.read_text()):
        if found == language:
            yield text


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@pages
def test_each_link_leads_to_a_file_and_heading_of_the_repository(page: Path) -> None:
    """Links inside the repository are relative and resolve."""
    for link in _LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page

        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_each_page_of_the_docs_can_be_reached_from_their_index() -> None:
    """Following links from docs/README.md finds every page below docs/."""
    found, todo = set[Path](), [ROOT / "docs" / "README.md"]
    while todo:
        page = todo.pop()
        if page in found or page.suffix != ".md" or not page.exists():
            continue
        found.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(page.read_text()) if "://" not in link)
        todo += [(page.parent / link).resolve() for link in links if link]

    assert set((ROOT / "docs").rglob("*.md")) - found == set()


@pages
def test_python_examples_parse(page: Path) -> None:
    """Each block marked as Python is Python."""
    for text in blocks(page, "python"):
        ast.parse(text)


@pages
def test_heavyqueues_in_the_docs_are_valid(page: Path) -> None:
    """Each whole HeavyQueue is accepted as it stands; each fragment of a spec, in a whole one."""
    for text in blocks(page, "yaml"):
        for found in yaml.safe_load_all(text):
            if found.get("kind") == "HeavyQueue":
                HeavyQueue.parse(found)
            elif set(found) <= {"outcomes", "allow", "retention"}:
                HeavyQueue.parse(_whole(found))


def _whole(spec: dict[str, object]) -> dict[str, object]:
    """Return a HeavyQueue around a fragment of its spec."""
    pod = {"containers": [{"name": "main", "image": "x"}]}
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {"name": "q"},
        "spec": {**spec, "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    }


def test_what_the_guide_to_queues_tells_to_write_is_accepted() -> None:
    """Each field in the table of docs/how-to/configure-a-queue.md."""
    text = (ROOT / "docs" / "how-to" / "configure-a-queue.md").read_text()
    fields = re.findall(r"^\| [^|]+\| `(\w+: [^`]+)`", text, re.MULTILINE)

    assert len(fields) > 8
    for field in fields:
        if not field.startswith("jobTemplate"):
            HeavyQueue.parse(_whole(yaml.safe_load(field)))


def test_the_rules_shown_are_the_default_ones() -> None:
    """The guide to queues shows what a HeavyQueue without rules means."""
    page = ROOT / "docs" / "how-to" / "configure-a-queue.md"
    shown = next(found for found in map(yaml.safe_load, blocks(page, "yaml")) if "outcomes" in found)

    assert rules_from_settings(settings(HeavyQueue.parse(_whole(shown)))) == default_rules()
    assert set(shown["outcomes"]) == {each.spec_key for each in CONFIGURABLE}


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog: a section for what is not released, with its known kinds of change."""
    text = (ROOT / "CHANGELOG.md").read_text()

    assert "## [Unreleased]" in text
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
