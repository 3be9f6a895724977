"""Make a family of real variants: fine-tunes of all-MiniLM-L6-v2 on Debian's package descriptions.

Run by `bench.variants` with the interpreter of build/bench, the only one that has PyTorch:
`python train_variants.py MODEL FOLDER`. A variant that is there already is left as it is. Tasks are
cut from `apt-cache dumpavail`: which section a package is in, which role it plays, which language
it is written in, told from its one-line description.
"""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer

TEST_TEXTS = 2000
BATCH = 32
LENGTH = 48  # tokens
NINE = ("net", "utils", "science", "games", "sound", "graphics", "admin", "text", "web")
LIBRARIES = ("python", "perl", "haskell", "golang", "rust", "javascript", "java", "ruby", "gnu-r")
ROLES = ("program", "shared-lib", "devel-lib", "documentation", "app-data", "plugin")
LANGUAGES = ("c", "c++", "perl", "python")
TASKS = {
    "sections": ("section", NINE),
    "libraries": ("section", LIBRARIES),
    "roles": ("role", ROLES),
    "languages": ("implemented-in", LANGUAGES),
}
Package = dict[str, str]


@dataclass(frozen=True)
class Variant:
    """Describe one fine-tune: its task, what of the model may change, and for how long."""

    task: str  # 'pairs': continued training, without a head
    trains: str  # 'all', 'head', or how many of the last layers
    steps: int = 400
    rate: float = 1e-4
    decay: float = 0.01
    seed: int = 0


VARIANTS = {
    "sections-all": Variant("sections", "all"),
    "roles-all": Variant("roles", "all", seed=1),
    "sections-last-2": Variant("sections", "2", seed=2),
    "libraries-head": Variant("libraries", "head", rate=1e-2, seed=3),
    "continued": Variant("pairs", "all", steps=200, rate=5e-5, seed=4),
    "languages-all": Variant("languages", "all", seed=5, decay=0.0),
    "roles-last-1": Variant("roles", "1", seed=6),
    "sections-head": Variant("sections", "head", rate=1e-2, seed=7),
    "sections-again": Variant("sections", "all", steps=250, rate=5e-5, seed=8),
}


def packages() -> list[Package]:
    """Read what apt knows: the name, section, tags and description of every package."""
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True)
    found = {}
    for stanza in text.stdout.split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*(?:\n .*)*)", stanza, re.MULTILINE))
        if "Description" in fields:
            first = fields["Description"].split("\n")[0]
            package = {"name": fields["Package"], "text": first, "section": fields["Section"]}
            for facet, value in re.findall(r"([\w-]+)::([\w+-]+)", fields.get("Tag", "")):
                package.setdefault(facet, value)
            found[first] = package
    return sorted(found.values(), key=lambda package: package["name"])


def examples(task: str, everything: list[Package]) -> list[tuple[str, str]]:
    """Return (description, label) of a task, shuffled; the same every time."""
    facet, labels = TASKS[task]
    chosen = [(p["text"], p[facet]) for p in everything if p.get(facet) in labels]
    random.Random(0).shuffle(chosen)
    return chosen


def pairs(everything: list[Package]) -> list[tuple[str, str]]:
    """Return (name as words, description) of packages, shuffled; the same every time."""
    chosen = [(re.sub(r"[-.]", " ", p["name"]), p["text"]) for p in everything]
    random.Random(0).shuffle(chosen)
    return chosen


def batches(data: Sequence[tuple[str, str]], steps: int, seed: int) -> Iterator[Sequence]:
    """Yield as many random batches as there are steps."""
    choose = random.Random(seed)
    for _ in range(steps):
        yield list(zip(*choose.sample(data, BATCH), strict=True))


class Classifier(torch.nn.Module):
    """Put a linear head on the mean of the token states."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, max(len(labels), 1))
        self.labels = labels

    def pool(self, texts: Sequence[str]) -> torch.Tensor:
        """Average the token states of each text.  # [texts, hidden]"""
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        states = self.encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return (states * mask).sum(1) / mask.sum(1)

    def loss(self, first: Sequence[str], second: Sequence[str]) -> torch.Tensor:
        """Compute the loss of labelled texts, or of pairs against the others of their batch."""
        if self.labels:
            target = torch.tensor([self.labels.index(label) for label in second])
            return cross_entropy(self.head(self.pool(first)), target)
        scores = normalize(self.pool(first)) @ normalize(self.pool(second)).T
        return cross_entropy(scores * 20, torch.arange(len(first)))

    def free(self, trains: str) -> list[torch.nn.Parameter]:
        """Return the parameters that training changes."""
        if trains == "all":
            return [p for n, p in self.encoder.named_parameters() if "pooler" not in n] + list(
                self.head.parameters()
            )
        layers = self.encoder.encoder.layer[-int(trains) :] if trains != "head" else []
        self.encoder.requires_grad_(False)
        chosen = [p for layer in layers for p in layer.parameters()]
        for parameter in chosen:
            parameter.requires_grad_(True)
        return [*chosen, *self.head.parameters()]


def train(model: Classifier, variant: Variant, data: Sequence[tuple[str, str]]) -> None:
    """Train with AdamW, a short warm-up and a linear decay."""
    torch.manual_seed(variant.seed)
    optimizer = torch.optim.AdamW(
        model.free(variant.trains), lr=variant.rate, weight_decay=variant.decay
    )
    warm = max(variant.steps // 20, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 1 - step / variant.steps)
    )
    model.train()
    for step, (first, second) in enumerate(batches(data, variant.steps, variant.seed)):
        loss = model.loss(first, second)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"  step {step}: loss {loss.item():.3f}", flush=True)


def save(model: Classifier, base: Path, folder: Path) -> None:
    """Write a model directory: the base's files, the new weights and the head."""
    folder = Path(shutil.copytree(base, folder))
    before = load_file(base / "model.safetensors")
    after = model.encoder.state_dict()
    tensors = {name: after.get(name, tensor).contiguous() for name, tensor in before.items()}
    if model.labels:
        tensors["classifier.weight"] = model.head.weight.data
        tensors["classifier.bias"] = model.head.bias.data
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    config["id2label"] = dict(enumerate(model.labels))
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def write_texts(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write (text, label) as tab-separated lines."""
    path.write_text("".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")


def make(name: str, variant: Variant, base: Path, folder: Path, everything: list[Package]) -> None:
    """Train one variant and write it with its test texts; complete or not at all."""
    print(name, flush=True)
    torch.manual_seed(variant.seed)
    labelled = variant.task in TASKS
    data = examples(variant.task, everything) if labelled else pairs(everything)
    model = Classifier(base, TASKS[variant.task][1] if labelled else ())
    train(model, variant, data[TEST_TEXTS:])
    save(model, base, folder / "partial")
    test = data[:TEST_TEXTS] if labelled else [(text, "") for _, text in data[:TEST_TEXTS]]
    if labelled:
        write_texts(folder / "partial" / "test.tsv", test)
    else:
        lines = "".join(f"{text}\n" for text, _ in test)
        (folder / "partial" / "test.tsv").write_text(lines, encoding="utf-8")
    (folder / "partial").rename(folder / name)


def main(base: Path, folder: Path) -> None:
    """Make every variant that is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "partial", ignore_errors=True)
    everything = packages()
    for name, variant in VARIANTS.items():
        if not (folder / name).exists():
            make(name, variant, base, folder, everything)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
