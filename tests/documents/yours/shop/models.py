"""The reader's model of Django."""

from django.db import models


class LineStatus(models.Model):
    order_external_id = models.TextField()
    order_line_external_id = models.TextField()
    status_external_id = models.TextField()
    sent = models.BooleanField(default=False)

    def __str__(self) -> str:
        return str(self.pk)
