"""Rules that are read off the source: each takes a module's syntax tree and yields what breaks it, with its line.

They look at the tree and not at the text, so that a docstring may speak of `time.time` and an alias hides nothing.
"""

import ast
from collections.abc import Callable, Iterator

__all__ = [
    "Breach",
    "Rule",
    "broad_excepts",
    "clocks_and_dice",
    "missing_docstring",
    "names_missing_in_all",
    "unsafe_loading",
]

Breach = tuple[int, str]
Rule = Callable[[ast.Module], Iterator[Breach]]

# What only `mediator/clock.py` may ask: a test cannot own time or chance that is taken from elsewhere.
CLOCKS_AND_DICE = (
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.localtime", "time.gmtime", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
    "datetime.date.today", "random", "secrets", "os.urandom", "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7",
    "uuid.uuid8", "uuid_utils", "contracts.identifiers.uuid7",
)  # fmt: skip
# What could turn bytes from the wire into code. Wire names are looked up in the catalog.
UNSAFE = (
    "pickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "builtins.eval", "builtins.exec",
    "builtins.compile", "builtins.__import__",
)  # fmt: skip
TYPE_PARAMETERS = ("typing.TypeVar", "typing.ParamSpec", "typing.TypeVarTuple", "typing_extensions.TypeVar")
LOGGERS = {"log", "logger", "tracer"}
BROAD = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}


def missing_docstring(module: ast.Module) -> Iterator[Breach]:
    if not (ast.get_docstring(module) or "").strip():
        yield 1, "the module has no docstring"


def names_missing_in_all(module: ast.Module) -> Iterator[Breach]:
    """A module that defines public names, or hands on imported ones as a package does, lists them in `__all__`."""
    listed = names_in_all(module)
    for name, line in public_definitions(module):
        if name not in listed:
            yield line, f"{name} is public and not in __all__"
    for name in sorted({name for name in listed if listed.count(name) > 1}):
        yield 1, f"{name} is in __all__ twice"


def broad_excepts(module: ast.Module) -> Iterator[Breach]:
    """`except Exception` (or wider) that does not end with `raise` swallows what nobody thought of."""
    aliases = imported_names(module)
    for function, node in nodes_by_function(module):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type, aliases) and not is_bare_raise(node.body[-1]):
            yield node.lineno, f"{function}: a broad except"
        if isinstance(node, ast.Call) and is_broad_suppress(node, aliases):
            yield node.lineno, f"{function}: a broad suppress"


def clocks_and_dice(module: ast.Module) -> Iterator[Breach]:
    """`random.Random` may be named, as the type of dice that are handed in; to make one is `Runtime`'s business."""
    aliases = imported_names(module)
    for line, name in uses_of(module, CLOCKS_AND_DICE):
        if name not in {"random", "random.Random"}:
            yield line, name
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and dotted(node.func, aliases) == "random.Random":
            yield node.lineno, "random.Random()"


def unsafe_loading(module: ast.Module) -> Iterator[Breach]:
    yield from uses_of(module, UNSAFE)


def uses_of(module: ast.Module, forbidden: tuple[str, ...]) -> Iterator[Breach]:
    """Imports and uses of the dotted names, by whatever alias; a package stands for everything in it."""
    aliases = imported_names(module)
    found = {breach for node in ast.walk(module) for breach in names_of(node, aliases)}
    for line, name in sorted(found):
        if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden):
            yield line, name


def names_of(node: ast.AST, aliases: dict[str, str]) -> Iterator[Breach]:
    match node:
        case ast.Import(names=names):
            yield from ((node.lineno, alias.name) for alias in names)
        case ast.ImportFrom(module=str(source), names=names, level=0):
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in names)
        case ast.Name() | ast.Attribute():
            yield node.lineno, dotted(node, aliases)


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """`dt.now` is `datetime.datetime.now` after `from datetime import datetime as dt`; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return aliases.get(name, f"builtins.{name}")
        case ast.Attribute(value=value, attr=attribute):
            owner = dotted(value, aliases)
            return f"{owner}.{attribute}" if owner else ""
    return ""


def imported_names(module: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                found |= {alias.asname: alias.name for alias in names if alias.asname}
                found |= {first: first for alias in names if not alias.asname for first in [alias.name.split(".")[0]]}
            case ast.ImportFrom(module=str(source), names=names, level=0):
                found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in names}
    return found


def names_in_all(module: ast.Module) -> list[str]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return list(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value):
                return list(ast.literal_eval(value))
    return []


def public_definitions(module: ast.Module) -> Iterator[tuple[str, int]]:
    aliases = imported_names(module)
    for node in module.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names = [name]
            case ast.Assign(value=ast.Call(func=function)) if dotted(function, aliases) in TYPE_PARAMETERS:
                names = []
            case ast.Assign(targets=targets):
                names = [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        yield from ((name, node.lineno) for name in names if not name.startswith("_") and name not in LOGGERS)


def nodes_by_function(tree: ast.AST, function: str = "<module>") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the qualified name of the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        yield function, node
        inner = function
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = node.name if function == "<module>" else f"{function}.{node.name}"
        yield from nodes_by_function(node, inner)


def is_broad(caught: ast.expr | None, aliases: dict[str, str]) -> bool:
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(is_broad(one, aliases) for one in caught.elts)
    return dotted(caught, aliases).removeprefix("builtins.") in BROAD


def is_broad_suppress(call: ast.Call, aliases: dict[str, str]) -> bool:
    return dotted(call.func, aliases) == "contextlib.suppress" and any(is_broad(one, aliases) for one in call.args)


def is_bare_raise(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise) and statement.exc is None
