"""How a child comes to be: ``forkserver`` (the default), ``spawn`` and ``fork``, behind one small protocol."""
