"""What a caller decides about waiting: how long an outage is waited out."""

from __future__ import annotations

from typing import Any

import attrs

from altcraft_async.errors import ConfigurationError

__all__ = ["OutagePolicy"]


def _patience(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    del instance
    if value is None or (not isinstance(value, bool) and isinstance(value, int | float) and value > 0):
        return
    msg = f"outage {attribute.name} must be a number of seconds above zero, or None for no end, not {value!r}"
    raise ConfigurationError(msg, field=attribute.name)


@attrs.frozen(kw_only=True)
class OutagePolicy:
    """How long an outage, in which the server serves nobody, is waited out, in seconds.

    `patience` is for bulk runs, `call_patience` for single calls, `first_patience` for
    both where the server has never served a call: that is rather a wrong address.
    None waits without end. With `fail_fast` single calls wait for no outage at all,
    except that one of them is the probe whenever one is due.
    """

    patience: float | None = attrs.field(default=1800.0, validator=_patience)
    call_patience: float | None = attrs.field(default=60.0, validator=_patience)
    first_patience: float | None = attrs.field(default=5.0, validator=_patience)
    fail_fast: bool = False
