"""Imports of the Market: orders, products and SKU, in batches.

Guide: "Import orders", "Import products", "Import SKU".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping
    from typing import Unpack

    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.errors import InvalidUpdateError
    from altcraft_async.market.import_plan import Imports
    from altcraft_async.market.options import ImportOptions
    from altcraft_async.outcome import Batch, Outcome, Report
    from altcraft_async.protocol.values.custom import Category, CustomLineStatus
    from altcraft_async.protocol.values.orders import Order
    from altcraft_async.protocol.values.products import Product, Sku

__all__ = ["OrderImports", "ProductImports", "SkuImports"]

OrderT = TypeVar("OrderT", bound="Order | Mapping[str, object] | InvalidUpdateError")
ProductT = TypeVar("ProductT", bound="Product | Mapping[str, object] | InvalidUpdateError")
SkuT = TypeVar("SkuT", bound="Sku | Mapping[str, object] | InvalidUpdateError")


class OrderImports:
    """Imports of orders."""

    __slots__ = ()

    _dispatcher: Dispatcher

    async def import_orders(
        self,
        orders: Iterable[OrderT] | AsyncIterable[OrderT],
        *,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]] = (),
        skip_triggers: bool = False,
        **options: Unpack[ImportOptions],
    ) -> Report[OrderT]:
        """Import many orders, in batches, and gather the outcome of each.

        `orders` is an iterable or asynchronous iterable of `Order`, or of mappings with the platform's names; it is
        read only as fast as batches are sent. An `Order` was checked when it was made. For a mapping only the id is
        checked, and whether the required fields are there (`Order.from_dict` checks everything). A row that cannot be
        sent, or is too long for a batch, is ``invalid``, and the others go on. `custom_line_statuses` defines statuses
        that lines of this import may have. With `skip_triggers` the import starts no automations. The other keywords
        are those of `ImportOptions`.

        An order is in a batch only once. Two batches with a common order, or a batch and a line update of one of its
        orders, are never under way together, whichever call of this client made them. An order's imports reach the
        server in input order; all else goes side by side. Batches have a concurrency of their own, from two on. Without
        a journal, the rows read so far are sent when a live source yields nothing for a second.

        Returns a `Report` with one outcome for each order, in input order: `Outcome.row` is the row that was given,
        `Outcome.batch` the batch that it went in. If the platform answers per row, that answer is the row's outcome,
        else the answer to its batch is. A batch that is too large for the server (413) is sent in halves, like later
        batches. Errors, journal and cancellation are those of `update_order_line_statuses`. With a journal, a run that
        goes on makes the same batches under the same ``Request-ID``, so `batch_size`, `batch_bytes`, the definitions
        and `skip_triggers` must stay unchanged.

        Guide: "Import orders".
        """
        return (
            await self._importing(custom_line_statuses, options, skip=skip_triggers).run(orders, gathered=True).gather()
        )

    def stream_import_orders(
        self,
        orders: Iterable[OrderT] | AsyncIterable[OrderT],
        *,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]] = (),
        skip_triggers: bool = False,
        **options: Unpack[ImportOptions],
    ) -> AsyncGenerator[Outcome[OrderT], None]:
        """Import many orders, in batches, and yield the outcome of each as it comes.

        Arguments and order are those of `import_orders`; the rest is as for
        `stream_order_line_statuses`. Memory is flat: at most `window_bytes` of rows and outcomes are
        held.
        """
        return self._importing(custom_line_statuses, options, skip=skip_triggers).run(orders, gathered=False).stream()

    def preview_import_orders(
        self,
        orders: Iterable[OrderT],
        *,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]] = (),
        skip_triggers: bool = False,
        **options: Unpack[ImportOptions],
    ) -> Iterator[Batch | Outcome[OrderT]]:
        """Yield the batches that `import_orders` would send, and the outcomes, ``invalid``, of the other rows.

        Sends nothing. With an existing journal it yields only the batches that a run would still send, and also the
        outcomes that the journal has; raises `JournalError` if the run would be refused.
        """
        return self._importing(custom_line_statuses, options, skip=skip_triggers).preview(orders)

    def _importing(
        self,
        custom_line_statuses: Iterable[CustomLineStatus | Mapping[str, object]],
        options: ImportOptions,
        *,
        skip: bool,
    ) -> Imports:
        from altcraft_async.market.import_plan import of_orders  # noqa: PLC0415 - many programs import nothing

        return of_orders(self._dispatcher, custom_line_statuses, options, skip_triggers=skip)


class ProductImports:
    """Imports of products."""

    __slots__ = ()

    _dispatcher: Dispatcher

    async def import_products(
        self,
        products: Iterable[ProductT] | AsyncIterable[ProductT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Report[ProductT]:
        """Import many products, in batches, and gather the outcome of each.

        As `Orders.import_orders`, for `Product` or mappings. `categories` defines categories; they
        go with every batch.

        Guide: "Import products".
        """
        run = self._importing(categories, options).run(products, gathered=True)
        return await run.gather()

    def stream_import_products(
        self,
        products: Iterable[ProductT] | AsyncIterable[ProductT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> AsyncGenerator[Outcome[ProductT], None]:
        """Import many products, in batches, and yield the outcome of each as it comes."""
        run = self._importing(categories, options).run(products, gathered=False)
        return run.stream()

    def preview_import_products(
        self,
        products: Iterable[ProductT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Iterator[Batch | Outcome[ProductT]]:
        """Yield the batches that `import_products` would send, and the outcomes of the other rows; sends nothing."""
        return self._importing(categories, options).preview(products)

    def _importing(self, categories: Iterable[Category | Mapping[str, object]], options: ImportOptions) -> Imports:
        from altcraft_async.market.import_plan import of_products  # noqa: PLC0415 - many programs import nothing

        return of_products(self._dispatcher, categories, options)


class SkuImports:
    """Imports of SKU."""

    __slots__ = ()

    _dispatcher: Dispatcher

    async def import_skus(
        self,
        skus: Iterable[SkuT] | AsyncIterable[SkuT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Report[SkuT]:
        """Import many SKU, in batches, and gather the outcome of each.

        As `Orders.import_orders`, for `Sku` or mappings. `categories` defines categories; they go
        with every batch.

        Guide: "Import SKU".
        """
        run = self._importing(categories, options).run(skus, gathered=True)
        return await run.gather()

    def stream_import_skus(
        self,
        skus: Iterable[SkuT] | AsyncIterable[SkuT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> AsyncGenerator[Outcome[SkuT], None]:
        """Import many SKU, in batches, and yield the outcome of each as it comes."""
        run = self._importing(categories, options).run(skus, gathered=False)
        return run.stream()

    def preview_import_skus(
        self,
        skus: Iterable[SkuT],
        *,
        categories: Iterable[Category | Mapping[str, object]] = (),
        **options: Unpack[ImportOptions],
    ) -> Iterator[Batch | Outcome[SkuT]]:
        """Yield the batches that `import_skus` would send, and the outcomes of the other rows; sends nothing."""
        return self._importing(categories, options).preview(skus)

    def _importing(self, categories: Iterable[Category | Mapping[str, object]], options: ImportOptions) -> Imports:
        from altcraft_async.market.import_plan import of_skus  # noqa: PLC0415 - many programs import nothing

        return of_skus(self._dispatcher, categories, options)
