"""Programs that measure this library; ``python -m benchmarks`` runs it beside its peers."""
