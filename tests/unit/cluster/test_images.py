"""Images without a registry: what makes one to be built again, and what an archive holds."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster import buildah, images, ociarchive
from tests.cluster.buildah import Recipe
from tests.cluster.errors import ClusterError
from tests.cluster.paths import PROJECT

DOCKERFILE = 'ARG BASE\nFROM ${BASE}\nARG PIP_INDEX_URL PIP_CERT="x"\nCOPY app /app\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Give a recipe with one folder of input beside things that are none."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    (tmp_path / "app" / "main.py").write_text("print(1)\n")
    (tmp_path / "app" / "__pycache__" / "main.pyc").write_text("x")
    (tmp_path / "other").write_text("not read")
    return Recipe(tmp_path / "Dockerfile", tmp_path, ["app"], {"BASE": "base:1"})


def test_an_image_is_built_again_when_something_it_reads_changes(recipe: Recipe) -> None:
    """Content, rights, Dockerfile and arguments count; other files and compiled Python do not."""
    key = buildah.key_of(recipe)
    (recipe.context / "other").write_text("changed")
    (recipe.context / "app" / "__pycache__" / "main.pyc").write_text("changed")
    assert buildah.key_of(recipe) == key
    assert buildah.key_of(Recipe(recipe.dockerfile, recipe.context, recipe.inputs, {"BASE": "base:2"})) != key
    (recipe.context / "app" / "main.py").chmod(0o755)
    changed = buildah.key_of(recipe)
    assert changed != key
    (recipe.context / "app" / "main.py").write_text("print(2)\n")
    assert buildah.key_of(recipe) not in {key, changed}


def test_a_missing_input_is_named(recipe: Recipe) -> None:
    """A list that names what is not there is told from an empty one."""
    with pytest.raises(ClusterError, match=r"its input .*gone does not exist"):
        buildah.key_of(Recipe(recipe.dockerfile, recipe.context, ["gone"], {}))


def test_the_build_sees_its_inputs_alone(recipe: Recipe, tmp_path: Path) -> None:
    """The staged context holds the Dockerfile and the inputs, all with one time stamp."""
    target = tmp_path / "staged"
    target.mkdir()
    buildah.stage(recipe, target)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == [".Dockerfile", "app/main.py"]
    assert {path.stat().st_mtime for path in target.rglob("*")} == {1577836800}


def test_arguments_are_read_from_the_dockerfile() -> None:
    """Several names on a line and defaults are understood; only declared ones are handed to a build."""
    assert buildah.declared_args(DOCKERFILE) == {"BASE", "PIP_INDEX_URL", "PIP_CERT"}


def test_pips_settings_come_from_the_environment_before_the_files(tmp_path: Path) -> None:
    """How pip reaches its index is handed to builds; what is a path on this machine is not."""
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://a.invalid/simple\nproxy = p:1\nfind-links = /w\n")
    environ = {"PIP_INDEX_URL": "https://b.invalid/simple", "PIP_FIND_LINKS": "/w"}
    found = buildah.pip_settings(environ, [tmp_path / "pip.conf", tmp_path / "none"])
    assert found == {"PIP_INDEX_URL": "https://b.invalid/simple", "PIP_PROXY": "p:1"}


def test_the_list_of_images_is_sound() -> None:
    """Every image of the repository's list has its Dockerfile and its inputs."""
    for image in images.listed().values():
        recipe = Recipe(PROJECT / image.dockerfile, PROJECT, image.inputs, {})
        assert len(buildah.key_of(recipe)) == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[a]\ndockerfile = "D"\nbase = "b"\n[b]\ndockerfile = "D"\n', "the base 'b' of a must stand before it"),
        ("[a]\ninputs = []\n", "KeyError"),
        ("[a", "images.toml"),
        ("a = 1\n", "TypeError"),
    ],
)
def test_a_wrong_list_says_what_is_wrong(text: str, words: str, tmp_path: Path) -> None:
    """A base must stand before what stands on it, and each image needs a Dockerfile."""
    (tmp_path / "images.toml").write_text(text)
    with pytest.raises(ClusterError, match=words):
        images.listed(tmp_path / "images.toml")


def test_an_unknown_image_is_refused_with_the_known_ones() -> None:
    """A slip of the pen is answered by the list."""
    with pytest.raises(ClusterError, match=r"no image 'heavylfit' in .*there are heavylift"):
        images.build_listed(["heavylfit"], print)


def test_an_archive_holds_what_it_says(tmp_path: Path) -> None:
    """Index, manifest, configuration and layer refer to each other by digest and size, and the name stands in it."""
    path = tmp_path / "image.tar"
    ociarchive.write(images.busybox_image(b"program"), path)
    with tarfile.open(path) as tar:
        blobs = {name: (tar.extractfile(name) or io.BytesIO()).read() for name in tar.getnames()}
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    top = json.loads(blobs["index.json"])["manifests"][0]
    assert top["annotations"]["io.containerd.image.name"] == images.BUSYBOX_IMAGE
    manifest = json.loads(blobs[f"blobs/sha256/{top['digest'].removeprefix('sha256:')}"])
    layer = blobs[f"blobs/sha256/{manifest['layers'][0]['digest'].removeprefix('sha256:')}"]
    assert len(layer) == manifest["layers"][0]["size"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert (tar.extractfile("bin/busybox") or io.BytesIO()).read() == b"program"
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the moment or the machine gets into an archive, so that its digest names its content."""
    for name in ("one", "two"):
        ociarchive.write(images.busybox_image(b"program"), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
