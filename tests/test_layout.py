"""The architecture: imports point downwards, files stay short, and the package exports only its public names."""

import ast
import graphlib
import pathlib
import re

import pytest

import jaxloss

PACKAGE = pathlib.Path(jaxloss.__file__).parent
# From top to bottom: a module imports only from its own layer or from lower layers.
LAYERS = (
    ("__main__",),
    ("_demo", "plot"),
    ("__init__",),
    ("losses",),
    ("_distances", "miners", "decoding"),
    ("_hard_pairs",),
    ("_labelled_items", "_two_directions"),
    ("_sets",),
    ("_large_output", "_decorator", "_accumulation"),
    ("options",),
    ("reductions", "imbalance", "_balanced_sampler"),
    ("_ensembles", "_moments"),
    ("vectors", "_box_geometry", "_angles", "_ring"),
    ("_directions",),
    ("_scaling",),
    ("kinks",),
    (
        "_ctc",
        "_transducer",
        "_log_sums",
        "_general_robust",
        "_likelihoods",
        "_divergence",
        "_ordered",
        "_pairs",
        "_dcg",
        "_odds",
        "_entropy",
    ),
    ("_special", "_positive", "_stirling", "_kept_gradient"),
    (
        "_numerics",
        "_few_at_once",
        "_compensated",
        "_exp_sums",
        "_logistic",
        "_class_axis",
        "_lookup",
        "_label_lists",
        "_data_checks",
    ),
    ("_sharding", "_errors"),
    ("_arrays", "_interval", "_order", "_pytree", "_sizes"),
)
ABOVE_LOSSES = ("losses", "__init__", "__main__", "_demo")


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def top_level(module):
    return module.partition(".")[0]


def layer(module):
    (at,) = (i for i, names in enumerate(LAYERS) if top_level(module) in names)
    return at


def imported(module):
    """The modules of the package that a module imports, at any place."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "jaxloss":
            inside = node.module.partition(".")[2]
            for alias in node.names:
                name = f"{inside}.{alias.name}".lstrip(".")
                yield name if name in MODULES else inside or "__init__"
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] or "__init__" for alias in node.names if alias.name == "jaxloss")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    for other in imported(module):
        assert layer(other) >= layer(module), f"{module} imports {other}, which lies above it"
        assert top_level(other) != "losses" or top_level(module) in ABOVE_LOSSES, f"{module} imports {other}"
        assert {"_decorator", "_large_output"} != {top_level(module), top_level(other)}, f"{module} imports {other}"


def test_imports_have_no_cycle():
    graphlib.TopologicalSorter({module: set(imported(module)) - {module} for module in MODULES}).prepare()


def test_files_have_at_most_300_lines():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_the_package_exports_only_its_public_modules():
    modules = {"decoding", "imbalance", "kinks", "losses", "miners", "options", "reductions", "vectors", "plot"}
    shown = {name for name in dir(jaxloss) if not name.startswith("_")}
    named = {name for name in shown if callable(getattr(jaxloss, name))}
    assert shown - named <= modules


def test_the_readme_of_the_decorator_names_what_exists():
    named = re.findall(r"`(\w+)\.(\w+)(?:\.(\w+))?`", (PACKAGE / "_decorator/README.md").read_text())
    assert len(named) > 10
    for first, second, third in (each for each in named if each[1] != "py"):
        owners = [f"_decorator.{first}", first, "_decorator.call", "_decorator.masks", "_decorator.lift"]
        texts = [(PACKAGE / f"{owner.replace('.', '/')}.py").read_text() for owner in owners if owner in MODULES]
        assert any(f"def {third or second}(" in text or f"class {third or second}" in text for text in texts), second
