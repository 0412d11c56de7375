"""The shared metrics: named for the house, explained, and with labels that cannot grow without end."""

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from shared.runtime import metrics

METRICS = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
# What grows with clients and messages is never a label.
UNBOUNDED = {"client", "client_id", "message_id", "msisdn", "carrier_reference", "api_key", "path", "subject"}


def test_every_metric_says_whose_it_is_and_what_it_tells() -> None:
    assert METRICS
    for metric in METRICS:
        assert metric._name.startswith("tollwire_")
        assert metric._documentation
        assert isinstance(metric, Counter | Gauge | Histogram)


def test_no_label_grows_with_the_traffic() -> None:
    assert {label for metric in METRICS for label in metric._labelnames} & UNBOUNDED == set()


def test_durations_are_in_seconds_and_their_buckets_rise() -> None:
    for metric in METRICS:
        if isinstance(metric, Histogram):
            assert metric._name.endswith(("_seconds", "_size"))
            assert list(metric._kwargs["buckets"]) == sorted(set(metric._kwargs["buckets"]))
