"""Make tasks with PEFT and record what it computes with them; run by `record_tasks.py`."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny_models
import torch
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from task_outputs import folder_of, randomise, write_outputs
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

CLASSES = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
    "FEATURE_EXTRACTION": AutoModel,
}
QV = ["query", "value"]


@dataclass(frozen=True)
class Case:
    """Describe one task: its base, its config, and how the base is opened."""

    base: str
    config: Any
    model: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype | None = None


def lora(**settings: Any) -> LoraConfig:
    """Make a LoRA config for classification."""
    return LoraConfig(**{"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 6, **settings})


CASES: dict[str, Case] = {
    "lora": Case("bert-sequence", lora(target_modules=QV)),
    "lora-bias-all": Case("bert-sequence", lora(target_modules=QV, bias="all")),
    "lora-dora": Case(
        "bert-sequence",
        lora(
            target_modules=["query", "dense"],
            bias="lora_only",
            use_dora=True,
            modules_to_save=["pooler"],
        ),
    ),
    "lora-patterns": Case(
        "bert-sequence",
        lora(
            target_modules=["query", "key", "output.dense"],
            use_rslora=True,
            rank_pattern={"0.attention.self.query": 2, "key": 7},
            alpha_pattern={r"layer.1.*.key": 3},
        ),
    ),
    "lora-regex": Case("bert-sequence", lora(target_modules=r".*1\.(.*query|intermediate\.dense)")),
    "lora-layers": Case(
        "bert-sequence",
        lora(
            target_modules=["query", "dense"],
            layers_to_transform=[1],
            exclude_modules=["intermediate.dense"],
        ),
    ),
    "lora-bf16": Case("bert-sequence", lora(target_modules=QV), dtype=torch.bfloat16),
    "lora-f16": Case("bert-sequence", lora(target_modules=QV, lora_alpha=7), dtype=torch.float16),
    "lora-whole": Case(
        "bert-sequence",
        lora(target_modules=["key"], modules_to_save=["LayerNorm", "intermediate.dense"]),
    ),
    "lora-dense": Case("bert-sequence", lora(target_modules=["query", "dense"], use_dora=True)),
    "lora-tables": Case(
        "bert-sequence",
        lora(
            target_modules=["value"],
            modules_to_save=["word_embeddings", "token_type_embeddings", "key"],
        ),
    ),
    "ia3-dense": Case(
        "bert-sequence",
        IA3Config(
            task_type="SEQ_CLS", target_modules=["query", "dense"], feedforward_modules=["dense"]
        ),
    ),
    "lora-regression": Case(
        "bert-sequence",
        lora(target_modules=QV),
        {"num_labels": 1, "ignore_mismatched_sizes": True},
    ),
    "lora-pooler-of-base": Case("bert-words", lora(target_modules=QV), {"num_labels": 4}),
    "lora-tokens": Case("bert-tokens", lora(task_type="TOKEN_CLS", target_modules=["dense"])),
    "lora-embeddings": Case(
        "bert-mean",
        lora(task_type="FEATURE_EXTRACTION", target_modules=["word_embeddings", "query"]),
    ),
    "ia3": Case(
        "bert-sequence",
        IA3Config(
            task_type="SEQ_CLS",
            target_modules=["key", "value", "output.dense"],
            feedforward_modules=["output.dense"],
        ),
    ),
    "ln": Case(
        "bert-sequence", LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"])
    ),
    "prefix": Case(
        "bert-sequence", PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5)
    ),
    "prefix-projected": Case(
        "bert-mean",
        PrefixTuningConfig(
            task_type="FEATURE_EXTRACTION",
            num_virtual_tokens=3,
            prefix_projection=True,
            encoder_hidden_size=20,
        ),
    ),
    "prompt": Case(
        "bert-sequence", PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5)
    ),
    "prompt-features": Case(
        "bert-mean", PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=4)
    ),
    "roberta-lora": Case("roberta-sequence", lora(target_modules="all-linear", lora_bias=True)),
    "roberta-dora": Case(
        "roberta-sequence",
        lora(target_modules="all-linear", use_dora=True, use_rslora=True, bias="all"),
    ),
    "roberta-tokens": Case(
        "roberta-tokens", lora(task_type="TOKEN_CLS", target_modules=["query", "key", "value"])
    ),
    "roberta-ln": Case(
        "roberta-sequence", LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"])
    ),
    "roberta-features": Case(
        "roberta-mean", lora(task_type=None, target_modules="all-linear", lora_alpha=8)
    ),
    "distilbert-ia3": Case(
        "distilbert-sequence",
        IA3Config(
            task_type="SEQ_CLS",
            target_modules=["k_lin", "v_lin", "lin2"],
            feedforward_modules=["lin2"],
            modules_to_save=["pre_classifier"],
        ),
    ),
    "roberta-ia3": Case(
        "roberta-sequence",
        IA3Config(
            task_type="SEQ_CLS",
            target_modules=["key", "value", "intermediate.dense"],
            feedforward_modules=[],
        ),
    ),
    "roberta-prefix": Case(
        "roberta-mean", PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=5)
    ),
    "roberta-prompt": Case(
        "roberta-sequence", PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5)
    ),
    "distilbert-lora": Case(
        "distilbert-sequence",
        lora(target_modules=["q_lin", "lin2"], modules_to_save=["pre_classifier", "classifier"]),
    ),
    "mpnet-lora": Case("mpnet-sequence", lora(target_modules=["q", "v", "dense"])),
    "electra-lora": Case(
        "electra-sequence", lora(target_modules=["query", "embeddings_project"])
    ),
    "xlm-roberta-lora": Case("xlm-roberta-sequence", lora(target_modules=QV, use_rslora=True)),
    "albert-lora": Case("albert-sequence", lora(target_modules=["query", "ffn"])),
    "modernbert-lora": Case(
        "modernbert-sequence", lora(target_modules=["Wqkv", "Wo", "Wi"], use_dora=True)
    ),
    "deberta-lora": Case("deberta-v2-sequence", lora(target_modules=["query_proj", "value_proj"])),
}  # fmt: skip


def main() -> None:
    """Record every case."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, case) in enumerate(CASES.items()):
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            directory = Path(folder) / case.base
            if not directory.exists():
                tiny_models.write(case.base, Path(folder))
            record(name, case, directory, number)


def record(name: str, case: Case, directory: Path, seed: int) -> None:
    """Save a random task and write what the reloaded one computes."""
    folder = folder_of("peft", case.base, name)
    case.config.base_model_name_or_path = case.base
    tuned = get_peft_model(opened(case, directory, seed), case.config)
    randomise(tuned, seed)
    if case.dtype:
        tuned = tuned.to(case.dtype)
    tuned.save_pretrained(str(folder))
    again = PeftModel.from_pretrained(opened(case, directory, seed), str(folder)).eval()
    write_outputs(folder, again, directory)


def opened(case: Case, directory: Path, seed: int) -> Any:
    """Open the base, its new layers being drawn the same way every time."""
    torch.manual_seed(1000 + seed)
    cls = CLASSES.get(str(case.config.task_type).rpartition(".")[2], AutoModel)
    options = {"dtype": torch.float32, **case.model}
    return cls.from_pretrained(str(directory), **options).eval()


if __name__ == "__main__":
    main()
