"""`python -m jaxloss`, run as a user runs it."""

import signal
import subprocess
import sys

import pytest

from jaxloss.__main__ import main
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
    done = run("--losses", "cross_entropy,imbalanced_weighted", "--epochs", "3", "--out", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert "balanced accuracy" in done.stdout
    rows = [line for line in done.stdout.splitlines() if "%" in line]
    assert ["cross_entropy" in rows[0], "imbalanced_weighted" in rows[1], len(rows)] == [True, True, 2]
    assert float(rows[0].split("%")[0].split()[-1]) > 80
    assert (tmp_path / "new" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


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


def test_missing_extras_are_reported_in_one_line():
    done = blocked(["optax"])
    assert done.returncode == 1
    assert done.stderr == "python -m jaxloss: needs optax; pip install 'jaxloss[demo]'\n"


BAD_OPTIONS = [
    ("--epochs", "0"),
    ("--epochs", "x"),
    ("--losses", "mse"),
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


@pytest.mark.parametrize(
    "arguments", [BAD_OPTIONS[0], *(pytest.param(o, marks=full_only) for o in BAD_OPTIONS[1:])], ids=" ".join
)
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
