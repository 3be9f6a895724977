"""Choose who computes: this backend, or the serving process, by the owner's setting `executor`.

    backend  this backend, always (the default)
    auto     the process where that is faster; this backend where it is not, and when there is no
             process, when it fails, or when it does not see the version, which is not committed yet
    serve    the process; whatever stands against it is an error

Privilege and names are settled before, by this backend, in the statement's snapshot.
"""

from collections.abc import Callable, Sequence

from pageformer.errors import ServerUnready
from pageformer.udfs import versions
from pageformer.udfs.encoding import Encoder
from pageformer.udfs.versions import Resolved


def encoder(
    resolved: Resolved, local: Callable[[], Encoder], tasks: Sequence[bytes] = ()
) -> Encoder:
    """Return what turns token ids into vectors, as the owner's setting says.

    local: makes what computes in this backend. tasks: hashes of each sequence's, if any has one.
    Raises ServerUnready when the setting is unknown.
    """
    setting = versions.settings(resolved).get("executor", "backend")
    if setting == "backend":
        return local()
    if setting not in ("auto", "serve"):
        raise ServerUnready(f"executor {setting!r} is not one of backend, auto, serve")
    from pageformer.udfs.executors.served import ServedEncoder  # sockets, which most do without

    return ServedEncoder(resolved, local, tasks, required=setting == "serve")
