"""From texts and options to vectors: prompts, micro-batches, and what is done to a pooled vector.

Knows neither SQL nor a connection, so that whatever has a version at hand can encode with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pageformer.errors import InvalidInput, NotBuilt, UnknownName
from pageformer.udfs import encoder
from pageformer.udfs.blocks import Array
from pageformer.udfs.config import Config
from pageformer.udfs.encoder import Pulse
from pageformer.udfs.model import Model

BATCH_TOKENS = 1024  # computed at once: bounds memory, and the time to notice a cancel


@dataclass(frozen=True)
class Options:
    """Hold the options that every encoding function takes, as the user gave them."""

    prompt: str | None = None
    prompt_name: str | None = None
    task: str | None = None
    dimensions: int | None = None
    normalized: bool | None = None
    truncate: str | None = "right"

    def with_tasks(self, tasks: Sequence[str | None] | None) -> "Options":
        """Add a task per input; raise NotBuilt unless there is none."""
        if tasks is not None:
            raise NotBuilt("tasks are not part of this release", hint="leave out the option tasks")
        return self

    def check(self, config: Config) -> None:
        """Raise InvalidInput or NotBuilt for options that this version cannot follow."""
        if self.task is not None:
            raise NotBuilt("tasks are not part of this release", hint="leave out the option task")
        if self.dimensions is not None and not 1 <= self.dimensions <= config.dimension:
            raise InvalidInput(
                f"dimensions is {self.dimensions}, but this model has {config.dimension}",
                hint=f"give a number from 1 to {config.dimension}, or leave it out",
            )
        if self.prompt is not None and self.prompt_name is not None:
            raise InvalidInput(
                "prompt and prompt_name are both given", hint="give one of them, or neither"
            )


def prompted(config: Config, text: str, options: Options) -> str:
    """Check the options, and put the prompt that they choose in front of a text.

    Raises InvalidInput or NotBuilt for options that cannot be followed, and UnknownName for a
    prompt name that the model does not have.
    """
    options.check(config)
    if options.prompt is not None:
        return options.prompt + text
    name = options.prompt_name or config.default_prompt_name
    if name is None:
        return text
    if name not in config.prompts:
        known = ", ".join(sorted(config.prompts)) or "none"
        raise UnknownName(f'this model has no prompt "{name}"', hint=f"its prompts: {known}")
    return config.prompts[name] + text


def encode(
    model: Model, sequences: Sequence[Sequence[int]], options: Options, pulse: Pulse
) -> Array:
    """Encode sequences of token ids.  # -> [sequences, dimension]"""
    pooled = np.empty((len(sequences), model.config.hidden), np.float32)
    for members in micro_batches([len(ids) for ids in sequences]):
        batch = encoder.join([sequences[i] for i in members])
        pooled[members] = model.operators.to_host(encoder.encode(model, batch, pulse))
    return finish(model, pooled, options, model.config.normalized)


def encode_tokens(model: Model, ids: Sequence[int], options: Options, pulse: Pulse) -> Array:
    """Compute the state of each token, before pooling.  # -> [tokens, dimension]"""
    states = encoder.token_states(model, encoder.join([ids]), pulse)
    return finish(model, model.operators.to_host(states), options, False)


def finish(model: Model, vectors: Array, options: Options, normalized: bool) -> Array:
    """Cut to the dimensions asked for (Kusupati et al. 2022), then scale to length 1.

    normalized: what the model does when the options leave it open.
    """
    vectors = vectors[:, : options.dimensions]
    if options.normalized is not None:
        normalized = options.normalized
    return model.operators.normalize(vectors) if normalized else vectors


def micro_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group sequences of like length, at most BATCH_TOKENS together; yield their indices."""
    members: list[int] = []
    tokens = 0
    for i in np.argsort(lengths, kind="stable").tolist():
        if members and tokens + lengths[i] > BATCH_TOKENS:
            yield members
            members, tokens = [], 0
        members.append(i)
        tokens += lengths[i]
    if members:
        yield members
