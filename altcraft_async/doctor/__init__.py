"""The doctor: checks of settings, network, token and clock, told in plain words.

.. code-block:: python

    import asyncio

    from altcraft_async.doctor import diagnose


    async def main() -> None:
        async for finding in diagnose():
            print(finding.level, finding.check, finding.said, finding.remedy or "")


    asyncio.run(main())

`diagnose` makes the checks in order and yields the finding of each. Every check is bounded in time, none raises for a
failure that it finds, and all calls only read. The token is never part of a finding.
"""

from __future__ import annotations

from altcraft_async.doctor.diagnosis import diagnose
from altcraft_async.doctor.finding import Check, Finding, Level

__all__ = ["Check", "Finding", "Level", "diagnose"]
