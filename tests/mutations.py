"""The changes that `mutants.py` makes to the package: one operator, constant, comparison or guard at a time."""

import ast
import dataclasses
import pathlib
from collections.abc import Iterator

PACKAGE = pathlib.Path(__file__).parent.parent / "jaxloss"

OPERATORS = {
    **{ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.Pow: ("**", "*")},
    **{ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&")},
    **{ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")},
    **{ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is")},
    **{ast.And: ("and", "or"), ast.Or: ("or", "and")},
}
SWAPPED = {
    "maximum": "minimum",
    "max": "min",
    "any": "all",
    "zeros": "ones",
    "ones_like": "zeros_like",
    "ceil": "floor",
}
SWAPPED |= {new: old for old, new in SWAPPED.items()}
WRAPPERS = ("finite", "stop_gradient", "abs", "clip")
UNARY = {ast.USub: "-", ast.Not: "not ", ast.Invert: "~"}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A module's source with one change: the line before and after, and the function that contains it."""

    module: str
    function: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.before}  ->  {self.after}"


def edits(node: ast.AST, text: str, at: dict[ast.AST, tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """The changes of one node, as (start, end, replacement)."""
    start, end = at.get(node, (0, 0))

    def operator(left: ast.AST, kind: ast.AST, right: ast.AST) -> Iterator[tuple[int, int, str]]:
        # An operator has no position in the tree; it is between its operands.
        if type(kind) in OPERATORS:
            old, new = OPERATORS[type(kind)]
            place = text.index(old, at[left][1], at[right][0])
            yield place, place + len(old), new

    match node:
        case ast.BinOp(left, kind, right):
            yield from operator(left, kind, right)
        case ast.Compare(left, kinds, others):
            for one, kind, other in zip((left, *others), kinds, others, strict=False):
                yield from operator(one, kind, other)
        case ast.BoolOp(kind, [left, right, *_]):
            yield from operator(left, kind, right)
        case ast.UnaryOp(kind) if type(kind) in UNARY:
            yield start, start + len(UNARY[type(kind)]), ""
        case ast.Constant(bool() as value):
            yield start, end, str(not value)
        case ast.Constant(int() | float() as value):
            yield start, end, str(value + 1)
        case ast.Attribute(ast.Name("jnp" | "np" | "lax"), name) if name in SWAPPED:
            yield end - len(name), end, SWAPPED[name]
        case ast.Call(ast.Name(name), _) if name in SWAPPED:
            yield start, start + len(name), SWAPPED[name]
        case ast.Call(ast.Attribute(_, "where"), [condition, _, _]):
            first, last = at[condition]
            yield first, last, f"({text[first:last]}) | True"
            yield first, last, f"({text[first:last]}) & False"
        case ast.IfExp(test) | ast.If(test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            first, last = at[test]
            yield first, last, f"not ({text[first:last]})"
        case ast.Return(ast.Tuple(elements)):
            for first, last in (at[element] for element in elements):
                yield first, last, f"-({text[first:last]})"
        case _:
            pass
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRAPPERS and node.args:
        first, last = at[node.args[0]]
        yield start, end, f"({text[first:last]})"


def path_of(module: str, package: pathlib.Path = PACKAGE) -> pathlib.Path:
    """The file of a module such as `losses.regression`."""
    return package.joinpath(*module.split(".")).with_suffix(".py")


def mutants(module: str) -> Iterator[Mutant]:
    text = path_of(module).read_text()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines, tree, at = text.splitlines(), ast.parse(text), {}

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def visit(node: ast.AST, function: str) -> Iterator[tuple[str, int, int, str]]:
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.ImportFrom):  # messages are not mutated
            return
        yield from ((function, *edit) for edit in edits(node, text, at))
        for field, child in ast.iter_fields(node):
            # Not types, and not the indices of tangents, which would no longer exist.
            if field in ("annotation", "returns") or (field == "slice" and ast.unparse(node).startswith("tangents")):
                continue
            for item in child if isinstance(child, list) else [child]:
                if isinstance(item, ast.AST):
                    outer = function or getattr(item, "name", "")
                    yield from visit(item, outer)

    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt):
            at[node] = place(node.lineno, node.col_offset), place(node.end_lineno or 0, node.end_col_offset or 0)
    for function, start, end, new in visit(tree, ""):
        source, line = text[:start] + new + text[end:], text.count("\n", 0, start)
        heights = text.count("\n", start, end) + 1, new.count("\n") + 1
        before, after = (
            " ".join(map(str.strip, version.splitlines()[line : line + height]))
            for version, height in zip((text, source), heights, strict=True)
        )
        yield Mutant(module, function, line + 1, before, after, source)
