"""Checks that the tests notice a change of any operator, constant, comparison or guard in these modules.

    python -m tests.mutants [module ...] [--workers N] [--sample N] [--list]

A mutant is a copy of the package with one change. Its tests run against it, the cheapest first, until one fails.
Mutants that change no value are listed, with the reason, in `equivalent_mutants.toml`.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor

from tests.mutations import PACKAGE, Mutant, mutants, path_of

TESTS = PACKAGE.with_name("tests")
EQUIVALENT = TESTS / "equivalent_mutants.toml"
SECONDS = 600  # a mutant that takes longer hangs, and counts as killed
LEAST_KILLED = 0.95
FAILED, INTERRUPTED, NO_TEST = 1, 2, 5  # pytest's exit codes; the second is for errors at import

OF_VECTORS = "triplet_margin or cosine_embedding"
OF_LAYERS = "linear_cross_entropy or adaptive_log_softmax"
# For each module, or for a function if that saves many tests: the test files about it, and the losses that use it. The
# rows of these losses are selected from the recorded values and from the registry.
CHOSEN = {
    "kinks": ("test_kinks", "l1_loss or hinge_embedding or margin_ranking"),
    "kinks:max": ("test_kinks or test_margin", "multilabel_margin"),
    "kinks:_max": ("test_kinks or test_margin", "triplet_margin_loss"),
    "_numerics": ("test_numerics", "mse_loss or margin_ranking or kl_div"),
    "_numerics:exp_minus_product": ("test_numerics", "poisson"),
    "_numerics:xlogx": ("test_numerics", "kl_div"),
    "_numerics:log_complement": ("test_numerics", "binary_cross_entropy"),
    "_numerics:weighted_squares": ("test_numerics", "expectile"),
    "_logistic": ("test_numerics", "soft_margin_loss or logits"),
    "_logistic:softplus_of_sum": ("test_contrastive or test_registry_sets", "proxy_anchor or multi_similarity"),
    "_special:log_ratio": ("test_special", "negative_binomial"),
    "_special:excess_of_log1p": ("test_special", "negative_binomial"),
    "_positive:divided": ("test_registry_sets", "nce"),
    "_positive:tempered": ("test_distillation or test_log_probability", "jensen_shannon or linear_log_probability"),
    "_positive": ("test_numerics", "gamma or tweedie or negative_binomial"),
    "_stirling": ("test_special", "negative_binomial"),
    "_special:small_exp_excess": ("test_distillation", "distillation_loss"),
    "_special": ("test_special", "log_cosh or squared_logarithmic or generalized_kl"),
    "_scaling": ("test_vectors", OF_VECTORS),
    "_scaling:above_root": ("test_vectors or (test_export and root)", OF_VECTORS),
    "_sizes": ("test_export and not any_size", "mse_loss"),
    "_compensated": ("test_reductions or test_accumulation", "mse_loss"),
    "reductions": ("test_reductions", "l1_loss or nll_loss"),
    "vectors": ("test_vectors", OF_VECTORS),
    "vectors:cosine_similarity": ("test_vectors and cosine", "cosine_embedding"),
    "losses.regression": ("test_recorded and (mse_loss or l1_loss)", "mse_loss or l1_loss or huber"),
    "losses.regression:huber": ("test_regression or (test_recorded and huber)", "huber"),
    "losses.regression:smooth_l1": ("test_recorded and smooth_l1", "smooth_l1"),
    "losses.rates": ("test_likelihood", "gamma or tweedie"),
    "losses.divergences": ("test_likelihood", "generalized_kl"),
    "losses.scores": ("test_scores", "crps or energy_score"),
    "_ensembles": ("test_scores", "crps or energy_score"),
    "_divergence": ("test_likelihood", "generalized_kl"),
    "_likelihoods": ("test_likelihood", "gamma or tweedie or negative_binomial"),
    "losses.ranking": ("test_ranking", "ranking_softmax or listmle or pairwise"),
    "_ordered": ("test_ranking", "listmle"),
    "_order": ("test_ranking or test_scores", "listmle or crps or lovasz"),
    "_pairs": ("test_ranking", "pairwise"),
    "_few_at_once": ("test_ranking", "pairwise"),
    "_dcg": ("test_ranking", "pairwise"),
    "losses.sequence": ("test_sequence", "ctc_loss or rnnt_loss"),
    "decoding": ("test_decoding", "ctc_loss"),
    "_ctc": ("test_sequence or test_decoding", "ctc_loss"),
    "_transducer": ("test_sequence", "rnnt_loss"),
    "_log_sums": ("test_sequence", "ctc_loss or rnnt_loss"),
    "losses.log_probability": ("test_log_probability", "linear_cross_entropy"),
    "losses.distillation": ("test_distillation", "distillation_loss or jensen_shannon"),
    "losses.linear_distillation": ("test_distillation", "linear_distillation"),
    "_entropy": ("test_log_probability or test_distillation", "distillation or jensen_shannon"),
    "losses.preference": ("test_preference", "dpo or ipo or simpo or orpo or kto or bradley_terry"),
    "_odds": ("test_preference", "orpo"),
    "losses.policy": ("test_policy", "clipped_policy"),
    "losses.counts": ("test_likelihood", "negative_binomial"),
    "losses.quantiles": ("test_regression", "quantile or expectile"),
    "losses.relative": ("test_regression", "percentage or squared_logarithmic"),
    "losses.robust": ("test_regression", "log_cosh or general_robust"),
    "_general_robust": ("test_robust", "general_robust"),
    "losses.likelihood": ("test_likelihood", "poisson or gaussian or kl_div"),
    "losses.likelihood:gaussian": ("test_likelihood", "gaussian"),
    "losses.margin": ("test_margin", "margin or hinge"),
    "_special:power": ("test_special", "focal"),
    "_special:logistic": ("test_special", "focal or asymmetric"),
    "_special:complement": ("test_special", "softmax_focal"),
    "_special:unless_0": ("test_special", "focal"),
    "_special:log_sum": ("test_special", "asymmetric"),
    "_special:missing_power": ("test_special", "generalized_cross_entropy"),
    "_special:near_zero": ("test_special", "generalized_cross_entropy"),
    "_special:taylor": ("test_special", "generalized_cross_entropy"),
    "_special:nearest_in_simplex": ("test_special", "multiclass_sparsemax"),
    "losses.focal": ("test_focal", "sigmoid_focal or asymmetric"),
    "losses.class_probability": ("test_focal", "softmax_focal or poly_loss or generalized_cross_entropy"),
    "losses.simplex": ("test_simplex", "sparsemax or fenchel"),
    "losses.ordinal": ("test_ordinal", "coral"),
    "losses.hinge": ("test_hinge", "hinge_loss or perceptron"),
    "losses.multilabel": ("test_margin", "multilabel"),
    "losses.angular": ("test_angular", "arcface or cosface"),
    "_angles": ("test_angular", "arcface"),
    "losses.self_supervised": ("test_self_supervised", "barlow or vicreg"),
    "_moments": ("test_self_supervised", "barlow or vicreg"),
    "losses.embedding": ("test_vectors and triplet", OF_VECTORS),
    "losses.contrastive": ("test_registry_sets or test_contrastive", "nce or siglip"),
    "losses.labelled_contrastive": ("test_registry_sets", "ntxent or supcon"),
    "_two_directions": ("test_two_directions", "info_nce"),
    "_ring": ("test_contrastive", "nce or siglip"),
    "_labelled_items": ("test_items or test_registry_sets", "ntxent or circle"),
    "losses.similarity": ("test_registry_sets", "multi_similarity or circle"),
    "losses.mining": ("test_registry_sets", "triplet"),
    "losses.proxy": ("test_contrastive", "proxy_anchor"),
    "_sets": ("test_items or test_registry_sets or test_contrastive", "proxy_anchor or nce or ntxent"),
    "_distances": ("test_registry_sets", "semi_hard"),
    "_hard_pairs": ("test_registry_sets or test_miners", "batch_hard"),
    "_directions": ("test_vectors", OF_VECTORS),
    "_exp_sums": ("test_exp_sums or test_registry_sets", "ntxent"),
    "miners": ("test_miners", "batch_hard"),
    "_box_geometry": ("test_boxes", "box_iou"),
    "_kept_gradient": ("test_boxes or test_focal", "box_iou or focal"),
    "losses.boxes": ("test_boxes", "box_iou"),
    "losses.segmentation": ("test_segmentation", "tversky or dice or jaccard or lovasz"),
    "losses.classification": ("test_likelihood", "cross_entropy and not linear"),
    "losses.classification:nll": ("test_likelihood", "nll_loss and not poisson and not gaussian"),
    "losses.classification:binary_cross_entropy": ("test_likelihood", "binary_cross_entropy"),
    "losses.softmax": ("test_softmax or test_likelihood or test_split_classes", "cross_entropy"),
    "losses.large_output": ("test_large_output", "linear_cross_entropy"),
    "losses.large_output:adaptive_log_softmax_with_loss": ("test_adaptive_softmax", "adaptive_log_softmax"),
    "losses.large_output:sorted_layers": ("test_adaptive_softmax", "adaptive_log_softmax"),
    "losses.large_output:permuted": ("test_adaptive_softmax", "adaptive_log_softmax"),
    "_class_axis": ("test_split_classes", "cross_entropy"),
    "_class_axis:others": ("test_angular", "cosface"),
    "_label_lists": ("test_label_lists", "multilabel_margin"),
    "_numerics:surprise": ("test_softmax", "cross_entropy"),
    "_numerics:total": ("test_softmax", "cross_entropy"),
    "_lookup": ("test_lookup or test_softmax", "nll_loss or multilabel_margin or from_top_k"),
    "imbalance": ("test_imbalance", "nll_loss"),
    "_balanced_sampler": ("test_imbalance", "nll_loss"),
    "_large_output.adaptive": ("test_adaptive_softmax", "adaptive_log_softmax"),
    "_large_output.chunked": ("test_large_output", OF_LAYERS),
    "_large_output.cutoffs": ("test_adaptive_softmax and (cutoffs or errors)", "adaptive_log_softmax"),
    "_large_output.layer": ("test_large_output or test_split_classes", OF_LAYERS),
    "_large_output.loops": (
        "test_large_output or test_adaptive_softmax or ((test_sharding or test_export) and chunks)",
        OF_LAYERS,
    ),
    "_large_output.second": ("test_distillation", "linear_distillation"),
    "_large_output.matmul": ("test_matmul or test_large_output or (test_export and chunks)", OF_LAYERS),
    "_large_output.tiling": ("test_large_output and (chunks or loops)", OF_LAYERS),
    "_large_output.parameter_checks": ("test_adaptive_softmax and errors", "adaptive_log_softmax"),
}
MODULES = tuple(key for key in CHOSEN if ":" not in key)


def named(name: str) -> str | None:
    """The module with this name. Folders and underscores may be left out."""
    found = [module for module in MODULES if name in (module, module.rpartition(".")[2].lstrip("_"))]
    return found[0] if found else None


def stages(mutant: Mutant) -> list[tuple[str, ...]]:
    """Arguments of pytest: first the tests of the module itself, then the rows that use it, last the full matrix."""
    module, public = mutant.module, re.sub(r"^_|(_jvp|_forward|_backward)?$", "", mutant.function)
    names = (f"{module}:{mutant.function}", f"{module}:{public.removesuffix('_loss')}", f"{module}:{public}", module)
    own, losses = CHOSEN[next(name for name in names if name in CHOSEN)]
    if module in ("losses.margin", "losses.likelihood") and mutant.function.endswith(("_loss", "_div")):
        losses = mutant.function  # only this loss needs its kernel
    paths = [str(TESTS / f"{file}.py") for file in re.findall(r"test_\w+", own)]
    rows = [str(TESTS / "test_recorded.py"), *map(str, sorted(TESTS.glob("test_registry_*.py")))]
    return [(*paths, "-k", f"jaxloss.{module} or ({own})"), (*rows, "-k", losses), (*rows, "-k", losses, "--full")]


def run_tests(folder: str, arguments: tuple[str, ...]) -> None:
    """Runs the tests of the working tree against the package in the folder; called in a separate process."""
    import pytest

    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        sys.path.insert(0, folder)
        __import__("jaxloss")
        sys.exit(int(pytest.main(["-x", "-n", "0", "-p", "no:cacheprovider", *arguments])))


def passes(context: multiprocessing.context.ForkServerContext, mutant: Mutant) -> bool:
    """Whether a mutant passes all of its tests."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, f"{folder}/jaxloss")
        path = path_of(mutant.module, pathlib.Path(folder, "jaxloss"))
        path.write_text(mutant.source)
        for arguments in stages(mutant):
            process = context.Process(target=run_tests, args=(folder, (str(path), *arguments)))
            process.start()
            process.join(SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
                return False
            if process.exitcode == NO_TEST:
                raise RuntimeError(f"no test is chosen by {arguments}")
            if process.exitcode in (FAILED, INTERRUPTED):
                return False
            if process.exitcode != 0:
                raise RuntimeError(f"pytest {arguments} of {mutant} ended with exit code {process.exitcode}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether the tests notice each change of the package.")
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="module", help=", ".join(MODULES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sample", type=int, help="check this many mutants per module, drawn at random")
    parser.add_argument("--function", help="only the mutants of this function, its rules included")
    parser.add_argument("--list", action="store_true", help="only say what the mutants are")
    options = parser.parse_args()
    unknown = {name for name in options.modules if not named(name)}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; it takes {', '.join(MODULES)}")

    from rich.progress import Progress

    # Forked from a process that has imported the shared modules, which saves two seconds per mutant.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jax.test_util", "jax.experimental.checkify", "pytest"])
    listed = tomllib.loads(EQUIVALENT.read_text())
    killed = total = 0
    with Progress() as progress, ThreadPoolExecutor(options.workers) as pool:
        say = functools.partial(progress.print, markup=False, highlight=False, soft_wrap=True)
        for module in map(named, options.modules):
            equivalent = {(entry["before"], entry["after"]) for entry in listed.get(module, ())}
            every = list(mutants(module))
            for before, after in equivalent - {(m.before, m.after) for m in every}:
                say(f"{module}: no longer a mutant: {before}  ->  {after}")
            chosen = [m for m in every if (m.before, m.after) not in equivalent]
            if options.function:
                chosen = [m for m in chosen if m.function.strip("_").startswith(options.function.strip("_"))]
            if options.sample is not None:
                chosen = random.Random(0).sample(chosen, min(options.sample, len(chosen)))
            if options.list:
                for mutant in chosen:
                    say(str(mutant))
                continue
            task = progress.add_task(module, total=len(chosen))
            survivors = 0
            for mutant, survives in zip(chosen, pool.map(functools.partial(passes, context), chosen), strict=True):
                if survives:
                    survivors += 1
                    say(str(mutant))
                progress.advance(task)
            if not survivors and not passes(context, unchanged(module)):
                raise RuntimeError(f"{module}: its tests fail without a change as well: {stages(unchanged(module))}")
            killed, total = killed + len(chosen) - survivors, total + len(chosen)
            say(f"{module}: {len(chosen) - survivors} of {len(chosen)} killed, {len(equivalent)} more are equivalent")
    return int(killed < LEAST_KILLED * total)


def unchanged(module: str) -> Mutant:
    return Mutant(module, "", 0, "", "", path_of(module).read_text())


if __name__ == "__main__":
    sys.exit(main())
