"""What is said to Altcraft and how its answers are read: pure, without I/O, clock or asyncio."""
