"""What docstrings must say, held by reading the sources: shapes of tensors, and the errors that a caller meets."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("knot_core", "knot_live", "knot_lab")
EXPORTING = [
    ROOT / "knot_core" / name / "__init__.py" for name in ("", "codec", "driving", "media", "run", "stream", "wan")
]  # fmt: skip
# Public functions here name the shapes of their tensors.
WITH_SHAPES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TENSOR = re.compile(r"\b(Tensor|ndarray)\b")
OF_MANY = ("Callable", "Mapping[str", "dict[str")  # what holds tensors of several shapes describes itself
SHAPE = re.compile(r"\[[^\]]*\]")
SHAPE_SUFFIX = re.compile(r"_[A-Z0-9]*[A-Z][A-Z0-9]*$")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def docstrings(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | Definition):
            yield getattr(node, "name", "module"), ast.get_docstring(node) or ""


def exported(package):
    """(file, definition) of each function and class in `__all__`, through re-exports."""
    names = next(
        ast.literal_eval(node.value)
        for node in tree(package).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    yield from (found for name in names for found in definition(package, name))


def definition(path, name):
    for node in tree(path).body:
        if isinstance(node, Definition) and node.name == name:
            yield path, node
        elif isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
            base = (path.parents[node.level - 1] if node.level else ROOT) / (node.module or "").replace(".", "/")
            if not base.is_relative_to(ROOT) or not (base.exists() or base.with_suffix(".py").exists()):
                continue  # another library's
            yield from definition(base.with_suffix(".py") if base.with_suffix(".py").exists() else
                                  base / "__init__.py", name)  # fmt: skip


def described(path, cls, name):
    """The docstring of a method, or of the one that it overrides in a base class."""
    own = next((f for f in cls.body if isinstance(f, Function) and f.name == name), None)
    if own is not None and ast.get_docstring(own):
        return ast.get_docstring(own)
    names = [base.id for base in cls.bases if isinstance(base, ast.Name)]
    found = (described(*where, name) for base in names for where in definition(path, base))
    return next((text for text in found if text), "")


def public_functions(path):
    """(name, function, docstring, the class's with it for a method) of a file's public functions and methods."""
    for node in tree(path).body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            about = ast.get_docstring(node) or ""
            for f in node.body:
                if isinstance(f, Function) and not f.name.startswith("_"):
                    yield f"{node.name}.{f.name}", f, f"{about}\n{described(path, node, f.name)}"


def without_shape(function):
    """Tensors of a signature whose shape its names do not say."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    typed = [(a.arg, ast.unparse(a.annotation)) for a in arguments if a.annotation is not None]
    typed += [] if function.returns is None else [("the result", ast.unparse(function.returns))]
    tensors = [name for name, kind in typed if TENSOR.search(kind) and not any(word in kind for word in OF_MANY)]
    return [name for name in tensors if not SHAPE_SUFFIX.search(name)]


def inside(node):
    """What runs when the function is called; functions within it are not, or not yet."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda | Definition):
            yield child
            yield from inside(child)


def errors(function, helpers):
    """Names of the errors that the function raises itself, or a function of its file that it calls."""
    called = {node.func.id for node in inside(function) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
    functions = [function, *(helpers[name] for name in called & helpers.keys())]
    found = {ast.unparse(node.exc).split("(")[0] for f in functions for node in inside(f)
             if isinstance(node, ast.Raise) and node.exc is not None}  # fmt: skip
    settings = {"SettingsError"} if "require" in called else set()
    return {name for name in found if re.fullmatch(r"[A-Z]\w*Error", name)} | settings


def callables(node):
    """(name, function, docstrings that may name its errors) of an exported function, or of a class's public methods."""
    if isinstance(node, Function):
        return [(node.name, node, ast.get_docstring(node) or "")]
    made = ("__init__", "__post_init__")
    own = ast.get_docstring(node) or ""
    return [
        (f"{node.name}.{f.name}", f, (ast.get_docstring(f) or "") + "\n" + (own if f.name in made else ""))
        for f in node.body
        if isinstance(f, Function) and (f.name in made or not f.name.startswith("_"))
    ]


def exported_callables(package):
    for path, node in exported(package):
        helpers = {f.name: f for f in tree(path).body if isinstance(f, Function)}
        for name, function, text in callables(node):
            yield name, errors(function, helpers), text


def raised(text):
    """Names in the Raises section."""
    _, heading, section = text.partition("Raises:\n")
    return set(re.findall(r"^ +(\w+):", section, flags=re.MULTILINE)) if heading else set()


def test_no_docstring_begins_with_of():
    found = [(str(path.relative_to(ROOT)), name, text) for folder in (*PACKAGES, "nodes", "clients", "tests")
             for path in (ROOT / folder).rglob("*.py") for name, text in docstrings(path)]  # fmt: skip
    assert len(found) > 2000
    assert not [(path, name) for path, name, text in found if re.match(r"Of\b", text)], "say what it gives"


def test_no_docstring_begins_with_a_question_word():
    """ "The slot of a frame", not "Where a frame goes"; of the files that `WITH_SHAPES` names."""
    found = [(path.relative_to(ROOT).as_posix(), name, text) for path in WITH_SHAPES for name, text in docstrings(path)]
    assert len(found) > 1000
    assert not [(path, name) for path, name, text in found if re.match(r"(What|Where|Who|Those)\b", text)]


@pytest.mark.parametrize("package", EXPORTING, ids=lambda path: path.parent.name)
def test_what_a_package_exports_names_the_errors_that_it_raises(package):
    found = list(exported_callables(package))
    assert any(wanted for _, wanted, _ in found), "no exported callable that raises was found: is the reading right?"
    missing = {name: sorted(wanted - raised(text)) for name, wanted, text in found if wanted - raised(text)}
    assert not missing, f"docstrings without these in a Raises section: {missing}"


@pytest.mark.parametrize("package", EXPORTING, ids=lambda path: path.parent.name)
def test_what_a_package_exports_has_a_docstring(package):
    found = [(node.name, ast.get_docstring(node)) for _, node in exported(package)]
    assert found
    assert not [name for name, text in found if not text]


@pytest.mark.parametrize("package", EXPORTING, ids=lambda path: path.parent.name)
def test_methods_of_exported_classes_have_docstrings(package):
    found = {
        f"{node.name}.{f.name}": described(path, node, f.name)
        for path, node in exported(package)
        if isinstance(node, ast.ClassDef)
        for f in node.body
        if isinstance(f, Function) and not f.name.startswith("_")
    }
    assert found
    assert not [name for name, text in found.items() if not text]


def test_public_functions_name_the_shapes_of_their_tensors():
    found = [(path.relative_to(ROOT).as_posix(), *function) for path in WITH_SHAPES
             for function in public_functions(path)]  # fmt: skip
    with_tensors = [(path, name, text, missing) for path, name, function, text in found
                    if (missing := without_shape(function))]  # fmt: skip
    assert len(with_tensors) > 100
    assert not [(path, name, missing) for path, name, text, missing in with_tensors if not SHAPE.search(text)]
