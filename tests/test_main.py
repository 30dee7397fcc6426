"""`python -m jaxloss` as a user runs it."""

import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-m", "jaxloss"]
BLOCKED = "import sys; sys.modules.update(dict.fromkeys({names})); import runpy; sys.argv = {argv}; "
BLOCKED += "runpy.run_module('jaxloss', run_name='__main__', alter_sys=True)"


def run(*arguments, command=COMMAND):
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)


def blocked(names, *arguments):
    """The command line with these modules not to be had."""
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


def test_missing_extras_take_one_line():
    done = blocked(["optax"])
    assert done.returncode == 1
    assert done.stderr == "python -m jaxloss: needs optax; pip install 'jaxloss[demo]'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--epochs", "0"),
        ("--epochs", "x"),
        ("--losses", "mse"),
        ("--seed", "-1"),
        ("--out", __file__),
        ("--out", f"{__file__}/x"),
        ("--nonsense",),
    ],
    ids=" ".join,
)
def test_a_bad_option_takes_one_line_and_exit_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("python -m jaxloss: ")


def test_interrupted_is_a_clean_exit(tmp_path):
    # A shell's background job, as which tests may run, ignores interrupts, and so would its children.
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    arguments = ["jaxloss", "--epochs", "100000", "--losses", "mse_loss", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", script + BLOCKED.format(names=[], argv=arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # into the training
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "python -m jaxloss: interrupted\n"
