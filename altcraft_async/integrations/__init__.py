"""Adapters to other libraries, one library a module, imported only when asked for."""
