"""What the nodes' sources say of their inputs and outputs, read without running them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NODES = Path(__file__).resolve().parents[2] / "nodes"
SLOTS = ("Input", "Output")


class Sources:
    """The nodes' modules as syntax trees; helpers that return inputs are followed."""

    def __init__(self) -> None:
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(NODES.glob("*.py"))]
        self.trees = [node for tree in trees for node in ast.walk(tree)]
        self.helpers = {node.name: node for node in self.trees if isinstance(node, ast.FunctionDef)}
        self.wires, self.schemas = dict(self._wires()), dict(self._schemas())

    def _wires(self) -> Iterator[tuple[str, str]]:
        """The names in types.py, each with its type on the wire."""
        for node in self.trees:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("io.Custom("):
                yield node.targets[0].id, node.value.args[0].value

    def interface(self) -> dict[str, dict[str, Any]]:
        """In the form of interface.json, without choices: most are values of the engine's."""
        return {name: self._node(said) for name, said in self.schemas.items()}

    def aliases(self) -> dict[str, list[str]]:
        """Other names under which a node is found."""
        return {name: ast.literal_eval(said["search_aliases"]) for name, said in self.schemas.items()}

    def advanced(self) -> dict[str, set[str]]:
        """Inputs that the editor folds away."""
        return {
            name: {slot["name"] for slot in self._slots(said["inputs"], {}) if slot["advanced"]}
            for name, said in self.schemas.items()
        }

    def _schemas(self) -> Iterator[tuple[str, dict[str, ast.expr]]]:
        """Node id -> what its schema is given."""
        for call in self.trees:
            said = {word.arg: word.value for word in getattr(call, "keywords", ())}
            if "node_id" in said:
                yield said["node_id"].value, said

    def _node(self, said: dict[str, ast.expr]) -> dict[str, Any]:
        inputs, outputs = list(self._slots(said["inputs"], {})), list(self._slots(said["outputs"], {}))
        parts = {
            part: [[slot["name"], slot["type"]] for slot in inputs if slot["optional"] == (part == "optional")]
            for part in ("required", "optional")
        }
        return {
            **parts,
            "outputs": [[slot["name"], slot["type"]] for slot in outputs],
            "lists": [slot["is_list"] for slot in outputs],
        }

    def _slots(self, said: ast.expr, arguments: dict[str, ast.expr]) -> Iterator[dict[str, Any]]:
        """Inputs or outputs of an expression: a list of them, one, or a call of a helper."""
        if isinstance(said, ast.List):
            for element in said.elts:
                yield from self._slots(element, arguments)
        elif isinstance(said, ast.Starred):
            yield from self._slots(said.value, arguments)
        elif isinstance(said.func, ast.Name):
            helper = self.helpers[said.func.id]
            names = [argument.arg for argument in helper.args.args]
            (returned,) = (node.value for node in ast.walk(helper) if isinstance(node, ast.Return))
            yield from self._slots(returned, dict(zip(names, said.args, strict=False)))
        else:
            yield self._slot(said, arguments)

    def _slot(self, call: ast.Call, arguments: dict[str, ast.expr]) -> dict[str, Any]:
        assert call.func.attr in SLOTS, ast.unparse(call)
        words = {word.arg: word.value for word in call.keywords}
        name = call.args[0] if call.args else words["display_name"]
        name = arguments[name.id] if isinstance(name, ast.Name) else name
        flags = {flag: getattr(words.get(flag), "value", False) for flag in ("optional", "is_output_list")}
        return {
            "name": name.value,
            "type": self._wire(call.func.value),
            "optional": flags["optional"],
            "is_list": flags["is_output_list"],
            "advanced": any(word.arg is None and ast.unparse(word.value) == "ADVANCED" for word in call.keywords),
        }

    def _wire(self, kind: ast.expr) -> str:
        """`io.ClipVisionOutput` is CLIP_VISION_OUTPUT on the wire; the pack's own types are named in types.py."""
        if isinstance(kind, ast.Name):
            return self.wires[kind.id]
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.attr).upper()
