"""Adds what docs/ lacks to the site: the README as front page, the changelog, the notebooks, a gallery and MathJax."""

import hashlib
import importlib.util
import inspect
import logging
import operator
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

import jaxloss.plot

LOG = logging.getLogger("mkdocs.hooks")
ROOT = pathlib.Path(__file__).parent.parent
FROM_ROOT = {"index.md": "README.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
# The pages whose tables list losses, which become links to the reference.
LINKED = ("index.md", "choosing.md", "names.md")
# What a search shows first.
BOOSTS = (("reference/", 4), ("names.md", 2), ("notebooks/", 0.1), ("CHANGELOG", 0.5))
EXTERNAL = re.compile(r"""<(?:script|img|iframe|link[^>]*stylesheet)\b[^>]*(?:src|href)=["']?(?:https?:)?//[^>]*>""")
# The parts of MathJax that docs/assets/mathjax.js loads, about 2 MB of the 35 MB in the Python package.
MATHJAX = ("LICENSE", "es5/tex-chtml.js", "es5/input/tex/extensions/*.js", "es5/output/chtml/fonts/woff-v2/*.woff")


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
    for picture in gallery():
        files.append(File.generated(config, f"gallery/{picture.name}", abs_src_path=str(picture)))
    package = pathlib.Path(importlib.util.find_spec("mathjax").origin).parent / "static" / "mathjax"
    for path in sorted(path for pattern in MATHJAX for path in package.glob(pattern)):
        copy = f"assets/mathjax/{path.relative_to(package).as_posix()}"
        files.append(File.generated(config, copy, abs_src_path=str(path)))
    return files


def gallery() -> list[pathlib.Path]:
    """The pictures of `docs/gallery.py`, drawn anew, in a minute of CPU time, if it or the package has changed."""
    script, folder = ROOT / "docs/gallery.py", ROOT / "build/gallery"
    names = re.findall(r'^    "(\w+)": ', script.read_text(), re.MULTILINE)
    sources = [script, *sorted((ROOT / "jaxloss").rglob("*.py"))]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    made = folder / "state"
    if not made.exists() or made.read_text() != state:
        # Each program runs once, so compiling it without optimisation is faster.
        flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        n = min(os.cpu_count() or 1, 8)
        commands = [[sys.executable, str(script), str(folder), *names[i::n]] for i in range(n)]
        running = [subprocess.Popen(command, env=environment) for command in commands]
        failed = [process.args for process in running if process.wait()]
        if failed:
            raise RuntimeError(f"failed: {failed}")
        made.write_text(state)
    return [folder / f"{name}.svg" for name in names]


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Warns of a page that needs a network; in strict mode a warning fails the build."""
    for tag in EXTERNAL.findall(output):
        LOG.warning("%s loads from the network: %s", page.file.src_uri, tag)
    return output


def described(markdown: str) -> str:
    """Describes each picture by the heading above it, instead of by its file format."""
    heading, is_code, lines = "", False, []
    for line in markdown.splitlines():
        is_code ^= line.startswith("```")
        if line.startswith("#") and not is_code:
            heading = line.lstrip("# ")
        lines.append(re.sub(r"^!\[(png|jpeg)\]", f"![Picture: {heading}]", line))
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation"]
    page.meta["search"] = {"boost": next((boost for start, boost in BOOSTS if page.file.src_uri.startswith(start)), 1)}
    markdown = markdown.replace("](../README.md", "](index.md")
    markdown = re.sub(r"\]\(\.\./(notebooks/\w+)\.ipynb", r"](\1.md", markdown)
    if page.file.src_uri in LINKED:
        names = {name for _, names in reference(config) for name in names}
        markdown = re.sub(r"^\|.*", lambda row: linked(row[0], names), markdown, flags=re.MULTILINE)
    added = {"reference/index.md": contents, "gallery.md": cards}.get(page.file.src_uri)
    return f"{markdown}\n{added(config)}" if added else markdown


def linked(row: str, names: set[str]) -> str:
    """A row of a table with each name of the reference as a link to it."""
    return re.sub(
        r"(?<!\[)`([\w.]+)`", lambda found: f"[{found[0]}][jaxloss.{found[1]}]" if found[1] in names else found[0], row
    )


def contents(config: MkDocsConfig) -> str:
    """Tables of the names on each reference page, with the first sentence of each docstring."""
    tables = []
    for title, names in reference(config):
        rows = [f"| [`{name}`][jaxloss.{name}] | {first_sentence(name)} |" for name in names]
        tables.append("\n".join([f"## {title}", "", "| name | description |", "| --- | --- |", *rows]))
    return "\n\n".join(tables)


def cards(config: MkDocsConfig) -> str:
    """The pictures of the losses on each reference page, each a link to the loss."""
    pictures = {path.stem for path in gallery()}
    grids = []
    for title, names in reference(config):
        links = [
            f"- [![{first_sentence(name)}](gallery/{name}.svg) `{name}`][jaxloss.{name}]"
            for name in names
            if name in pictures
        ]
        if links:
            grids.append("\n".join([f"## {title}", "", '<div class="gallery" markdown>', "", *links, "", "</div>"]))
    return "\n\n".join(grids)


def reference(config: MkDocsConfig) -> Iterator[tuple[str, list[str]]]:
    """The title of each reference page, and the names on it."""
    for path in next(pages for section in config.nav for title, pages in section.items() if title == "Reference"):
        page = (ROOT / "docs" / path).read_text()
        names = re.findall(r"^::: jaxloss\.([\w.]+)", page, re.MULTILINE)
        members = re.search(r"members: \[(.*)\]", page)
        if members:
            names = [f"{names[0]}.{member}" for member in members[1].split(", ")]
        if names:
            yield page.splitlines()[0].removeprefix("# "), names


def first_sentence(name: str) -> str:
    return inspect.getdoc(operator.attrgetter(name)(jaxloss)).split("\n\n")[0].replace("\n", " ")


def of_root(markdown: str) -> str:
    """Rewrites the links of a file in the root, so that they work from the site's front page."""
    markdown = re.sub(r"(\]\(|src=\")docs/", r"\1", markdown).replace(
        "](LICENSE)", "](https://www.apache.org/licenses/LICENSE-2.0)"
    )
    markdown = markdown.replace("```python torch", "```python")
    return re.sub(r"\]\((notebooks/\w+)\.ipynb", r"](\1.md", markdown)
