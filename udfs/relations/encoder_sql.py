"""The forward pass as one SQL text: a `with` per step, over relations of blocks.

Walks a config as udfs/encoder.py does, function by function, and writes steps instead of
computing them.
"""

import math

from pageformer.udfs.config import Config
from pageformer.udfs.distances import alibi_slopes
from pageformer.udfs.relations.steps import (
    Plan,
    call,
    heads,
    linear,
    literal,
    norm,
    normalize,
    same,
)

# The rows and columns of a block of scores, in their sequence.
SPANS = ("q_span.rows", "q_span.first", "k_span.rows", "k_span.first")


def encode_text(plan: Plan) -> str:
    """Write the text that makes a vector of token ids, `$1`; `$2`: how many are not pooled."""
    skip = "0" if plan.config.include_prompt else "$2::integer"
    return vector(plan, encoder(plan, embeddings(plan)), skip)


def encode_image(plan: Plan) -> str:
    """Write the text that makes a vector of an image's patches `[patches, values]`, `$1`."""
    return vector(plan, encoder(plan, patch_embeddings(plan)))


def encode_tensor(plan: Plan) -> str:
    """Write the text that runs the layers over a tensor `[batch, sequence, hidden]`, `$1`."""
    plan.step("input", "tensor_block")
    plan.step("span", "tensor_span")
    return plan.text(plan.fill("tensor", x=encoder(plan, "input")))


def embeddings(plan: Plan) -> str:
    """Add up what a token is, where it stands and its type (0); then normalise."""
    config, padding = plan.config, plan.config.padding_id
    place = "t.number - 1"
    if padding is not None:
        place = plan.fill("place_after_padding", padding_id=padding)
    plan.step("token", "token", place=place)
    plan.step("span", "token_span")
    plan.step("word", "lookup", column="id", table=literal("embeddings.word"))
    block, joins = "word.block", ""
    if config.position_table:
        x = plan.step("position", "lookup", column="place", table=literal("embeddings.position"))
        block, joins = call("add", block, "place.block"), same(plan, x, "place")
    if config.token_types:
        block = call("add_bias", block, call("slice", "type.block", 1, 1))
        tensor = literal("embeddings.token_type")
        joins += plan.join("join_table_row", tensor=tensor, alias="type")
    plan.step("embedding", "embedding", block=block, joins=joins)
    x = norm(plan, "embedding_norm", "embeddings.norm", "embedding")
    return linear(plan, "projection", "embeddings.projection", x) if config.embedding_size else x


def patch_embeddings(plan: Plan) -> str:
    """Project patches, put the class token first, add positions."""
    plan.step("patch", "patch")
    plan.step("span", "patch_span")
    projected = linear(plan, "patch_projection", "embeddings.patch", "patch")
    first = literal("embeddings.class")
    x = plan.step("class_and_patches", "class_and_patches", x=projected, first=first)
    return plan.step("embedding", "placed", x=x, table=literal("embeddings.position"))


def encoder(plan: Plan, x: str) -> str:
    """Run the layers."""
    config = plan.config
    distance_bias(plan)
    if config.relative_span:
        relative_embeddings(plan)
    layer_of = {"post": post_norm_layer, "pre": pre_norm_layer}[config.norm_place]
    for i, stored in enumerate(config.layer_order or range(config.layers)):
        x = layer_of(plan, f"layer_{i}", f"layer.{stored}", x, i in config.local_layers)
    return norm(plan, "final_norm", "final.norm", x) if config.final_norm else x


def post_norm_layer(plan: Plan, step: str, layer: str, x: str, local: bool) -> str:
    """Compute x = norm(x + attention(x)); x = norm(x + feed_forward(x))."""
    x = attention(plan, step, layer, x, local, residual=x)
    x = norm(plan, f"{step}_attention_norm", f"{layer}.attention.norm", x)
    x = feed_forward(plan, step, layer, x, residual=x)
    return norm(plan, f"{step}_norm", f"{layer}.feed_forward.norm", x)


def pre_norm_layer(plan: Plan, step: str, layer: str, x: str, local: bool) -> str:
    """Compute x = x + attention(norm(x)); x = x + feed_forward(norm(x)) where there is one."""
    normed = x
    if f"{layer}.attention.norm.weight" in plan.tensors:
        normed = norm(plan, f"{step}_attention_norm", f"{layer}.attention.norm", x)
    x = attention(plan, step, layer, normed, local, residual=x)
    if not plan.config.intermediate:
        return x
    normed = norm(plan, f"{step}_norm", f"{layer}.feed_forward.norm", x)
    return feed_forward(plan, step, layer, normed, residual=x)


def attention(plan: Plan, step: str, layer: str, x: str, local: bool, residual: str) -> str:
    """Compute residual + multi-head attention of x."""
    linears = {
        part: linear(plan, f"{step}_{part}", f"{layer}.attention.{part}", x)
        for part in ("query", "key", "value")
    }
    theta = plan.config.local_theta if local else plan.config.rotary_theta
    query, key = (heads(plan, linears[part], linears[part], theta) for part in ("query", "key"))
    value = heads(plan, linears["value"], linears["value"])
    score = scores(plan, step, layer, query, key, local)
    row_max = plan.step(f"{step}_row_max", "row_max", score=score)
    exp_sum = plan.step(f"{step}_exp_sum", "exp_sum", score=score, row_max=row_max)
    mixed = plan.step(
        f"{step}_mixed", "mixed", score=score, row_max=row_max, exp_sum=exp_sum, value=value
    )
    joined = plan.step(f"{step}_joined", "joined_heads", x=mixed)
    return linear(plan, f"{step}_attention", f"{layer}.attention.output", joined, residual=residual)


def scores(plan: Plan, step: str, layer: str, query: str, key: str, local: bool) -> str:
    """Compute q k^T / sqrt(d), and what distances change of it."""
    config, width = plan.config, plan.config.hidden // plan.config.heads
    block, joins = call("matmul", "q.block", call("transpose", "k.block")), ""
    terms = config.relative_terms if config.relative_span else []
    for term in terms:
        x = relative_heads(plan, f"{step}_{term}", layer, term)
        block = call("add", block, by_position(config, term))
        joins += plan.join("join_positions", x=x, alias=term)
    block = call("scale", block, 1 / math.sqrt(width * (1 + len(terms))))
    if config.alibi or config.relative_buckets:
        block = call("add", block, "distance_bias.block")
        joins += plan.join("join_distance_bias")
    if local:
        block = call("mask", block, call("near", *SPANS, config.window))
    return plan.step(f"{step}_score", "score", query=query, key=key, block=block, joins=joins)


def feed_forward(plan: Plan, step: str, layer: str, x: str, residual: str) -> str:
    """Compute residual + down(activation(up(x)))."""
    config, gate = plan.config, ""
    if config.gated:
        gate_name = f"{layer}.feed_forward.gate"
        gate = linear(plan, f"{step}_gate", gate_name, x, activation=config.activation)
    activation = "" if gate else config.activation
    h = linear(plan, f"{step}_up", f"{layer}.feed_forward.up", x, activation, gate=gate)
    last = config.activation if config.final_activation else ""
    name = f"{layer}.feed_forward.down"
    return linear(plan, f"{step}_feed_forward", name, h, last, residual=residual)


# -- what tells tokens how far they are apart, as in distances.py ----------------------------------


def distance_bias(plan: Plan) -> None:
    """Make the bias that all layers add to their scores, where there is one."""
    config = plan.config
    if config.alibi:
        plan.step("distance_bias", "alibi", slopes=alibi_slopes(config.heads))
    elif config.relative_buckets:
        table = literal("relative_attention_bias")
        plan.step("distance_bias", "relative_bias", heads=config.heads, table=table)


def relative_embeddings(plan: Plan) -> None:
    """Read DeBERTa's embeddings of distances, which all layers share."""
    table = literal("relative_embeddings")
    if not plan.config.relative_norm:
        plan.step("relative", "table", table=table)
        return
    plan.step("relative_table", "table", table=table)
    norm(plan, "relative", "relative_embeddings.norm", "relative_table")


def relative_heads(plan: Plan, step: str, layer: str, term: str) -> str:
    """Map the embeddings of distances to keys (c2p) or queries (p2c), by heads."""
    part = {"c2p": "key", "p2c": "query"}[term]
    x = linear(plan, step, f"{layer}.attention.{part}", "relative")
    width = plan.config.hidden // plan.config.heads
    return plan.step(f"{step}_heads", "position_heads", x=x, width=width)


def by_position(config: Config, term: str) -> str:
    """Write what content gives to positions (c2p), or positions to content (p2c)."""
    rows, first_row, cols, first_col = SPANS
    span, reach = config.relative_span, config.relative_reach
    side, operator, place = {
        "c2p": ("q", "to_positions", (first_row, cols, first_col)),
        "p2c": ("k", "from_positions", (first_col, rows, first_row)),
    }[term]
    products = call("matmul", f"{side}.block", call("transpose", f"{term}.block"))
    return call(operator, products, *place, span, reach)


# -- what is made of the last states --------------------------------------------------------------


def vector(plan: Plan, x: str, skip: str = "0") -> str:
    """Write the whole text: the vector of one sequence's last states."""
    x = modules(plan, pool(plan, x, skip))
    if plan.config.normalized:
        x = normalize(plan, "normalized", x)
    return plan.text(plan.fill("vector", x=x, width=plan.config.dimension))


def pool(plan: Plan, x: str, skip: str) -> str:
    """Make one row of all tokens but the first ones, by every mode of the model side by side."""
    modes = ", ".join(map(literal, plan.config.pooling.split("+")))
    return plan.step("pooled", "pooled", x=x, modes=f"array[{modes}]", skip=skip)


def modules(plan: Plan, x: str) -> str:
    """Run what sentence-transformers puts behind pooling."""
    for i, module in enumerate(plan.config.modules):
        name, step = f"module.{i}", f"module_{i}"
        if module["kind"] == "normalize":
            x = normalize(plan, step, x)
        elif module["kind"] == "layer_norm":
            x = norm(plan, step, name, x, module["eps"])
        else:
            residual = x if module.get("residual") else ""
            if module.get("projected_residual"):
                residual = linear(plan, f"{step}_residual", f"{name}.residual", x)
            x = linear(plan, step, name, x, module["activation"] or "", residual=residual)
    return x
