"""A Celery task that sends one status: ``send_status.delay("order_1", "line_1", "delivered")``."""

from celery import Celery

from altcraft_async import NotSentError, RateLimitError, ServerError, TransportError
from altcraft_async.blocking import AltcraftClient

app = Celery("shop")
altcraft = AltcraftClient.from_env()  # opens nothing before its first call, which is in the worker, after its fork
LATER = (NotSentError, RateLimitError, ServerError, TransportError)


@app.task(bind=True, acks_late=True, autoretry_for=LATER, retry_backoff=True, max_retries=10)
def send_status(self, order: str, line: str, status: str) -> str:
    """Send a status; each retry of the task has its id, so the change is made once."""
    orders = altcraft.market.orders
    updated = orders.update_order_line_status(order, line, status, request_id=self.request.id, deadline=30)
    return updated.status_external_id
