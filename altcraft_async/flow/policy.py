"""How long an outage is waited out."""

from __future__ import annotations

import attrs

from altcraft_async.kinds import FLAG, SECONDS

__all__ = ["OutagePolicy"]


@attrs.frozen(kw_only=True)
class OutagePolicy:
    """How long an outage, in which the server serves nobody, is waited out; times in seconds.

    `patience` is for bulk runs, `call_patience` for single calls, `first_patience` for both if the server has never
    served a call, nor answered with 425, 429 or 503: that is probably a wrong address. None waits without end. With
    `fail_fast` single calls do not wait for an outage to end; but when a probe is due, one of them is the probe.
    """

    patience: float | None = attrs.field(default=1800.0, validator=SECONDS.or_none())
    call_patience: float | None = attrs.field(default=60.0, validator=SECONDS.or_none())
    first_patience: float | None = attrs.field(default=5.0, validator=SECONDS.or_none())
    fail_fast: bool = attrs.field(default=False, validator=FLAG)
