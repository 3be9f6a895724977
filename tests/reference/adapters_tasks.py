"""Make tasks with `adapters` and record what it computes with them; run by `record_tasks.py`."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapters
import tiny_models
import torch
from adapters import (
    AutoAdapterModel,
    BnConfig,
    DoRAConfig,
    DoubleSeqBnConfig,
    IA3Config,
    LoRAConfig,
    ParBnConfig,
    SeqBnConfig,
)
from safetensors.torch import save_file
from task_outputs import folder_of, randomise, write_outputs
from transformers import AutoModelForSequenceClassification

NAME = "legal"
PICKLED = {
    "pytorch_adapter.bin": "adapter.safetensors",
    "pytorch_model_head.bin": "model_head.safetensors",
}
AddHead = Callable[[Any], None] | None


@dataclass(frozen=True)
class Case:
    """Describe one task: its base, its config, its head; static: in a class of transformers."""

    base: str
    config: Any
    head: AddHead = None
    static: bool = False


def labels(layers: int, count: int = 3, **settings: Any) -> AddHead:
    """Add a head that classifies texts."""
    return lambda model: model.add_classification_head(
        NAME, num_labels=count, layers=layers, **settings
    )


def tags(model: Any) -> None:
    """Add a head that classifies tokens."""
    model.add_tagging_head(NAME, num_labels=4, id2label=dict(enumerate("ABCD")))


def placed(**settings: Any) -> BnConfig:
    """Make a bottleneck of odd settings."""
    plain = {"mh_adapter": True, "output_adapter": True, "reduction_factor": 7}
    return BnConfig(**{**plain, "non_linearity": "gelu", **settings})


BERT = "bert-sequence"
CASES: dict[str, Case] = {
    "houlsby": Case(BERT, DoubleSeqBnConfig(), labels(2)),
    "pfeiffer": Case(BERT, SeqBnConfig(reduction_factor={"0": 4, "default": 9.5}), labels(1)),
    "parallel": Case(BERT, ParBnConfig(), labels(2, multilabel=True, use_pooler=True)),
    "parallel-both": Case(BERT, ParBnConfig(mh_adapter=True, scaling="learned", ln_after=True)),
    "channel": Case(BERT, SeqBnConfig(scaling="channel", leave_out=[0], non_linearity="tanh")),
    "regression": Case(BERT, DoubleSeqBnConfig(non_linearity="gelu_new"), labels(2, 1)),
    "tagging": Case(BERT, SeqBnConfig(), tags),
    "norms": Case(BERT, placed(ln_before=True, ln_after=True)),
    "norms-inside": Case(
        BERT, placed(ln_after=True, adapter_residual_before_ln=True, original_ln_before=True)
    ),
    "post-add": Case(BERT, placed(original_ln_before=True, residual_before_ln="post_add")),
    "no-closing": Case(
        BERT, placed(original_ln_before=True, original_ln_after=False, residual_before_ln=False)
    ),
    "lora": Case(
        BERT,
        LoRAConfig(
            intermediate_lora=True, output_lora=True, r=3, alpha=5, attn_matrices=["q", "k"]
        ),
        labels(1),
    ),
    "dora": Case(BERT, DoRAConfig(r=2, alpha=5), labels(1)),
    "ia3": Case(BERT, IA3Config(), labels(2)),
    "static": Case(BERT, SeqBnConfig(), static=True),
    "roberta-houlsby": Case("roberta-sequence", DoubleSeqBnConfig(), labels(2)),
    "roberta-parallel": Case("roberta-sequence", ParBnConfig(), labels(1)),
    "roberta-ia3": Case("roberta-sequence", IA3Config(output_lora=True), labels(2)),
    "distilbert-pfeiffer": Case("distilbert-sequence", SeqBnConfig(), labels(2)),
    "electra-houlsby": Case("electra-sequence", DoubleSeqBnConfig(), labels(2)),
    "xlm-roberta-lora": Case("xlm-roberta-sequence", LoRAConfig(), labels(2)),
    "albert-houlsby": Case("albert-sequence", DoubleSeqBnConfig(), labels(2)),
    "deberta-pfeiffer": Case("deberta-v2-sequence", SeqBnConfig(), labels(2)),
}  # fmt: skip


def main() -> None:
    """Record every case."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, case) in enumerate(CASES.items()):
            directory = Path(folder) / case.base
            if not directory.exists():
                tiny_models.write(case.base, Path(folder))
            record(name, case, directory, number)


def record(name: str, case: Case, directory: Path, seed: int) -> None:
    """Save a random task and write what the reloaded one computes."""
    folder = folder_of("adapters", case.base, name)
    model = opened(case, directory)
    model.add_adapter(NAME, config=case.config)
    if case.head:
        case.head(model)
    model.train_adapter(NAME)
    randomise(model, seed)
    model.name_or_path = case.base
    model.save_adapter(
        str(folder), NAME, with_head=bool(case.head or case.static), use_safetensors=False
    )
    again = opened(case, directory)
    again.load_adapter(str(folder), set_active=True)
    write_outputs(folder, again.eval(), directory)
    convert(folder)


def opened(case: Case, directory: Path) -> Any:
    """Open the base, as a class of the library or as one of transformers."""
    if not case.static:
        return AutoAdapterModel.from_pretrained(str(directory)).eval()
    model = AutoModelForSequenceClassification.from_pretrained(str(directory)).eval()
    adapters.init(model)
    return model


def convert(folder: Path) -> None:
    """Make safetensors of pickled files: the library cannot write all of its adapters so."""
    for pickled, safe in PICKLED.items():
        if (folder / pickled).exists():
            tensors = torch.load(folder / pickled, weights_only=True)
            held = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
            save_file(held, folder / safe)
            (folder / pickled).unlink()


if __name__ == "__main__":
    main()
