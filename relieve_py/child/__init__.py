"""All that runs in a child. It imports none of attrs, pluggy, asyncio and dill unless the user's code needs them."""
