"""The suite: the same work for this library, its peers and the bare machine, measured side by side in one run."""
