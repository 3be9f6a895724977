"""What encoding is asked to do: its options, the prompts they choose, and what an encoder is.

Knows neither SQL nor a connection nor an array, so that the compiled path does without NumPy.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from pageformer.errors import InvalidInput, NotBuilt, UnknownName
from pageformer.udfs.block_value import Buffer
from pageformer.udfs.config import Config
from pageformer.udfs.tokenizer import Tokenizer

Pulse = Callable[[], None]  # called while computing; raises when the query was cancelled


class Encoder(Protocol):
    """Turn token ids into vectors, told as pgvector reads them.

    dimensions: keep the first ones only. normalized: scale to length 1; None: as the model does.
    """

    def vectors(
        self,
        sequences: Iterable[Sequence[int]],
        dimensions: int | None,
        normalized: bool | None,
        pulse: Pulse,
        skip: int = 0,
    ) -> list[str]:
        """Compute one vector per sequence, in order; its first `skip` tokens are not pooled."""

    def states(
        self, ids: Sequence[int], dimensions: int | None, normalized: bool | None, pulse: Pulse
    ) -> list[str]:
        """Compute the state of each token, before pooling."""


class Layers(Protocol):
    """Run the layers alone over sequences of rows, float32 as bytes.  # [rows, hidden]"""

    def states(self, rows: Buffer, lengths: list[int], pulse: Pulse) -> bytes:
        """Compute the last state of every row, of sequences of these lengths."""

    def texts(self, rows: Buffer, lengths: list[int], pulse: Pulse) -> list[str]:
        """Compute the same, each row told as the text of a vector."""


class Reader(Protocol):
    """Know of a version what reading texts takes, without its weights."""

    @property
    def config(self) -> Config:
        """Return its config."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Return its tokenizer."""


class LocalEncoder(Encoder, Protocol):
    """Compute in this process."""

    def alone(self) -> "LocalEncoder":
        """Return the same encoder, which computes in the caller's thread and wakes no others."""


class Options(NamedTuple):
    """Hold the options that every encoding function takes, as the user gave them."""

    prompt: str | None = None
    prompt_name: str | None = None
    task: str | None = None
    dimensions: int | None = None
    normalized: bool | None = None
    truncate: str | None = "right"

    def tasks_of(
        self, inputs: Sequence[str | None], tasks: Sequence[str | None] | None = None
    ) -> list[str | None]:
        """Name the task of each input that is there; raise InvalidInput where that is not told."""
        if tasks is None:
            tasks = [self.task] * len(inputs)
        elif self.task is not None:
            raise InvalidInput("task and tasks are both given", hint="give one of them, or neither")
        elif len(tasks) != len(inputs):
            raise InvalidInput(
                f"there are {len(tasks)} tasks for {len(inputs)} inputs",
                hint="name one for each input, or null for none",
            )
        pairs = zip(inputs, tasks, strict=True)
        return [task for text, task in pairs if text is not None]

    def without_task(self) -> "Options":
        """Return these options; raise NotBuilt where they name a task."""
        if self.task is not None:
            raise NotBuilt("this function takes no task", hint="leave out the option task")
        return self

    def check(self, config: Config) -> None:
        """Raise InvalidInput for options that this version cannot follow."""
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

    Raises InvalidInput for options that cannot be followed, and UnknownName for a prompt name that
    the model does not have.
    """
    return prompt_of(config, options) + text


def prompt_of(config: Config, options: Options) -> str:
    """Check the options and return the prompt that they choose, as `prompted` does."""
    options.check(config)
    if options.prompt is not None:
        return options.prompt
    name = options.prompt_name or config.default_prompt_name
    if name is None:
        return ""
    if name not in config.prompts:
        known = ", ".join(sorted(config.prompts)) or "none"
        raise UnknownName(f'this model has no prompt "{name}"', hint=f"its prompts: {known}")
    return config.prompts[name]


def not_pooled(version: Reader, options: Options) -> int:
    """Count the tokens of a prompt that the model wants left out of pooling."""
    if version.config.include_prompt:
        return 0
    prompt = prompt_of(version.config, options)
    return version.tokenizer.prompt_length(prompt) if prompt else 0
