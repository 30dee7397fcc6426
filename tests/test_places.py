"""Every place that must list a loss lists all of them, and a failure names the place.

The places are those in the list "A new loss" of CONTRIBUTING.md. Files are read, and nothing is compiled.
"""

import importlib
import inspect
import json
import pathlib
import pkgutil
import re

import optax.losses
import pytest

import jaxloss.losses
import jaxloss.plot
from benchmarks import formulas
from benchmarks.accuracy_cases import CASES
from jaxloss import imbalance
from tests import mutants
from tests.record_reference import PATH
from tests.registry import REGISTRY, SETS

pytestmark = pytest.mark.every_case
ROOT = pathlib.Path(__file__).parent.parent
# The losses of torch.nn.functional in PyTorch 2.13.
OF_TORCH = (
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy", "ctc_loss"),
    *("gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "linear_cross_entropy"),
    *("margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss"),
    *("nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss"),
    "triplet_margin_with_distance_loss",
)
IN_TORCH = {*OF_TORCH, "adaptive_log_softmax_with_loss"}  # the last only as a module
SECTIONS = ("Args", "Returns", "Raises", "Reference", "Example")
# These compute nothing that has a formula.
WITHOUT_FORMULA = (
    "data_checks",
    "kinks.resolve_width",
    "imbalance.BalancedSampler",
    "imbalance.BalancedSampler.init",
    "imbalance.BalancedSampler.draw",
)


def declared():
    """All functions made by `@loss`, with their names: those exported, and those in a module of losses."""
    modules = [module.name for module in pkgutil.iter_modules(jaxloss.losses.__path__, "jaxloss.losses.")]
    for module in (jaxloss, *map(importlib.import_module, modules)):
        for name, function in vars(module).items():
            if hasattr(function, "__declaration__") and not name.startswith("_"):
                yield name, function


DECLARED = dict(declared())
# Functions of a sample such as `target_score` have no reduction and are not losses.
LOSSES = [name for name, function in DECLARED.items() if "reduction" in inspect.signature(function).parameters]


def read(path):
    return (ROOT / path).read_text()


def section(path, heading):
    """The text under a heading of a Markdown file, up to the next heading of the same or a higher level."""
    level = heading.count("#")
    return re.search(rf"^{heading}\n(.*?)(?=^#{{1,{level}}} |\Z)", read(path), re.MULTILINE | re.DOTALL)[1]


def in_reference():
    """The public names on the pages of the reference, each with its page."""
    found = {}
    for path in sorted((ROOT / "docs/reference").glob("*.md")):
        for name, members in re.findall(
            r"^::: jaxloss\.([\w.]+)\n(?: +options:\n +members: \[(.*)\])?", path.read_text(), re.MULTILINE
        ):
            names = [f"{name}.{member}" for member in members.split(", ")] if members else [name]
            found |= dict.fromkeys(names, f"reference/{path.name}")
    return found


ADDED = "\n".join(re.findall(r"^### Added\n(.*?)(?=^##|\Z)", read("CHANGELOG.md"), re.MULTILINE | re.DOTALL))
GALLERIES = [
    cell for path in sorted(ROOT.glob("notebooks/2_gallery*.ipynb")) for cell in json.loads(path.read_text())["cells"]
]
RECORDED = {row["loss"] for row in json.loads(PATH.read_text())["rows"]}
REFERENCE = in_reference()
NAVIGATION = re.findall(r"^ +- (reference/\w+\.md)$", read("mkdocs.yml"), re.MULTILINE)
ROWS_OF_TORCH = re.findall(r"^\|[^|]*\|[^|]*\| `(\w+)\(", read("docs/from_pytorch.md"), re.MULTILINE)
ROWS_OF_OPTAX = re.findall(r"^\| `(\w+)\(", read("docs/from_optax.md"), re.MULTILINE)
NOT_YET = "\n".join(re.findall(r"^.*not available yet.*$", read("docs/from_optax.md"), re.MULTILINE))


def places(name):
    """Whether each place lists a function, by the message of a failure."""
    exported = {f"jaxloss/__init__.py does not export {name}": hasattr(jaxloss, name)}
    if name not in LOSSES:
        return exported
    rows = [row for row in (*REGISTRY, *SETS) if row.name == name]
    path, page = DECLARED[name].__module__.replace(".", "/") + ".py", REFERENCE.get(name)
    mutated = {re.split(r"[./]", module)[-1] for module in mutants.MODULES}
    plotted = "".join(line for cell in GALLERIES if cell["cell_type"] == "code" for line in cell["source"])
    found = exported | {
        f"tests/rows/ has no row for {name}": rows,
        f"CHANGELOG.md, section Unreleased, Added, lacks `{name}`": f"`{name}`" in ADDED,
        f"README.md, section Losses, lacks `{name}`": f"`{name}`" in section("README.md", "## Losses"),
        f"docs/reference/*.md lacks ::: jaxloss.{name}": page,
        f"mkdocs.yml, navigation, lacks {page}": not page or page in NAVIGATION,
        f"notebooks/2_gallery_continued.ipynb has no panel for {name}": re.search(rf"\bjaxloss\.{name}\b", plotted),
        f"docs/gallery.py has no picture of {name}": re.search(
            rf'^    "{name}": ', read("docs/gallery.py"), re.MULTILINE
        ),
        f"benchmarks/formulas.py lacks {name}": hasattr(formulas, name),
        f"benchmarks/accuracy_cases.py has no case for {name}": any(case.loss == name for case in CASES),
        f"tests/mutants.py does not mutate {path}": pathlib.Path(path).stem in mutated,
    }
    if name in IN_TORCH:
        found |= {
            f"docs/from_pytorch.md has no row for {name}": name in ROWS_OF_TORCH,
            f"tests/record_reference.py has no cases of {name}, or was not run": name in RECORDED,
        }
    else:
        message = f"tests/rows/: the rows of {name} need in_torch=False, as PyTorch lacks it"
        found |= {message: not any(row.in_torch for row in rows if row in REGISTRY)}
    if hasattr(optax.losses, name):
        found |= {
            f"docs/from_optax.md has no row for {name}": name in ROWS_OF_OPTAX,
            f"docs/from_optax.md says that {name} is not available": f"`{name}`" not in NOT_YET,
        }
    return found


@pytest.mark.parametrize("name", DECLARED)
def test_every_place_lists_the_function(name):
    lacking = [place for place, has in places(name).items() if not has]
    if lacking:
        pytest.fail("\n".join(lacking), pytrace=False)


def test_every_place_is_in_the_list_for_contributors():
    steps = section("CONTRIBUTING.md", "## A new loss")
    messages = {**places("huber_loss"), "jaxloss/losses/": True}
    paths = {re.match(r"[\w/.]+", message)[0] for message in messages}
    lacking = sorted(path for path in paths if f"`{path}`" not in steps)
    assert not lacking, f"CONTRIBUTING.md, section A new loss, lacks {lacking}"


def public():
    """Every public function and class, by full name."""
    modules = {
        name: value
        for name, value in vars(jaxloss).items()
        if name in ("kinks", "vectors", "imbalance", "miners", "decoding", "plot")
    }
    found = {name: value for name, value in vars(jaxloss).items() if callable(value) and not name.startswith("_")}
    for name, module in modules.items():
        here = {
            key: value
            for key, value in vars(module).items()
            if (getattr(value, "__module__", None) or "").startswith(module.__name__)
        }
        found |= {f"{name}.{key}": value for key, value in here.items() if callable(value) and key[0] != "_"}
    methods = {
        "imbalance.BalancedSampler.init": imbalance.BalancedSampler.init,
        "imbalance.BalancedSampler.draw": imbalance.BalancedSampler.draw,
        "AdaptiveSoftmax.init": jaxloss.AdaptiveSoftmax.init,
        "AdaptiveSoftmax.log_prob": jaxloss.AdaptiveSoftmax.log_prob,
        "AdaptiveSoftmax.predict": jaxloss.AdaptiveSoftmax.predict,
    }
    return found | methods


def missing_parts(name, docstring):
    """The parts that a docstring lacks."""
    if name.endswith("Options"):
        return [] if "Args:" in docstring else ["Args"]
    parts = [section for section in SECTIONS if f"{section}:\n" not in docstring]
    if "$" not in docstring and name not in WITHOUT_FORMULA:
        parts.append("its formula")
    if ">>>" not in docstring and "As the class" not in docstring:
        parts.append("an example that runs")
    return parts


@pytest.mark.parametrize("name", public())
def test_docstring_has_all_its_parts(name):
    parts = missing_parts(name, inspect.getdoc(public()[name]) or "")
    assert not parts, f"the docstring of {name} lacks {', '.join(parts)}"


def test_the_skeleton_for_contributors_is_complete():
    (skeleton,) = re.findall(r"```python\n(.*?)```", section("CONTRIBUTING.md", "## A new loss"), re.DOTALL)
    namespace = {}
    exec(skeleton, namespace)
    assert missing_parts("my_loss", inspect.getdoc(namespace["my_loss"])) == []


@pytest.mark.parametrize("name", public())
def test_the_reference_lists_the_name(name):
    owner = name.rpartition(".")[0]
    assert name in REFERENCE or owner in REFERENCE, f"docs/reference/*.md lacks ::: jaxloss.{name}"


def test_the_reference_lists_no_unknown_name():
    unknown = set(REFERENCE) - set(public()) - {"plot.STYLE"}
    assert not unknown, f"docs/reference/*.md names {sorted(unknown)}, which jaxloss lacks"


def test_the_navigation_lists_every_page_of_the_reference():
    lacking = {f"reference/{path.name}" for path in (ROOT / "docs/reference").glob("*.md")} - {*NAVIGATION}
    assert not lacking, f"mkdocs.yml, navigation, lacks {sorted(lacking)}"


def test_the_list_of_pytorch_losses_is_complete(torch):
    functional = torch.nn.functional
    named = {name for name in dir(functional) if "loss" in name or "entropy" in name or name == "kl_div"}
    assert {name for name in named if name[0] != "_"} == {*OF_TORCH}
