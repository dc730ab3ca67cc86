"""How long an outage is waited out."""

from __future__ import annotations

import attrs

from altcraft_async.kinds import FLAG, SECONDS

__all__ = ["OutagePolicy"]


@attrs.frozen(kw_only=True)
class OutagePolicy:
    """How long an outage, in which the server serves nobody, is waited out; times in seconds.

    `patience` is for bulk calls, with None it has no end; `call_patience` is for
    single calls. `first_patience` is for a server that has never answered: that is
    rather a wrong address. With `fail_fast` calls that meet an outage fail at once.
    """

    patience: float | None = attrs.field(default=1800.0, validator=SECONDS.or_none())
    call_patience: float = attrs.field(default=60.0, validator=SECONDS)
    first_patience: float = attrs.field(default=5.0, validator=SECONDS)
    fail_fast: bool = attrs.field(default=False, validator=FLAG)
