"""What no other exporter knows of a Prefect server, for Prometheus.

It reads the database and Redis anew for each scrape, each within a limit. What does not answer is a metric, too
(prefect_exporter_target_up); what cannot be known is left out.

``metrics`` names every metric, ``database``, ``redis`` and ``certificates`` collect them, and ``program`` serves them, by ``serving``.
"""
