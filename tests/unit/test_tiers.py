"""``make test`` says what it lacks before it runs anything, and leaves nothing out by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("bash", "dirname", "grep", "cat")


def run(folder: Path, tiers: str, *, user: int = 1000, programs: Iterable[str] = NEEDED) -> tuple[int, str]:
    """Run the script on a machine that has these programs, and where ``id`` names this user."""
    for name in programs:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    (folder / "id").write_text(f"#!{shutil.which('bash')}\necho {user}\n")
    (folder / "id").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HEAVYLIFT_")}
    environment |= {"PATH": str(folder), "TIERS": tiers}
    script = str(ROOT / "scripts" / "test.sh")
    done = subprocess.run(
        [str(folder / "bash"), script], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tiers", "words"),
    [
        ("check unit integration e2e", "redis-server"),
        ("e2e", "the e2e tier starts a kubelet and needs root (or HEAVYLIFT_E2E_KUBECONFIG)"),
        ("e2e", "run: make test TIERS='check unit integration'"),
        ("unit nightly", "no tier 'nightly': there are check, unit, integration and e2e"),
    ],
)
def test_what_is_lacking_is_said_first(tmp_path: Path, tiers: str, words: str) -> None:
    """One line that names what is missing and which tiers go without it; no tier was run, none was skipped."""
    code, said = run(tmp_path, tiers)
    assert code == 1
    assert words in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_with_redis_only_the_last_tier_lacks_root(tmp_path: Path) -> None:
    """Whoever is not root and has a Redis learns of the cluster before the first of four tiers begins."""
    (tmp_path / "redis-server").symlink_to(tmp_path / "bash")
    code, said = run(tmp_path, "check unit integration e2e")
    assert (code, said.count("\n")) == (1, 1)
    assert "needs root" in said
