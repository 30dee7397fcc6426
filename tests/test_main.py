"""`python -m jaxloss`, run as a user runs it."""

import signal
import subprocess
import sys

import jax
import pytest

from jaxloss.__main__ import main
from jaxloss._demo import TASKS
from tests.drawing import full_only

HANGS = 600  # seconds; a busy machine takes far less
COMMAND = [sys.executable, "-m", "jaxloss"]
BLOCKED = "import sys; sys.modules.update(dict.fromkeys({names})); import runpy; sys.argv = {argv}; "
BLOCKED += "runpy.run_module('jaxloss', run_name='__main__', alter_sys=True)"


def run(*arguments, command=COMMAND):
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=HANGS)


def blocked(names, *arguments):
    """Runs the command with these modules missing."""
    return run(command=[sys.executable, "-c", BLOCKED.format(names=names, argv=["jaxloss", *arguments])])


def test_trains_and_reports(tmp_path):
    done = run("--losses", "cross_entropy", "--epochs", "1", "--out", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert "balanced accuracy" in done.stdout
    rows = rows_of(done.stdout)
    assert list(rows) == ["(untrained)", "cross_entropy"]
    assert rows["cross_entropy"][0] > 50 > rows["(untrained)"][0]
    assert (tmp_path / "new" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def rows_of(printed):
    """The numbers in each row of the tables, by the name of the loss."""
    cells = [[cell.strip(" %") for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    return {name: [float(number) for number in numbers if number] for name, *numbers in cells}


# What one epoch is expected to reach at least, or at most if less is better, and a loss of few seconds.
REACHED = {
    "imbalance": ("imbalanced_weighted", 25.0),
    "segmentation": ("lovasz_hinge_loss", 30.0),
    "embedding": ("supcon_loss", 60.0),
    "ranking": ("lambdarank", 40.0),
    "language": ("linear_cross_entropy", -200.0),
}


# Ranking takes 2 seconds, and the others up to 6.
TASKS_TO_TRY = ["ranking", *(pytest.param(task, marks=full_only) for task in REACHED if task != "ranking")]


@pytest.mark.parametrize("task", TASKS_TO_TRY)
def test_an_epoch_of_a_task_improves_what_it_measures(task, tmp_path, capsys):
    loss, bound = REACHED[task]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert main(["--task", task, "--losses", loss, "--epochs", "1", "--out", str(tmp_path)]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert list(rows) == ["(untrained)", loss]
    sign = 1 if TASKS[task].shares else -1
    untrained, trained = (sign * rows[name][0] for name in rows)
    assert trained > bound > untrained
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_each_task_has_a_test():
    assert set(TASKS) == {*REACHED, "classification"}


def test_a_loss_of_another_task_is_reported_with_the_task(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["--task", "ranking", "--losses", "supcon_loss"])
    error = capsys.readouterr().err
    known = "mse_loss, ranking_softmax_loss, listmle_loss, pairwise_hinge_loss, pairwise_logistic_loss, lambdarank"
    expected = f"there is no 'supcon_loss' (but --task embedding has); ranking has {known}\n"
    assert error == f"python -m jaxloss: argument --losses: {expected}"


def test_the_catalogue_needs_no_extra():
    done = blocked(["matplotlib", "optax", "rich", "sklearn"], "--list")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 7
    assert "huber_loss" in done.stdout
    assert "Squared error." in done.stdout
    assert "Losses of boxes, for object detection" in done.stdout.splitlines()


def test_the_catalogue_finds_words_of_names_and_of_docstrings(capsys):
    families = ["Losses of sequences of labels whose alignment with the frames is not known"]
    assert main(["--list", "RNN-T"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:1] == families
    assert [line.split()[0] for line in lines[1:]] == ["rnnt_loss"]
    assert main(["--list", "simclr"]) == 0
    assert "ntxent_loss" in capsys.readouterr().out
    assert main(["--list", "no such word"]) == 1
    assert capsys.readouterr().err == "python -m jaxloss: no loss mentions 'no such word'; --list alone shows all\n"


def test_missing_extras_are_reported_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "optax", None)
    assert main(["--out", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == "python -m jaxloss: needs optax; pip install 'jaxloss[demo]', or '.[demo]' in a clone\n"
    )


BAD_OPTIONS = [
    ("--epochs", "0"),
    ("--epochs", "x"),
    ("--losses", "mse"),
    ("--task", "regression"),
    ("--seed", "-1"),
    ("--out", __file__),
    ("--out", f"{__file__}/x"),
    ("--nonsense",),
]
each_bad_option = pytest.mark.parametrize("arguments", BAD_OPTIONS, ids=" ".join)


@each_bad_option
def test_a_bad_option_is_reported_in_one_line_with_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert_one_line(capsys.readouterr().err)


@full_only
@each_bad_option
def test_the_command_reports_a_bad_option_in_one_line_with_exit_code_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert_one_line(done.stderr)


def assert_one_line(errors):
    assert len(errors.splitlines()) == 1
    assert errors.startswith("python -m jaxloss: ")


def test_an_interrupt_exits_cleanly(tmp_path):
    # If the tests run as a background job of a shell, they and their children ignore interrupts.
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    # Each epoch advances the progress bar; here it prints a line instead.
    script += "import rich.progress; rich.progress.Progress.advance = lambda *_: print('an epoch', flush=True); "
    arguments = ["jaxloss", "--epochs", "100000", "--losses", "mse_loss", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", script + BLOCKED.format(names=[], argv=arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "an epoch\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANGS)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "python -m jaxloss: interrupted\n"
