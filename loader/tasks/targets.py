"""Which modules a PEFT config targets, so that one that its file lacks is noticed."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pageformer.loader.tasks.modules import Modules
from pageformer.loader.tasks.saved import Settings

ALL_LINEAR = "all-linear"
LAYER = re.compile(r".*?\.[^.]*\.(\d+)\.")


def expected(settings: Settings, modules: Modules, prefix: str, kind: str) -> Iterator[str]:
    """Name the encoder's modules that must have been adapted, without prefix.

    kind: of sites that 'all-linear' or a suffix may mean here.
    """
    for module, sites in modules.sites.items():
        is_head = any(site.name.startswith("head.") for site in sites)
        if not is_head and is_target(settings, prefix + module, sites[0].kind == kind):
            yield module


def is_target(settings: Settings, module: str, of_kind: bool) -> bool:
    """Tell whether `target_modules` and its companions choose a module, by its whole name."""
    values = settings.values
    targets = values.get("target_modules")
    if targets is None or _named(values.get("exclude_modules"), module):
        return False
    if any(re.match(rf"(^|.*\.){m}($|\..*)", module) for m in values.get("modules_to_save") or ()):
        return False
    if isinstance(targets, str) and targets.lower() == ALL_LINEAR:
        return of_kind
    if isinstance(targets, str) or module in targets:
        return _named(targets, module)
    return _named(targets, module) and _in_layers(settings, module)


def _named(names: str | Sequence[str] | None, module: str) -> bool:
    """Tell whether a regular expression, or one of some endings, is a module's."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names or ())


def _in_layers(settings: Settings, module: str) -> bool:
    layers: Any = settings.values.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = settings.values.get("layers_pattern") or ()
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    tried = [re.match(rf"(?:^|.*?\.){p}\.(\d+)\.", module) for p in patterns]
    found = next((match for match in tried or [LAYER.match(module)] if match), None)
    return found is not None and int(found[1]) in (layers if isinstance(layers, list) else [layers])


def by_pattern(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first pattern that ends a module's name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
