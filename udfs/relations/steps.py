"""A text of SQL that grows by steps, and the steps that every part of a forward pass is made of.

The queries stand in steps.sql. What is written here is which of them, on what, and the expression
that a step computes from its blocks.
"""

from dataclasses import dataclass, field

from pageformer.udfs import named_queries
from pageformer.udfs.config import Config

STEPS = named_queries.read("pageformer.udfs.relations", "steps.sql")
OPERATORS = "pageformer_op"
WIDTH = 90


@dataclass(frozen=True)
class Plan:
    """Hold a text as it grows: the steps so far, and what they are written for.

    version: a name that pins it. side: of its blocks. tensors: names of all it has.
    """

    config: Config
    version: str
    side: int
    tensors: frozenset[str]
    steps: list[tuple[str, str]] = field(default_factory=list)

    def step(self, name: str, query: str, /, **parts: object) -> str:
        """Add a step by the name of its query in steps.sql; return its own name."""
        self.steps.append((name, self.fill(query, **parts)))
        return name

    def fill(self, query: str, /, **parts: object) -> str:
        """Put names and numbers into a query of steps.sql."""
        if "block" in parts:
            parts["block"] = indented(str(parts["block"])).lstrip()
        parts = {"joins": "", "model": literal(self.version), "side": self.side, **parts}
        return STEPS[query].format(**parts)

    def vector(self, tensor: str, alias: str) -> str:
        """Join a 1-D tensor, by column."""
        return self.join("join_bias", tensor=literal(tensor), alias=alias)

    def join(self, query: str, /, **parts: object) -> str:
        """Write a join on a line of its own."""
        return "\n" + self.fill(query, **parts)

    def text(self, answer: str) -> str:
        """Write all steps, and the query that gives the answer."""
        steps = (f"{name} as materialized (\n{indented(query)}\n)" for name, query in self.steps)
        return "with " + ",\n".join(steps) + "\n" + answer


def call(operator: str, *arguments: object) -> str:
    """Write a call of an operator, as in the select list of a step; a long one on several lines."""
    written = [str(argument) for argument in arguments]
    line = f"{OPERATORS}.{operator}({', '.join(written)})"
    if len(line) <= WIDTH:
        return line
    parts = ",\n".join(indented(part) for part in written)
    return f"{OPERATORS}.{operator}(\n{parts})"


def literal(text: str) -> str:
    """Write a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def indented(query: str) -> str:
    """Move a query to the right."""
    return "\n".join(f"    {line}" for line in query.splitlines())


# -- steps that matrices take, named after what they compute --------------------------------------


def linear(
    plan: Plan,
    step: str,
    name: str,
    x: str,
    activation: str = "",
    gate: str = "",
    residual: str = "",
) -> str:
    """Compute activation(x W + bias), times the gate or plus the residual where there is one."""
    block, joins = "product.block", ""
    if f"{name}.bias" in plan.tensors:
        block, joins = call("add_bias", block, "bias.block"), plan.vector(f"{name}.bias", "bias")
    if activation:
        block = call(activation, block)
    if gate:
        block, joins = call("multiply", "gate.block", block), joins + same(plan, gate, "gate")
    if residual:
        block = call("add", block, "residual.block")
        joins += same(plan, residual, "residual")
    weight = literal(f"{name}.weight")
    return plan.step(step, "linear", block=block, x=x, weight=weight, joins=joins)


def same(plan: Plan, x: str, alias: str) -> str:
    """Join another matrix, block by block."""
    return plan.join("join_same", x=x, alias=alias)


def norm(plan: Plan, step: str, name: str, x: str, eps: float | None = None) -> str:
    """Normalise each row, of which a block has a part."""
    moments = plan.step(f"{step}_moments", "moments", x=x)
    joins, bias = plan.vector(f"{name}.weight", "weight"), "null"
    if f"{name}.bias" in plan.tensors:
        joins, bias = joins + plan.vector(f"{name}.bias", "bias"), "bias.block"
    eps = plan.config.norm_eps if eps is None else eps
    return plan.step(step, "norm", x=x, moments=moments, bias=bias, eps=eps, joins=joins)


def normalize(plan: Plan, step: str, x: str) -> str:
    """Scale each row to length 1."""
    length = plan.step(f"{step}_length", "square_sum", x=x)
    return plan.step(step, "normalized", x=x, length=length)


def heads(plan: Plan, step: str, x: str, theta: float = 0) -> str:
    """Cut the rows of a matrix into heads; with theta, rotate them by their positions."""
    block, joins = "head.block", ""
    if theta:
        block = call("rotate", block, "span.first", theta, plan.config.rotary_divisor)
        joins = plan.join("join_span")
    width = plan.config.hidden // plan.config.heads
    return plan.step(f"{step}_heads", "heads", x=x, block=block, width=width, joins=joins)
