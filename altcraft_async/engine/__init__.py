"""How it is sent: the asyncio shell over the pure laws."""
