"""A Django management command, ``python manage.py send_statuses``: sends what has changed, and notes what was sent."""

from django.core.management.base import BaseCommand
from shop.models import LineStatus  # has order_external_id, order_line_external_id, status_external_id and sent

from altcraft_async.blocking import AltcraftClient


class Command(BaseCommand):
    help = "Send the statuses of order lines that have changed."

    def handle(self, **options) -> None:
        changed = LineStatus.objects.filter(sent=False).order_by("pk")
        with AltcraftClient.from_env() as altcraft:
            for outcome in altcraft.market.orders.stream_order_line_statuses(changed):
                if outcome.ok and outcome.row is not None:
                    LineStatus.objects.filter(pk=outcome.row.pk).update(sent=True)
                else:
                    self.stderr.write(f"row {outcome.index + 1}: {outcome.state}: {outcome.error}")
