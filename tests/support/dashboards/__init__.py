"""The six Grafana dashboards of the chart, in a few words: ``python -m tests.support.dashboards``.

It writes charts/tollwire/dashboards/*.json anew; a test keeps them as they are written here. A change that
was made in Grafana goes into these files, or it is gone with the next change.
"""
