"""Every loss, compiled for a TPU that is not there: no loops over rows, few kernels, few temporaries, few bytes sent.

XLA:TPU computes a lookup or a scatter in a `vmap` as a loop over the rows, which takes a thousand times as long as
comparing with all classes. Only the compiled program shows it.
"""

import pytest

import jaxloss
from benchmarks.compiled import split_layers
from benchmarks.compiled_cases import axes_of, cases, is_in_chunks, realistic
from benchmarks.devices import DEVICES, compiled_for, estimates, mesh_of
from jaxloss._decorator.lift import declaration_of

TPU = DEVICES["tpu-v5e"]
pytestmark = [
    pytest.mark.every_platform,
    pytest.mark.skipif(not TPU.has_compiler, reason="needs the compiler for TPUs: pip install -e '.[compiled-tpu]'"),
]
ROWS = 1024
KERNELS, KERNELS_OF_LAYERS = 150, 3000
SLACK = 32 * 2**20
FEW_NUMBERS = 64  # bytes
# A step of a recursion over frames, which takes few numbers at a time.
KERNELS_OF_A_FRAME = 16
LARGER_TEMPORARIES = {
    # From bfloat16, XLA writes the logarithms of the probabilities in float32 for the value and the gradient.
    "softmax_focal_loss, soft targets (1024, 32000) bfloat16": 4 * 1024 * 32_000,
    # XLA copies the logits, and their gradient, into another layout.
    "rnnt_loss (8, 200, 500, 60) float32": 2.5 * 4 * 8 * 200 * 61 * 500,
}
# Arrays of 64 MiB or more, so that a copy in the temporaries exceeds the slack.
SIZES = {
    (): {"batch": 2**24},
    ("c",): {"batch": ROWS, "c": 32_000},
    ("d",): {"batch": ROWS, "d": 16_384},
    ("d", "c"): {"batch": ROWS, "d": 256, "c": 60_000},
    ("d", "c", "e"): {"batch": ROWS, "d": 256, "c": 60_000, "e": 256},
    ("d", "c", "k"): {"batch": ROWS, "d": 256, "c": 1000, "k": 64},  # no line by hand says what a layer may take
    ("n", "d", "c"): {"batch": 1, "n": 4096, "d": 128, "c": 60_000},
}


def sizes(name, pattern):
    if name == "multilabel_margin_loss":  # a loop over the list counts as if each list had all classes
        return ({"batch": ROWS, "c": 64},)
    if name.startswith("pairwise"):  # longer lists are a loop over some of their items at a time
        return ({"batch": 2 * ROWS, "k": 128},)
    if pattern.output:  # an array with an entry for each pair of items would take 256 MiB
        sorts = name == "semi_hard_triplet_loss"  # XLA:TPU takes minutes to compile the sort of a long row
        return ({"batch": 1, "n": 1024 if sorts else 8192, "d": 128},)
    typical = realistic(name, pattern)[0]
    return (SIZES.get(axes_of(pattern)) or {**typical, "batch": min(typical["batch"], ROWS)},)


@pytest.mark.parametrize("case", list(cases(sizes)), ids=lambda case: case.label)
def test_a_loss_has_few_kernels_and_temporaries_and_no_loop_over_rows(case):
    ours = estimate_of(case, "jaxloss")
    most = KERNELS_OF_LAYERS if is_in_chunks(case.pattern) else KERNELS
    if lengths := declaration_of(getattr(jaxloss, case.loss)).lengths:
        (sized,) = sizes(case.loss, case.pattern)
        most += KERNELS_OF_A_FRAME * sum(sized[axis] for axis in lengths.values())
    temporaries = SLACK + LARGER_TEMPORARIES.get(case.label, 0)
    # Lines for sets hold an entry for each pair of items, which ours must not.
    if ours.temporaries > temporaries and "by hand" in case.programs and not case.pattern.output:
        temporaries += 2 * estimate_of(case, "by hand").temporaries
    wrong = {
        f"a loop of {ours.steps} steps, and there are {ROWS} rows": ours.steps >= ROWS,
        f"{ours.kernels} kernels run, at most {most} may": ours.kernels > most,
        f"{ours.temporaries / 2**20:.0f} MiB of temporaries, of which {temporaries / 2**20:.0f} may be": (
            ours.temporaries > temporaries
        ),
        f"{ours.unknown} loops of unknown length": ours.unknown > 0,
    }
    if any(wrong.values()):
        pytest.fail("\n".join(message for message, is_wrong in wrong.items() if is_wrong), pytrace=False)


def estimate_of(case, candidate):
    function, arguments = case.programs[candidate]
    return estimates(TPU, compiled_for(TPU, function, arguments))[0]


SPLITS = ("rows split", "rows and classes split", "rows and classes split, axis_name")


@pytest.mark.parametrize("split", SPLITS)
def test_an_output_layer_on_a_mesh_sends_at_most_twice_what_full_logits_send(split):
    mesh = mesh_of(TPU, (4, 2), ("data", "model"))
    programs = dict(split_layers(mesh, 2048, 256, 16_384))[split]
    sent = {
        candidate: estimates(TPU, compiled_for(TPU, function, arguments, mesh))[0].sent
        for candidate, (function, arguments) in programs.items()
    }
    assert sent["jaxloss"] <= 2 * sent["by hand"] + FEW_NUMBERS
