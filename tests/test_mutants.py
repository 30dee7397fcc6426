"""The mutation check covers every module that computes."""

import re
import tomllib

from tests.mutants import CHOSEN, EQUIVALENT, MODULES, TESTS, named
from tests.mutations import PACKAGE, mutants, path_of

# These have tests of their own: they pass arrays on, or report errors.
COMPUTE_NOTHING = (
    *("__init__", "__main__", "_demo", "_arrays", "_data_checks", "_errors", "_interval", "_sharding", "options"),
    *("_pytree", "plot", "_accumulation", "_decorator"),
)


def test_each_module_that_computes_is_known():
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    modules = {".".join(path.parts) for path in paths if path.name != "__init__"}
    expected = {module for module in modules if module.partition(".")[0] not in COMPUTE_NOTHING}
    assert expected == set(MODULES), "tests/mutants.py says in CHOSEN which tests concern each module"


def test_the_chosen_tests_exist():
    for own, _ in CHOSEN.values():
        files = re.findall(r"test_\w+", own)
        assert files
        assert all((TESTS / f"{file}.py").exists() for file in files), own
    assert {key.partition(":")[0] for key in CHOSEN} == set(MODULES)


def test_modules_may_be_named_without_their_folders():
    assert [named(module.rpartition(".")[2].lstrip("_")) for module in MODULES] == list(MODULES)
    assert named("nothing") is None


def test_equivalent_mutants_still_exist_in_their_modules():
    for module, entries in tomllib.loads(EQUIVALENT.read_text()).items():
        source = " ".join(path_of(module).read_text().split())
        for entry in entries:
            assert " ".join(entry["before"].split()) in source, f"{module}: {entry['before']}"


def test_a_mutant_is_the_module_with_one_change():
    every = list(mutants("losses.regression"))
    assert len({mutant.source for mutant in every}) > 20
    original = path_of("losses.regression").read_text().splitlines()
    for mutant in every:
        changed = [one for one, other in zip(mutant.source.splitlines(), original, strict=True) if one != other]
        assert len(changed) == 1
