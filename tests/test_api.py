"""The public names of the last release, their arguments and their defaults stay as they were."""

import json

import pytest

import jaxloss
from tests import record_api

RECORDED = json.loads(record_api.PATH.read_text())
CURRENT = record_api.current()


@pytest.mark.parametrize("name", RECORDED["names"])
def test_what_the_last_release_takes_is_still_taken(name):
    before, now = RECORDED["names"][name], CURRENT.get(name)
    assert now is not None, f"{name} is gone from the reference; see Compatibility in CONTRIBUTING.md"
    assert before.get("arguments", {}).items() <= now.get("arguments", {}).items()
    assert set(before.get("members", [])) <= set(now.get("members", []))
    positional = [[a for a, how in each.get("arguments", {}).items() if "positional" in how] for each in (before, now)]
    assert positional[0] == positional[1][: len(positional[0])], "the order of positional arguments has changed"
    new = now.get("arguments", {}).keys() - before.get("arguments", {}).keys()
    assert all("=" in now["arguments"][argument] for argument in new), "a new argument has no default"


def test_the_record_is_that_of_this_minor_version():
    """A release records its names: `python -m tests.record_api`."""
    assert RECORDED["version"].split(".")[:2] == jaxloss.__version__.split(".")[:2]
    assert len(RECORDED["names"]) > 100


def test_every_public_name_of_the_package_is_in_the_reference():
    shown = {name for name, value in vars(jaxloss).items() if not name.startswith("_") and callable(value)}
    assert shown <= CURRENT.keys()


def test_the_citation_and_the_changelog_name_the_version():
    root = record_api.PATH.parent.parent
    citation = (root / "CITATION.cff").read_text()
    assert f"\nversion: {jaxloss.__version__}\n" in citation
    date = citation.partition("date-released: ")[2].strip()
    assert f"\n## [{jaxloss.__version__}] - {date}\n" in (root / "CHANGELOG.md").read_text()
