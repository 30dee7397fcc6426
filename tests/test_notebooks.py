"""Each notebook runs in a clean kernel, and its saved outputs are small and free of errors."""

import json
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 200_000
HANGS = 900  # seconds per cell; a busy machine takes far less
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_eleven_notebooks_of_which_the_second_has_four_parts():
    numbers = sorted(int(path.name.partition("_")[0]) for path in NOTEBOOKS)
    assert numbers == [1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


@each_notebook
def test_runs_in_a_clean_kernel(path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=HANGS, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()


@each_notebook
def test_is_saved_with_small_outputs_and_run_in_order(path):
    assert path.stat().st_size <= LARGEST
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run all cells, in order"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]


@each_notebook
def test_begins_with_its_goals_and_ends_with_further_reading(path):
    cells = json.loads(path.read_text())["cells"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert re.match(r"# \w.*\n\n\*\*You will learn\*\* ", prose[0])
    *_, following = prose[-1].split("\n\n")
    assert following.startswith("**Read next:** [")
    for link in re.findall(r"\]\(([^)#]+)", "\n".join(prose)):
        assert link.startswith("https://") or (FOLDER / link).exists(), f"{link} leads nowhere"
