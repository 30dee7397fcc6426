"""Adds files from outside docs/ to the site: the README as front page, the changelog, and the executed notebooks."""

import inspect
import operator
import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

import jaxloss.plot

ROOT = pathlib.Path(__file__).parent.parent
FROM_ROOT = {"index.md": "README.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
WIDE = (
    "from_pytorch.md",
    "from_optax.md",
    "results/accuracy/results.md",
    "results/speed/results.md",
    "results/large_output/results.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in FROM_ROOT.items():
        files.append(File.generated(config, page, content=of_root((ROOT / source).read_text())))
    exporter = MarkdownExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        markdown, resources = exporter.from_filename(str(path))
        pictures = {name: f"{path.stem}_{name}" for name in resources["outputs"]}
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{picture}", content=resources["outputs"][name]))
            markdown = markdown.replace(f"({name})", f"({picture})")
        markdown = described(markdown)
        markdown = markdown.replace(".ipynb)", ".md)").replace("](../docs/", "](../")
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=markdown))
    return files


def described(markdown: str) -> str:
    """Replaces the alternative text of plots, which is their format, by the heading above them."""
    heading, is_code, lines = "", False, []
    for line in markdown.splitlines():
        is_code ^= line.startswith("```")
        if line.startswith("#") and not is_code:
            heading = line.lstrip("# ")
        lines.append(re.sub(r"^!\[(png|jpeg)\]", f"![Plot: {heading}]", line))
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation"]
    markdown = markdown.replace("](../README.md", "](index.md")
    return f"{markdown}\n{contents(config)}" if page.file.src_uri == "reference/index.md" else markdown


def contents(config: MkDocsConfig) -> str:
    """A table for each reference page, with the first sentence of each docstring."""
    tables = []
    for path in next(pages for section in config.nav for title, pages in section.items() if title == "Reference"):
        page = (ROOT / "docs" / path).read_text()
        names = re.findall(r"^::: jaxloss\.([\w.]+)", page, re.MULTILINE)
        members = re.search(r"members: \[(.*)\]", page)
        if members:
            names = [f"{names[0]}.{member}" for member in members[1].split(", ")]
        rows = [f"| [`{name}`][jaxloss.{name}] | {first_sentence(name)} |" for name in names]
        if rows:
            title = page.splitlines()[0].removeprefix("# ")
            tables.append("\n".join([f"## {title}", "", "| name | description |", "| --- | --- |", *rows]))
    return "\n\n".join(tables)


def first_sentence(name: str) -> str:
    return inspect.getdoc(operator.attrgetter(name)(jaxloss)).split("\n\n")[0].replace("\n", " ")


def of_root(markdown: str) -> str:
    """Adapts the links of a file in the repository root to the site."""
    markdown = re.sub(r"(\]\(|src=\")docs/", r"\1", markdown).replace(
        "](LICENSE)", "](https://www.apache.org/licenses/LICENSE-2.0)"
    )
    markdown = markdown.replace("```python torch", "```python")
    return re.sub(r"\]\((notebooks/\w+)\.ipynb", r"](\1.md", markdown)
